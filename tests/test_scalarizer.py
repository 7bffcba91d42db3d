"""The scalarizer's frame: shapes, the hooks' defaults, and what a scalarizer of one's own inherits."""

from itertools import chain, product

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


def lead_shape(losses, preferences):
    """What torch makes of the shapes before the last; ``None`` where there are no objectives, or no broadcast."""
    if not losses or not preferences or losses[-1] != preferences[-1] or losses[-1] == 0:
        return None
    try:
        return torch.broadcast_shapes(losses[:-1], preferences[:-1])
    except RuntimeError:
        return None


def test_shapes_match_where_torch_broadcasts_them():
    """Pairs of shapes of up to three dimensions; 300 is a number that Python makes anew each time."""
    small = chain.from_iterable(product((0, 1, 2, 3), repeat=rank) for rank in range(3))
    shapes = [*small, *product((1, 2, 3), (1, 2), (2,)), (300,), (2, 300)]
    for losses, preferences in product(shapes, repeat=2):
        expected = lead_shape(losses, preferences)
        if expected is None:
            with pytest.raises(ValueError, match="the last dimension of both is the number of objectives"):
                Sum()(torch.ones(losses), torch.ones(preferences))
        else:
            assert Sum()(torch.ones(losses), torch.ones(preferences)).shape == expected, (losses, preferences)


def test_what_is_no_tensor_or_has_no_fractions_is_refused():
    with pytest.raises(TypeError, match=r"losses is \[1\.0, 2\.0\], of type list"):
        Sum()([1.0, 2.0], tensor([0.5, 0.5]))
    with pytest.raises(TypeError, match=r"preferences is \(0\.5, 0\.5\), of type tuple"):
        Sum()(tensor([1.0, 2.0]), (0.5, 0.5))
    with pytest.raises(ValueError, match=r"losses are torch\.int64: give floating-point numbers, losses\.float\(\)"):
        Sum()(torch.tensor([1, 2]), tensor([0.5, 0.5]))


def test_preferences_are_taken_in_the_losses_precision():
    values = Sum()(torch.ones(2, dtype=torch.float32), torch.ones(2, dtype=torch.float64))
    assert values.dtype == torch.float32


class WithSlope(Shortfall):
    """One with an option of its own."""

    def __init__(self, ideal=None, margin=0.01, slope=2.0):
        super().__init__(ideal, margin)
        self.slope = slope


def test_a_margin_is_an_option_of_a_tracked_point_alone():
    assert repr(WithSlope([1.0, 2.0], margin=0.5)) == "WithSlope(ideal=[1.0, 2.0], slope=2.0)"
    tracked = WithSlope(margin=0.5)
    tracked.observe(tensor([[3.0, 4.0]]))
    assert repr(tracked) == "WithSlope(ideal=None, slope=2.0, margin=0.5)"


def test_a_tracked_point_is_the_smallest_seen_less_the_margin_and_goes_into_the_state():
    tracked = Shortfall(margin=0.5)
    tracked.observe(tensor([[3.0, 4.0], [5.0, 1.0]]))
    tracked.observe(tensor([[4.0, 4.0]]))
    assert tracked.origin.tolist() == tracked.ideal_point.tolist() == [2.5, 0.5]
    assert tracked.above_ideal(tensor([[3.0, 4.0]])).tolist() == [[0.5, 3.5]]
    again = Shortfall(margin=0.5)
    again.load_state_dict(tracked.state_dict())
    assert again.ideal_point.tolist() == [2.5, 0.5]
    again.observe(tensor([[2.0, 9.0]]))
    assert again.ideal_point.tolist() == [1.5, 0.5]


def test_a_point_is_held_against_the_losses_and_their_number():
    g = Shortfall([1.0, 2.0])
    g.check_objectives(2)
    with pytest.raises(ValueError, match="ideal"):
        g.check_objectives(3)
    assert g.above_ideal(tensor([[1.0, 2.0]])).tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match=r"Give a lower one, or none \(ideal=None\) to have it tracked\."):
        g.above_ideal(tensor([[1.5, 1.5]]))
    Sum().check_objectives(7)


def test_the_way_back_is_the_way_there_turned_round():
    assert Shortfall([0.0, 0.0]).backward_direction(tensor([0.25, 0.75])).tolist() == [-0.25, -0.75]


def test_a_frame_without_a_formula_is_no_scalarizer():
    with pytest.raises(TypeError, match="scalarize"):
        Scalarizer()
