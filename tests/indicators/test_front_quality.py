"""What a front looks like by itself: definitions, numbers worked out by hand, and what they do not depend on."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from indicator_inputs import point_sets
from pymoo.indicators.spacing import SpacingIndicator

from mopref.indicators import (
    fraction_non_dominated,
    largest_hole,
    non_dominated,
    number_of_distinct_non_dominated,
    range_of_objectives,
    spacing,
    sparsity,
)


@settings(max_examples=60, deadline=None)
@given(point_sets())
def test_non_dominated_is_the_definition(points):
    expected = [not any((q <= p).all() and (q < p).any() for q in points) for p in points]
    assert non_dominated(points).tolist() == expected
    assert non_dominated(-points, maximize=True).tolist() == expected
    assert fraction_non_dominated(points) == pytest.approx(np.mean(expected))


def test_all_copies_of_a_non_dominated_point_are_kept():
    assert non_dominated([[0, 1], [1, 0], [0, 1], [0, 2]]).tolist() == [True, True, True, False]
    assert non_dominated([[2.0], [1.0], [1.0]]).tolist() == [False, True, True]
    assert non_dominated(np.empty((0, 2))).tolist() == []


def test_non_dominated_with_a_direction_per_objective():
    points = [[0, 0], [1, 1], [1, 0]]
    assert non_dominated(points, maximize=[False, True]).tolist() == [True, True, False]


def test_distinct_points_are_counted_up_to_the_tolerance():
    points = [[0.0, 1.0], [1e-9, 1.0 - 1e-9], [0.5, 0.5], [1.0, 0.0], [1.0, 0.0], [2.0, 2.0]]
    assert number_of_distinct_non_dominated(points) == 3
    assert number_of_distinct_non_dominated(points, tolerance=0) == 4
    assert number_of_distinct_non_dominated(points, tolerance=0.6) == 2
    assert number_of_distinct_non_dominated(points, tolerance=2) == 1
    assert number_of_distinct_non_dominated(points, tolerance=[2, 0]) == 4
    assert number_of_distinct_non_dominated(np.negative(points), maximize=True) == 3
    assert number_of_distinct_non_dominated(points, maximize=True) == 1
    for wrong in (-1.0, [1.0, 2.0, 3.0]):
        with pytest.raises(
            ValueError, match=r"tolerance is .*: give one number ≥ 0, or one for each of the 2 objectives"
        ):
            number_of_distinct_non_dominated(points, tolerance=wrong)


def test_sparsity_by_hand():
    # Gaps (1, 1) and (2, 2) squared are 2 and 8, over m (N − 1) = 4; the dominated point is out.
    assert sparsity([[3.0, 0.0], [0.0, 3.0], [1.0, 2.0], [3.0, 3.0]]) == 2.5
    assert sparsity([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) == (2 + 2) / (3 * 2)
    assert math.isnan(sparsity([[0.0, 0.0], [1.0, 1.0]]))
    assert sparsity([[0.0, 0.0], [0.0, 0.0]]) == 0.0
    # Which points are dominated depends on the direction.
    assert sparsity([[0.0, 0.0], [2.0, 2.0], [1.0, 3.0]], maximize=True) == 1.0


def test_sparsity_of_three_objectives_goes_along_the_first_then_the_second():
    # (0, 5, 1), (1, 0, 2), (2, 1, 0): squared gaps 27 and 6 over 3 · 2; along the last objective 21 and 27.
    assert sparsity([[2.0, 1.0, 0.0], [0.0, 5.0, 1.0], [1.0, 0.0, 2.0]]) == 5.5
    # (0, 1, 2), (0, 2, 1), (1, 0, 3): 2 and 9.
    assert sparsity([[0.0, 2.0, 1.0], [1.0, 0.0, 3.0], [0.0, 1.0, 2.0]]) == pytest.approx(11 / 6)


def test_spacing_takes_a_direction_for_each_objective():
    points = [[0.0, 3.0], [0.0, 4.0], [4.0, 0.0]]
    assert spacing(points, maximize=[True, False]) == spacing(points)
    with pytest.raises(ValueError, match=r"maximize has shape \(3,\), but there are 2"):
        spacing(points, maximize=[True, False, True])


def test_spacing_by_hand():
    points = [[0.0, 3.0], [0.0, 4.0], [4.0, 0.0]]
    assert spacing(points) == pytest.approx(np.std([1, 1, 5]))
    # City-block distances are 1, 1 and 7: pymoo's number is another one, as the docstring says.
    assert SpacingIndicator()(np.array(points)) == pytest.approx(np.std([1, 1, 7]))
    assert spacing([[0.0, 0.0], [1.0, -1.0], [2.0, -2.0]]) == pytest.approx(0.0, abs=1e-15)
    assert spacing([[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]]) == pytest.approx(np.std([0, 0, 2]))
    assert math.isnan(spacing([[1.0, 2.0]]))


@settings(max_examples=40, deadline=None)
@given(point_sets(), st.randoms(use_true_random=False))
def test_sparsity_and_spacing_do_not_depend_on_sign_order_or_place(points, random):
    order = list(range(len(points)))
    random.shuffle(order)
    for indicator in (sparsity, spacing):
        value = indicator(points)
        if points.shape[1] <= 2 or indicator is spacing:  # reversed lexicographic order differs in more dimensions
            assert indicator(-points, maximize=True) == pytest.approx(value, nan_ok=True, abs=1e-12)
        assert indicator(points[order]) == pytest.approx(value, nan_ok=True, abs=1e-12)
        assert indicator(points + 5) == pytest.approx(value, nan_ok=True, abs=1e-9)


def test_one_point_has_neither_and_two_have_both():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(sparsity([[1.0, 2.0]]))
        assert math.isnan(spacing([[1.0, 2.0]]))
    # Gaps (3, 4): 25 over m (N − 1) = 2; and both have the same neighbour's distance.
    assert sparsity([[0.0, 4.0], [3.0, 0.0]]) == 12.5
    assert spacing([[0.0, 4.0], [3.0, 0.0]]) == 0.0


def test_a_tolerance_may_be_small_and_none_below_0_is_taken():
    points = [[0.0, 1.0], [0.25, 0.75]]
    assert number_of_distinct_non_dominated(points, tolerance=0.25) == 1
    assert number_of_distinct_non_dominated(points, tolerance=0.2) == 2
    with pytest.raises(ValueError, match=r"tolerance is -0\.25"):
        number_of_distinct_non_dominated(points, tolerance=-0.25)


def test_range_of_objectives():
    assert range_of_objectives([[0.0, -1.0, 7.0], [2.0, 1.0, 7.0]]).tolist() == [2.0, 2.0, 0.0]


def test_the_largest_hole_of_two_objectives_is_the_longest_step_along_the_front():
    generator = np.random.default_rng(0)
    first = np.sort(generator.random(12))
    points = np.stack([first, (1 - first) ** 2], axis=1)
    expected = np.linalg.norm(np.diff(points, axis=0), axis=1).max()
    assert largest_hole(points[generator.permutation(12)]) == pytest.approx(expected)
    # Dominated points fill no hole, copies make none, and a direction turns the front over.
    filled = np.vstack([points, points[:3] + 0.01, points[:2]])
    assert largest_hole(filled) == pytest.approx(expected)
    assert largest_hole(-points, maximize=True) == pytest.approx(expected)


@given(points=st.integers(0, 10**6))
def test_the_largest_hole_is_where_the_points_fall_apart(points):
    """Joined by steps up to this length they hang together, and by steps that are any shorter they do not."""
    values = np.random.default_rng(points).random((7, 3))
    kept = values[non_dominated(values)]
    hole = largest_hole(values)

    def hangs_together(longest):
        reached, waiting = {0}, [0]
        while waiting:
            near = np.flatnonzero(np.linalg.norm(kept - kept[waiting.pop()], axis=1) <= longest)
            waiting += [place for place in near.tolist() if place not in reached]
            reached |= set(near.tolist())
        return len(reached) == len(kept)

    assert hangs_together(hole * (1 + 1e-9))
    assert hole == 0.0 or not hangs_together(hole * (1 - 1e-9))


def test_a_front_of_one_point_has_no_hole():
    assert largest_hole([[1.0, 2.0]]) == 0.0
    assert largest_hole([[1.0, 2.0], [1.0, 2.0], [3.0, 3.0]]) == 0.0
