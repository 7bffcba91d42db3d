"""λ from targets on a front."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from mopref import Front, simplex_lattice
from mopref.personal import from_targets

NAMES = ("helpful", "harmless")
LOSSES = np.array([[0.6, 1.0], [0.7, 0.8], [0.9, 0.6], [1.2, 0.5]])
WEIGHTS = simplex_lattice(2, 4).flip(0)


def front(sign: float = 1.0, half: float | None = None, level: float | None = 0.9) -> Front:
    """A front of losses, or of rewards with sign −1, with intervals of this half-width."""
    extra, values = {}, sign * LOSSES
    if half is not None:
        for column, name in enumerate(NAMES):
            extra |= {f"{name}_low": values[:, column] - half, f"{name}_high": values[:, column] + half}
    metadata = {} if level is None else {"interval_level": level}
    return Front(WEIGHTS, values, NAMES, maximize=sign < 0, extra=extra, metadata=metadata)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_best_of_the_points_that_meet_the_target(sign):
    for target, index in ((0.6, 0), (0.7, 1), (0.75, 1), (0.9, 2), (5.0, 3)):
        found = from_targets(front(sign), {"helpful": sign * target}, then="harmless")
        assert found.row == index
        assert torch.equal(found.preference, torch.from_numpy(front().preferences[index]))
        assert found.values == pytest.approx(dict(zip(NAMES, sign * LOSSES[index], strict=True)))
        assert found.probabilities == {"helpful": None}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_with_intervals_the_target_holds_with_the_probability(sign):
    # 90 % between ± .05: .95 of it below the upper bound.
    measured = front(sign, half=0.05)
    found = from_targets(measured, {"helpful": sign * 0.95}, then="harmless", probability=0.949)
    assert found.row == 2
    assert found.probabilities["helpful"] == pytest.approx(0.95)
    assert from_targets(measured, {"helpful": sign * 0.95}, then="harmless", probability=0.951).row == 1
    assert from_targets(measured, {"helpful": sign * 0.9}, then="harmless", probability=0.5).row == 2
    assert from_targets(measured, {"helpful": sign * 0.9}, then="harmless").row == 1
    estimated = from_targets(measured, {"helpful": sign * 0.9}, then="harmless", probability=None)
    assert estimated.row == 2
    assert estimated.probabilities["helpful"] == pytest.approx(0.5)


def test_each_side_of_an_interval_counts_by_itself():
    """Above the estimate the spread is .02 / 1.645, below it .2 / 1.645; of rewards the other way round."""
    z = NormalDist().inv_cdf(0.95)
    for sign, low, high in ((1.0, 0.2, 0.02), (-1.0, 0.02, 0.2)):
        values = sign * LOSSES
        extra = {"helpful_low": values[:, 0] - low, "helpful_high": values[:, 0] + high}
        uneven = Front(WEIGHTS, values, NAMES, maximize=sign < 0, extra=extra, metadata={"interval_level": 0.9})
        found = from_targets(uneven, {"helpful": sign * 0.71}, then="harmless", probability=0.6)
        assert found.row == 1
        assert found.probabilities["helpful"] == pytest.approx(NormalDist().cdf(0.01 / (0.02 / z)))


def test_a_front_may_minimise_one_and_maximise_the_other():
    mixed = Front(WEIGHTS, LOSSES * [1, -1], NAMES, maximize=(False, True))
    assert from_targets(mixed, {"helpful": 0.9}, then="harmless").row == 2
    assert from_targets(mixed, {"harmless": -0.8}, then="helpful").row == 1


@given(
    values=st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=1, max_size=8),
    limits=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    flags=st.tuples(*[st.booleans()] * 3),
)
def test_it_is_what_a_loop_over_the_points_finds(values, limits, flags):
    names = ("a", "b", "c")
    some = Front([[0.2, 0.3, 0.5]] * len(values), values, names, maximize=list(flags))
    better = [(lambda x, y: x >= y) if flag else (lambda x, y: x <= y) for flag in flags]
    fits = [i for i, row in enumerate(values) if better[0](row[0], limits[0]) and better[1](row[1], limits[1])]
    targets = {"b": limits[1], "a": limits[0]}
    if not fits:
        with pytest.raises(ValueError, match="no point of the front meets the targets by its estimates"):
            from_targets(some, targets, then="c")
    else:
        best = max if flags[2] else min
        assert values[from_targets(some, targets, then="c").row][2] == best(values[i][2] for i in fits)


def test_an_infeasible_target_is_named_with_the_best_and_the_gap():
    with pytest.raises(
        ValueError, match=r"helpful is to be at most 0\.5, but the best .* is 0\.6, short by 0\.1 \(at λ = 1"
    ):
        from_targets(front(), {"helpful": 0.5}, then="harmless")
    with pytest.raises(ValueError, match=r"helpful is to be at least -0\.5, but the best .* is -0\.6, short by 0\.1 "):
        from_targets(front(-1.0), {"helpful": -0.5}, then="harmless")


def test_the_best_that_is_attainable_with_the_probability_can_be_attained():
    with pytest.raises(ValueError, match=r"with probability 0\.95.* is 0\.65, short by 0\.05 .*estimate 0\.6\)"):
        from_targets(front(half=0.05), {"helpful": 0.6}, then="harmless", probability=0.95)
    assert from_targets(front(half=0.05), {"helpful": 0.65 + 1e-9}, then="harmless", probability=0.95).row == 0


def test_targets_that_exclude_each_other_are_named_each_where_the_other_holds():
    three = Front(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]], ("a", "b", "c")
    )
    with pytest.raises(ValueError) as error:
        from_targets(three, {"a": 0.5, "b": 0.5}, then="c")
    assert "a is to be at most 0.5, but the best attainable where the other targets hold is 2, short by 1.5" in str(
        error.value
    )
    assert "b is to be at most 0.5" in str(error.value)
    with pytest.raises(ValueError) as error:
        from_targets(three, {"a": -1.0, "b": 0.5}, then="c")
    assert "a is to be at most -1" in str(error.value)
    assert "b is to be" not in str(error.value)


def test_three_targets_of_which_no_two_hold_together_are_told():
    corners = Front(np.eye(4), 1 - np.eye(4), ("a", "b", "c", "d"))
    with pytest.raises(ValueError, match="no two of them hold at the same point"):
        from_targets(corners, {"a": 0.5, "b": 0.5, "c": 0.5}, then="d")


def test_a_point_without_an_interval_meets_no_target_where_others_have_one():
    extra = {"helpful_low": [0.5, None, 0.8, 1.1], "helpful_high": [0.7, None, 1.0, 1.3]}
    partly = Front(WEIGHTS, LOSSES, NAMES, extra=extra, metadata={"interval_level": 0.9})
    assert from_targets(partly, {"helpful": 0.85}, then="harmless").row == 0
    assert from_targets(partly, {"helpful": 0.85}, then="harmless", probability=0.5).row == 0
    estimated = from_targets(partly, {"helpful": 0.85}, then="harmless", probability=None)
    assert (estimated.row, estimated.probabilities) == (1, {"helpful": None})


def test_intervals_without_a_level_are_refused_and_may_be_left_out():
    unknown = front(half=0.05, level=None)
    with pytest.raises(ValueError, match="interval_level"):
        from_targets(unknown, {"helpful": 0.9}, then="harmless")
    found = from_targets(unknown, {"helpful": 0.9}, then="harmless", probability=None)
    assert (found.row, found.probabilities) == (2, {"helpful": None})


@pytest.mark.parametrize(
    ("targets", "then", "options", "error", "message"),
    [
        ({}, "harmless", {}, ValueError, "targets are empty"),
        ({"honest": 0.5}, "harmless", {}, ValueError, "no objective 'honest'"),
        ({"helpful": 0.5}, "honest", {}, ValueError, "no objective 'honest'"),
        ({"helpful": 0.5}, "helpful", {}, ValueError, "has a target as well"),
        ({"helpful": float("nan")}, "harmless", {}, ValueError, "target of 'helpful' is nan"),
        ({"helpful": float("-inf")}, "harmless", {}, ValueError, "finite"),
        ({"helpful": "0.5"}, "harmless", {}, TypeError, "target of 'helpful'"),
        ({"helpful": True}, "harmless", {}, TypeError, "target of 'helpful'"),
        ({"helpful": 0.5}, "harmless", {"probability": 1.0}, ValueError, "probability is 1"),
        ({"helpful": 0.5}, "harmless", {"probability": 0.1}, ValueError, "probability is 0.1"),
        ([("helpful", 0.5)], "harmless", {}, TypeError, "targets"),
    ],
)
def test_what_is_wrong_is_named(targets, then, options, error, message):
    with pytest.raises(error, match=message):
        from_targets(front(), targets, then=then, **options)


def test_other_things_than_a_front_are_refused():
    with pytest.raises(TypeError, match="front"):
        from_targets(LOSSES, {"helpful": 0.5}, then="harmless")
