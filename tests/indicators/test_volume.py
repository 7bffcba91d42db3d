"""Hypervolume: closed forms, invariances, equality with pymoo and moocore, and how good the approximation is."""

import math
import warnings

import moocore
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from indicator_inputs import point_sets, sphere
from pymoo.indicators.hv import HV

from mopref.indicators import hypervolume, hypervolume_with_method, non_dominated


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_hypervolume_of_boxes(m):
    corner = np.arange(1, m + 1) / 10
    reference = np.full(m, 2.0)
    assert hypervolume([corner], reference) == pytest.approx(np.prod(2.0 - corner), rel=1e-12)
    # Two boxes that differ in the first two coordinates only: the union by inclusion and exclusion.
    if m >= 2:
        other = corner.copy()
        other[[0, 1]] = corner[[0, 1]] + [-0.05, 0.5]
        union = np.prod(2.0 - corner) + np.prod(2.0 - other) - np.prod(2.0 - np.maximum(corner, other))
        assert hypervolume([corner, other], reference) == pytest.approx(union, rel=1e-12)


@pytest.mark.parametrize(
    ("second", "expected"),
    [(lambda f: 1 - np.sqrt(f), 0.876667), (lambda f: 1 - f**2, 0.543333)],
    ids=["ZDT1", "ZDT2"],
)
def test_hypervolume_of_dense_analytic_fronts(second, expected):
    # Squared, because the first front is steep near zero.
    first = np.linspace(0, 1, 20_000) ** 2
    assert hypervolume(np.stack([first, second(first)], 1), [1.1, 1.1]) == pytest.approx(expected, abs=1e-4)


