"""Points in even steps along a curve: its ends, a curve that rests, one in pieces, refusals."""

import pytest
import torch

from mopref.objectives.even_points import even_along, even_spread


def test_even_steps_hold_both_ends():
    spread = even_spread(1.0, 3.0, 5)
    assert spread.dtype == torch.float64
    assert spread.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert even_spread(3.0, 1.0, 2).tolist() == [3.0, 1.0]


def test_steps_are_even_on_the_curve_whatever_its_speed():
    """(t⁴, 1 − t⁴) is a straight line: the t of its quarters are their fourth roots."""
    t = even_along(lambda t: torch.stack([t**4, 1 - t**4], dim=-1), [(0.0, 1.0)], 5)
    assert t.tolist() == pytest.approx([0, 0.25**0.25, 0.5**0.25, 0.75**0.25, 1], abs=1e-3)


def test_what_lies_between_two_pieces_has_no_length():
    """Two pieces of length 1, at 0 to 1 and at 9 to 10: three of five points on the first and two on the second."""
    t = even_along(lambda t: torch.stack([t, -t], dim=-1), [(0.0, 1.0), (9.0, 10.0)], 5)
    assert t[[0, 1, 3, 4]].tolist() == pytest.approx([0.0, 0.5, 9.5, 10.0], abs=1e-6)
    assert min(abs(t[2].item() - 1), abs(t[2].item() - 9)) < 1e-6


def test_a_curve_that_rests_at_its_start_is_spread_all_the_same():
    def values(t):
        return torch.stack([(t - 0.5).relu(), -(t - 0.5).relu()], dim=-1)

    assert even_along(values, [(0.0, 1.0)], 3)[1:].tolist() == pytest.approx([0.75, 1.0], abs=1e-3)
    assert values(even_along(values, [(0.0, 1.0)], 3))[0].tolist() == [0, 0]


def test_too_few_points_are_refused():
    for spread in (lambda: even_spread(0.0, 1.0, 1), lambda: even_along(lambda t: t[:, None], [(0.0, 1.0)], 1)):
        with pytest.raises(ValueError, match="1 points cannot hold both ends of the front: ask for at least 2"):
            spread()
