"""The ideal and the nadir point: given, or tracked in what is observed, with a state that continues."""

import math

import pytest
import torch
from _tensors import rand, tensor

from mopref.tracked_points import TrackedIdeal, TrackedNadir, difference_above


@pytest.mark.parametrize("kind", [TrackedIdeal, TrackedNadir])
def test_a_given_point_stays(kind):
    point = kind([0.5, 1.5], margin=0.25)
    point.observe(tensor([[-9.0, 9.0], [9.0, -9.0]]))
    assert not point.tracked
    assert point.point.tolist() == [0.5, 1.5], "a margin belongs to tracking"
    assert point.state_dict() == {}
    point.load_state_dict({})
    assert point.point.tolist() == [0.5, 1.5]


@pytest.mark.parametrize(("kind", "expected"), [(TrackedIdeal, [-1.5, -0.5]), (TrackedNadir, [2.5, 4.5])])
def test_a_tracked_point_follows_the_losses(kind, expected):
    point = kind(margin=0.5)
    assert point.tracked
    assert point.point is None
    point.observe(tensor([[2.0, 0.0]]))
    # Any number of dimensions, and a graph that is not kept; (5, 6) is dominated.
    point.observe(tensor([[[-1.0, 4.0], [5.0, 6.0]]]).requires_grad_())
    assert point.point.tolist() == expected
    assert point.point.dtype == torch.float64
    assert point.point.device.type == "cpu"
    assert not point.point.requires_grad


@pytest.mark.parametrize("kind", [TrackedIdeal, TrackedNadir])
def test_a_state_continues(kind):
    losses = rand((30, 3), torch.Generator().manual_seed(0))
    uninterrupted, first, second = kind(margin=0.1), kind(margin=0.1), kind(margin=0.1)
    uninterrupted.observe(losses)
    first.observe(losses[:20])
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.point, first.point)
    second.observe(losses[20:])
    assert torch.equal(second.point, uninterrupted.point)
    second.load_state_dict(kind().state_dict())
    assert second.point is None


def test_the_nadir_forgets_what_left_its_window():
    nadir = TrackedNadir(window=2)
    nadir.observe(tensor([[0.0, 9.0], [9.0, 0.0]]))
    assert nadir.point.tolist() == [9.0, 9.0]
    nadir.observe(tensor([[1.0, 1.0]]))
    assert nadir.point.tolist() == [9.0, 1.0]
    nadir.observe(tensor([[2.0, 2.0]]))
    assert nadir.point.tolist() == [1.0, 1.0]


def test_the_losses_observed_are_copied():
    losses, nadir = tensor([[0.0, 1.0], [1.0, 0.0]]), TrackedNadir()
    nadir.observe(losses)
    losses += 5
    nadir.observe(tensor([[2.0, -1.0]]))
    assert nadir.point.tolist() == [2.0, 1.0]


def test_the_difference_from_an_ideal_point():
    losses = tensor([[1.0, 2.0], [3.0, 4.0]]).requires_grad_()
    difference = difference_above(losses, torch.tensor([1.0, 0.5]), "Lower it.")
    assert difference.tolist() == [[0.0, 1.5], [2.0, 3.5]]
    difference.sum().backward()
    assert losses.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    # A hair below is rounding.
    difference_above(losses, torch.tensor([1.00001, 0.5]), "Lower it.")


@pytest.mark.parametrize(
    ("ideal", "message"),
    [
        ([0.0, 2.5], r"entry 1 is 2\.5, above a loss of 2: an ideal point lies below every loss\. Lower it\."),
        ([0.0], "the ideal point has 1 numbers, but there are 2 losses"),
    ],
)
def test_an_ideal_point_that_is_none_raises(ideal, message):
    with pytest.raises(ValueError, match=message):
        difference_above(tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor(ideal), "Lower it.")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrackedIdeal(margin=-0.25), r"margin is -0\.25: a tracked ideal point lies below the losses"),
        (lambda: TrackedNadir(margin=math.nan), "margin is nan: a tracked nadir point lies above the losses"),
        (lambda: TrackedNadir(window=0), "window is 0: at least one row"),
        (lambda: TrackedIdeal([math.nan]), "ideal is"),
        (lambda: TrackedNadir([math.inf]), "nadir is"),
    ],
)
def test_an_invalid_option_raises_and_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("window", [2.5, "3", True, None, math.nan])
def test_a_window_is_a_whole_number(window):
    with pytest.raises(TypeError, match=r"window is .*: give a whole number"):
        TrackedNadir(window=window)


@pytest.mark.parametrize(("make", "name"), [(TrackedIdeal, "ideal"), (TrackedNadir, "nadir")])
def test_a_point_of_another_number_of_objectives_is_named(make, name):
    tracked = make()
    tracked.check_objectives(5)
    tracked.observe(torch.zeros(1, 2))
    for point, whose in ((tracked, f"the tracked {name} point"), (make([0.0, 0.0]), name)):
        point.check_objectives(2)
        with pytest.raises(ValueError, match=f"{whose} has 2 numbers, but there are 3 objectives"):
            point.check_objectives(3)


def test_more_rows_than_the_window_are_no_state_of_it():
    """They are compared with each other: 100,000 of a stranger's would take 10 GB."""
    nadir = TrackedNadir(window=4)
    with pytest.raises(ValueError, match="the state holds 100000 rows, and the window is 4"):
        nadir.load_state_dict({"rows": torch.zeros(100_000, 2, dtype=torch.float64)})


@pytest.mark.parametrize("kind", [TrackedIdeal, TrackedNadir])
@pytest.mark.parametrize("shape", [(2, 0), (0, 2), (0,)])
def test_no_losses_are_no_observation(kind, shape):
    point = kind()
    with pytest.raises(ValueError, match=r"losses have shape .*: give \(…, m\), one column for each objective"):
        point.observe(torch.ones(shape))
    assert point.point is None


@pytest.mark.parametrize("kind", [TrackedIdeal, TrackedNadir])
def test_losses_of_another_number_of_objectives_are_none_of_this_point(kind):
    """Those of one objective would be taken for every one."""
    point = kind()
    point.observe(torch.tensor([1.0, 2.0]))
    for other in (torch.ones(1), torch.ones(4, 3)):
        with pytest.raises(ValueError, match=r"has 2 numbers, but there are \d objectives: give one for each"):
            point.observe(other)
    assert point.point.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("kind", [TrackedIdeal, TrackedNadir])
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_not_tracked(kind, loss):
    """It would be the point's for ever."""
    point = kind()
    point.observe(torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=f"the loss of objective 1 is {loss} in row 1: no point can be tracked"):
        point.observe(torch.tensor([[0.5, 0.5], [0.5, loss]]))
    assert point.point.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("kind", "name"), [(TrackedIdeal, "lowest"), (TrackedNadir, "rows")])
def test_a_state_with_more_in_it_is_another_parts(kind, name):
    for state in ({name: None, "more": 1.0}, {}, [name]):
        with pytest.raises(ValueError, match=f"the state is not one of '{name}' alone"):
            kind().load_state_dict(state)
