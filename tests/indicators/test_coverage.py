"""Fronts against each other: plain re-computations on coarse points, where copies and ties occur."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from indicator_inputs import point_sets

from mopref.indicators import coverage, shares_of_union


def covers(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True))


def dominates(a, b):
    return covers(a, b) and any(x < y for x, y in zip(a, b, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_coverage_by_its_definition(data):
    m = data.draw(st.integers(1, 4))
    points, others = data.draw(point_sets(m)), data.draw(point_sets(m))
    expected = sum(any(covers(p, o) for p in points.tolist()) for o in others.tolist()) / len(others)
    assert coverage(points, others) == pytest.approx(expected)
    assert coverage(-points, -others, maximize=True) == pytest.approx(expected)
    assert coverage(points, points) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shares_by_their_definition(data):
    m = data.draw(st.integers(1, 3))
    fronts = [data.draw(point_sets(m)) for _ in range(data.draw(st.integers(1, 4)))]
    union = {tuple(point) for front in fronts for point in front.tolist()}
    best = {p for p in union if not any(dominates(o, p) for o in union)}
    expected = [len(best & {tuple(point) for point in front.tolist()}) / len(best) for front in fronts]
    shares = shares_of_union(fronts)
    assert shares == pytest.approx(expected)
    assert shares_of_union([-front for front in fronts], maximize=True) == pytest.approx(expected)
    assert shares.sum() >= 1 - 1e-12


def test_each_objective_has_its_own_direction():
    better, worse = [[0.0, 2.0]], [[0.0, 1.0]]
    assert coverage(better, worse, maximize=[False, True]) == 1.0
    assert coverage(worse, better, maximize=[False, True]) == 0.0
    assert shares_of_union([better, worse], maximize=[False, True]).tolist() == [1.0, 0.0]


def test_neither_modifies_its_points():
    points, others = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    coverage(points, others, maximize=True)
    shares_of_union([points, others], maximize=True)
    assert (points.tolist(), others.tolist()) == ([[0.0, 1.0]], [[1.0, 0.0]])


def test_what_cannot_be_compared_says_so():
    with pytest.raises(ValueError, match="the points have 2, 3 objectives"):
        coverage([[1, 2]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="the points have 2, 3 objectives"):
        shares_of_union([[[1, 2]], [[1, 2, 3]]])
    with pytest.raises(ValueError, match=r"others has nan at row 0, column 1"):
        coverage([[1, 2]], [[1, math.nan]])
    with pytest.raises(ValueError, match=r"fronts\[1\] has inf at row 0, column 0"):
        shares_of_union([[[1, 2]], [[math.inf, 2]]])
    with pytest.raises(ValueError, match="fronts is empty"):
        shares_of_union([])