def test_hypervolume_of_dense_dtlz_fronts():
    angle = np.linspace(0, math.pi / 2, 250)
    theta, phi = (a.ravel() for a in np.meshgrid(angle, angle))
    octant = np.stack([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), np.sin(theta)], 1)
    assert hypervolume(octant, [1.1] * 3) == pytest.approx(1.331 - math.pi / 6, abs=5e-3)
    line = np.linspace(0, 0.5, 20_001)
    assert hypervolume(np.stack([line, 0.5 - line], 1), [1.1] * 2) == pytest.approx(1.1**2 - 0.5**2 / 2, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(point_sets())
def test_hypervolume_equals_moocore_and_pymoo(points):
    reference = np.full(points.shape[1], 0.5)
    value = hypervolume(points, reference)
    assert value == pytest.approx(moocore.hypervolume(points, ref=reference), rel=1e-12, abs=1e-14)
    assert value == pytest.approx(HV(ref_point=reference)(points), rel=1e-12, abs=1e-14)


@settings(max_examples=60, deadline=None)
@given(point_sets(), st.randoms(use_true_random=False))
def test_hypervolume_invariances(points, random):
    m = points.shape[1]
    reference = np.full(m, 0.75)
    value = hypervolume(points, reference)
    close = {"rel": 1e-9, "abs": 1e-12}
    order = list(range(len(points)))
    random.shuffle(order)
    assert hypervolume(points[order], reference) == pytest.approx(value, **close)
    columns = list(range(m))
    random.shuffle(columns)
    assert hypervolume(points[:, columns], reference[columns]) == pytest.approx(value, **close)
    assert hypervolume(points + 3.5, reference + 3.5) == pytest.approx(value, **close)
    assert hypervolume(points * 2.0, reference * 2.0) == pytest.approx(value * 2.0**m, **close)
    assert hypervolume(-points, -reference, maximize=True) == pytest.approx(value, **close)
    flags = np.array([random.random() < 0.5 for _ in range(m)])
    flip = np.where(flags, -1.0, 1.0)
    assert hypervolume(points * flip, reference * flip, maximize=flags.tolist()) == pytest.approx(value, **close)
    assert hypervolume(points[non_dominated(points)], reference) == pytest.approx(value, **close)


@settings(max_examples=60, deadline=None)
@given(point_sets(objectives=3), arrays(np.float64, 3, elements=st.floats(-1, 1, width=16)))
def test_hypervolume_never_falls_when_a_point_is_added(points, added):
    reference = np.full(3, 1.5)
    before, after = hypervolume(points, reference), hypervolume(np.vstack([points, added]), reference)
    assert after >= before - 1e-12
    if non_dominated(np.vstack([points, added]))[-1] and not (points == added).all(axis=1).any():
        assert after > before


def test_points_that_are_not_better_than_the_reference_add_nothing():
    assert hypervolume([[1.0, 1.0], [2.0, 0.0], [-100.0, 2.0], [3.0, -50.0]], [2.0, 2.0]) == 1.0
    assert hypervolume([[3.0, 3.0]], [2.0, 2.0]) == 0.0
    assert hypervolume(np.empty((0, 3)), [1, 1, 1]) == 0.0


def test_hypervolume_says_when_it_is_approximate():
    points = sphere(101, 7)
    with pytest.warns(UserWarning, match=r"the hypervolume of .* is an approximation") as told:
        value = hypervolume(points, [1.1] * 7)
    assert told[0].filename == __file__, "it points at the call"
    assert hypervolume_with_method(points, [1.1] * 7) == (value, False)
    assert value == pytest.approx(moocore.hypervolume(points, ref=[1.1] * 7), rel=1e-3)
    assert value != moocore.hypervolume(points, ref=[1.1] * 7)
    with pytest.warns(UserWarning, match=r"the hypervolume of .* is an approximation"):
        assert hypervolume(-points, [-1.1] * 7, maximize=True) == value


@pytest.mark.parametrize(
    ("m", "n", "exact"),
    [
        (4, 600, True),
        (5, 5000, True),
        (5, 5001, False),
        (6, 500, True),
        (6, 501, False),
        (7, 100, True),
        (7, 101, False),
        (8, 1, False),
    ],
)
def test_where_exact_ends(m, n, exact, monkeypatch):
    monkeypatch.setattr("mopref._volume._APPROXIMATION_SAMPLES", 64)  # the value is not looked at
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the function that returns the method must not warn
        assert hypervolume_with_method(sphere(n, m), [1.1] * m).exact is exact


def test_exact_limit_counts_only_points_that_matter():
    points = np.vstack([sphere(100, 7), sphere(100, 7) + 0.01, sphere(100, 7) + 5])
    assert hypervolume_with_method(points, [1.1] * 7).exact
    assert not hypervolume_with_method(np.vstack([points, sphere(50, 7, seed=1)]), [1.1] * 7).exact


def test_exact_limit_does_not_count_points_on_the_side_of_the_box():
    """They are not dominated, since each is better in another objective, but add nothing."""
    inside, side = sphere(100, 7), sphere(20, 7, seed=1) - 0.1
    side[:, 0] = 1.1
    assert hypervolume_with_method(inside, [1.1] * 7) == hypervolume_with_method(np.vstack([inside, side]), [1.1] * 7)
    assert hypervolume_with_method(inside, [1.1] * 7).exact


def test_the_approximation_is_moocores_of_points_that_have_one_size():
    """By 2¹⁸ = 262,144 directions, as those of which the docstring tells the errors."""
    points, reference = sphere(60, 8), np.full(8, 1.1)
    size = reference - points.min(axis=0)
    unit = moocore.hv_approx((points - reference) / size, ref=np.zeros(8), nsamples=262_144, method="Rphi-FWE+")
    assert hypervolume_with_method(points, reference).value == pytest.approx(unit * np.prod(size), rel=1e-12)


def test_the_approximation_is_as_good_as_the_docstring_says():
    for m, n, allowed in ((7, 101, 6e-4), (8, 50, 1.3e-3)):
        for points, bound in ((sphere(n, m), 1.1), (1 - sphere(n, m), 1.1), (sphere(n, m), 2.0)):
            value, exact = hypervolume_with_method(points, [bound] * m)
            assert not exact
            assert value == pytest.approx(moocore.hypervolume(points, ref=[bound] * m), rel=allowed)


@pytest.mark.parametrize("m", [8, 10])
def test_the_approximation_of_closed_forms(m):
    reference = np.full(m, 1.0)
    for corner in (np.zeros(m), np.linspace(0, 0.9, m)):
        assert hypervolume_with_method([corner], reference).value == pytest.approx(np.prod(1 - corner), rel=2e-3)
    # Box i is [0, 1] along axis i and [1/2, 1] along the others; all share the middle cube of side 1/2.
    boxes = np.full((m, m), 0.5) - 0.5 * np.eye(m)
    assert hypervolume_with_method(boxes, reference).value == pytest.approx((1 + m) * 0.5**m, rel=1e-3)


def test_the_approximation_does_not_depend_on_units():
    points, units = sphere(60, 8), 10.0 ** np.arange(-3, 5)
    value = hypervolume_with_method(points, [1.1] * 8).value
    scaled = hypervolume_with_method(points * units + 5, 1.1 * units + 5)
    assert not scaled.exact
    assert scaled.value == pytest.approx(value * np.prod(units), rel=1e-9)
