"""The scalarizer's frame: shapes, the hooks' defaults, and what a scalarizer of one's own inherits."""

import pytest
import torch
from _tensors import tensor

from mopref.indicators import scalarizer_cross_angle
from mopref.scalarizer import IdealPointScalarizer, Scalarizer


class Sum(Scalarizer):
    """A formula of one's own without a point."""

    def __init__(self, power=1.0):
        self.power = power

    def scalarize(self, losses, preferences):
        return (preferences * losses**self.power).sum(dim=-1)


class Shortfall(IdealPointScalarizer):
    """The largest shortfall over its weight; aims along λ."""

    def scalarize(self, losses, preferences):
        return (self.above_ideal(losses) / preferences).amax(dim=-1)

    def target_direction(self, preferences):
        return preferences


class FromTheMiddle(Scalarizer):
    """Measures from a point of its own choice."""

    def __init__(self, middle):
        self.middle = torch.as_tensor(middle, dtype=torch.float64)

    @classmethod
    def between(cls, ideal, nadir, **options):
        return cls((torch.as_tensor(ideal) + torch.as_tensor(nadir)) / 2, **options)

    @property
    def origin(self):
        return self.middle

    def scalarize(self, losses, preferences):
        return (preferences * (losses - self.middle.to(losses))).sum(dim=-1)

    def target_direction(self, preferences):
        return preferences


def test_a_scalarizer_needs_no_more_than_its_formula():
    g = Sum.between([0.0, 0.0], [1.0, 1.0], power=2.0)
    assert g(tensor([3.0, 1.0]), tensor([0.5, 0.5])).item() == 5.0
    assert g.origin is None
    assert g.target_direction(tensor([0.5, 0.5])) is None
    assert g.backward_direction(tensor([0.5, 0.5])) is None
    assert g.convention == "importance"
    assert Sum.conventions == ("importance",)
    g.observe(tensor([[3.0, 1.0]]))
    assert g.state_dict() == {}
    g.load_state_dict({})


def test_one_with_an_ideal_point_inherits_all_of_it():
    g = Shortfall.between([1.0, 2.0], [3.0, 3.0], margin=0.5)
    assert g.origin.tolist() == g.ideal_point.tolist() == [1.0, 2.0]
    assert (g.tracked, g.margin) == (False, 0.5)
    assert g(tensor([2.0, 4.0]), tensor([0.5, 0.5])).item() == 4.0
    tracked = Shortfall()
    assert (tracked.tracked, tracked.margin, tracked.origin) == (True, 0.01, None)
    with pytest.raises(ValueError, match=r"Shortfall has no ideal point: give ideal=\[…\], or call observe"):
        tracked(tensor([2.0, 4.0]), tensor([0.5, 0.5]))


def test_a_point_of_ones_own_choice_is_where_angles_are_seen_from():
    """From (2, 3) the value (3, 4) lies along (1, 1)."""
    g = FromTheMiddle.between([1.0, 2.0], [3.0, 4.0])
    assert g.origin.tolist() == [2.0, 3.0]
    assert scalarizer_cross_angle([[3.0, 4.0]], [[0.5, 0.5]], g) == pytest.approx(0.0, abs=1e-6)
    assert scalarizer_cross_angle([[1.0, 2.0]], [[0.5, 0.5]], g) == pytest.approx(0.0, abs=1e-6), "backwards"
    assert scalarizer_cross_angle([[3.0, 3.0]], [[0.5, 0.5]], g) == pytest.approx(45.0)


@pytest.mark.parametrize(("losses", "preferences"), [((2, 3), (2, 2)), ((), (2,)), ((2,), ())])
def test_shapes_that_do_not_match_raise(losses, preferences):
    with pytest.raises(ValueError, match="the last dimension of both is the number of objectives"):
        Sum()(torch.ones(losses), torch.ones(preferences))
