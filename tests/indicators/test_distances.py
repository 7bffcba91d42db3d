"""Distances to a known front: by hand, and equal to pymoo's where it has the same indicator."""

import math

import pytest
from hypothesis import given, settings, strategies as st
from indicator_inputs import point_sets, sphere
from pymoo.indicators.gd import GD
from pymoo.indicators.gd_plus import GDPlus
from pymoo.indicators.igd import IGD
from pymoo.indicators.igd_plus import IGDPlus

from mopref.indicators import fill_distance, gd, gd_plus, igd, igd_plus

DISTANCES = [(igd, IGD), (igd_plus, IGDPlus), (gd, GD), (gd_plus, GDPlus)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_distances_equal_pymoo(data):
    m = data.draw(st.integers(1, 4))
    points, front = data.draw(point_sets(m)), data.draw(point_sets(m))
    for ours, theirs in DISTANCES:
        assert ours(points, front) == pytest.approx(theirs(front)(points), rel=1e-10, abs=1e-12)
        assert ours(-points, -front, maximize=True) == pytest.approx(ours(points, front), rel=1e-12, abs=1e-14)


def test_distances_by_hand():
    points, front = [[0.0, 2.0], [3.0, 3.0]], [[0.0, 1.0], [1.0, 0.0]]
    assert igd(points, front) == pytest.approx((1 + math.sqrt(5)) / 2)
    assert gd(points, front) == pytest.approx((1 + math.sqrt(13)) / 2)
    # Only the coordinates that are worse than the front count: (0, 2) against (1, 0) is (0, 2).
    assert igd_plus(points, front) == pytest.approx((1 + 2) / 2)
    assert gd_plus([[0.5, 0.0]], front) == 0.0
    # Per objective: with the second one maximised, (0, 2) is better than (0, 1).
    assert gd_plus([[0.0, 2.0]], [[0.0, 1.0]], maximize=[False, True]) == 0.0
    assert gd_plus([[0.0, 2.0]], [[0.0, 1.0]], maximize=[False, False]) == 1.0
    assert fill_distance(points, front) == pytest.approx(math.sqrt(5))


def test_a_front_has_no_distance_to_itself():
    front = sphere(50, 3)
    assert [d(front, front) for d, _ in DISTANCES] == [0.0] * 4
    assert fill_distance(front, front) == 0.0


@pytest.mark.parametrize("distance", [igd, igd_plus, gd, gd_plus, fill_distance])
@pytest.mark.parametrize(("own", "known"), [(2, 3), (3, 2)])
def test_points_on_more_or_fewer_objectives_than_the_front_are_refused(distance, own, known):
    message = rf"values have {own} objectives \(shape \(1, {own}\)\), but front has {known} \(shape \(4, {known}\)\)"
    with pytest.raises(ValueError, match=message):
        distance([[1.0] * own], [[1.0] * known] * 4)


def test_as_many_objectives_as_python_has_no_single_number_for():
    points, front = [[0.0] * 300], [[1.0] * 300]
    assert igd(points, front) == pytest.approx(math.sqrt(300))
    assert igd_plus(points, front) == 0.0
