"""Indicators: properties, closed forms, and equality with pymoo and moocore where those have the same indicator."""

import importlib
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from pymoo.indicators.gd import GD
from pymoo.indicators.gd_plus import GDPlus
from pymoo.indicators.igd import IGD
from pymoo.indicators.igd_plus import IGDPlus
from pymoo.indicators.spacing import SpacingIndicator

from mopref import indicators
from mopref.indicators import (
    cross_angle,
    fill_distance,
    fraction_non_dominated,
    gd,
    gd_plus,
    hypervolume,
    igd,
    igd_plus,
    inner_product,
    non_dominated,
    number_of_distinct_non_dominated,
    preference_regret,
    range_of_objectives,
    spacing,
    sparsity,
)

DISTANCES = [(igd, IGD), (igd_plus, IGDPlus), (gd, GD), (gd_plus, GDPlus)]


@st.composite
def point_sets(draw, objectives=None):
    m = objectives or draw(st.integers(1, 4))
    n = draw(st.integers(1, 12))
    # Sixteenths are exact in binary, and coarse enough that copies and ties do occur.
    return draw(arrays(np.int64, (n, m), elements=st.integers(-16, 16))) / 16.0


def sphere(n, m, seed=0):
    points = np.abs(np.random.default_rng(seed).normal(size=(n, m)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


# --- distances to a known front --------------------------------------------------------------------------------------


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


# --- what the front looks like ---------------------------------------------------------------------------------------


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
        with pytest.raises(ValueError, match="tolerance"):
            number_of_distinct_non_dominated(points, tolerance=wrong)


def test_sparsity_by_hand():
    # Gaps (1, 1) and (2, 2) squared are 2 and 8, over m (N − 1) = 4; the dominated point is out.
    assert sparsity([[3.0, 0.0], [0.0, 3.0], [1.0, 2.0], [3.0, 3.0]]) == 2.5
    assert sparsity([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) == (2 + 2) / (3 * 2)
    assert math.isnan(sparsity([[0.0, 0.0], [1.0, 1.0]]))
    assert sparsity([[0.0, 0.0], [0.0, 0.0]]) == 0.0
    # Which points are dominated depends on the direction.
    assert sparsity([[0.0, 0.0], [2.0, 2.0], [1.0, 3.0]], maximize=True) == 1.0


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


def test_range_of_objectives():
    assert range_of_objectives([[0.0, -1.0, 7.0], [2.0, 1.0, 7.0]]).tolist() == [2.0, 2.0, 0.0]


# --- what every one of them does with its input ----------------------------------------------------------------------

CALLS = {
    "hypervolume": lambda v: hypervolume(v, [9.0, 9.0]),
    "igd": lambda v: igd(v, [[0.0, 0.0]]),
    "igd_plus": lambda v: igd_plus(v, [[0.0, 0.0]]),
    "gd": lambda v: gd(v, [[0.0, 0.0]]),
    "gd_plus": lambda v: gd_plus(v, [[0.0, 0.0]]),
    "igd front": lambda v: igd([[0.0, 0.0]], v),
    "fill_distance": lambda v: fill_distance(v, [[0.0, 0.0]]),
    "inner_product": lambda v: inner_product([[0.5, 0.5]] * 3, v),
    "sparsity": sparsity,
    "spacing": spacing,
    "non_dominated": lambda v: non_dominated(v).tolist(),
    "fraction_non_dominated": fraction_non_dominated,
    "number_of_distinct": number_of_distinct_non_dominated,
    "range": lambda v: range_of_objectives(v).tolist(),
    "cross_angle": lambda v: cross_angle(v, [[1.0, 1.0]] * 3, [-1.0, -1.0]),
}
POINTS = [[0.0, 2.0], [1.0, 0.5], [2.0, 0.0]]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_raises_and_is_named(name, bad):
    points = np.array(POINTS)
    points[2, 1] = bad
    with pytest.raises(ValueError, match=f"has {bad} at row 2, column 1"):
        CALLS[name](points)


@pytest.mark.parametrize("name", CALLS)
def test_inputs_are_not_modified_and_kinds_agree(name):
    points = np.array(POINTS)
    expected = CALLS[name](points)
    assert (points == POINTS).all()
    points.setflags(write=False)
    assert CALLS[name](points) == expected
    assert CALLS[name](POINTS) == expected
    assert CALLS[name](torch.tensor(POINTS, requires_grad=True)) == expected
    tensor = torch.tensor(POINTS, dtype=torch.bfloat16)
    assert CALLS[name](tensor) == expected  # these numbers are exact in half precision
    assert (tensor.double().numpy() == POINTS).all()


def test_second_arguments_are_not_modified():
    calls = [
        (lambda second: hypervolume(POINTS, second, maximize=True), [-1.0, -1.0]),
        (lambda second: igd(POINTS, second, maximize=True), [[1.0, 2.0]]),
        (lambda second: gd_plus(POINTS, second, maximize=True), [[1.0, 2.0]]),
        (lambda second: inner_product(second, POINTS), [[0.5, 0.5]] * 3),
        (lambda second: cross_angle(POINTS, second, [-1.0, -1.0]), [[3.0, 4.0]] * 3),
        (lambda second: cross_angle(POINTS, [[3.0, 4.0]] * 3, second), [-1.0, -1.0]),
        (lambda second: preference_regret([1.0, 2.0], second), [0.5, 0.5]),
    ]
    for call, second in calls:
        array = np.array(second)
        call(array)
        assert array.tolist() == second


@pytest.mark.parametrize("name", CALLS)
def test_wrong_shapes_raise_with_the_shape(name):
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        CALLS[name]([1.0, 2.0])
    with pytest.raises(ValueError, match="rectangular"):
        CALLS[name]([[1.0, 2.0], [1.0]])


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"hypervolume", "non_dominated"}))
def test_empty_sets_raise(name):
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        CALLS[name](np.empty((0, 2)))


def test_messages_name_the_offending_argument():
    with pytest.raises(ValueError, match=r"reference_point must have shape \(2,\).*got shape \(3,\)"):
        hypervolume(POINTS, [1, 1, 1])
    with pytest.raises(ValueError, match=r"reference_point must have shape \(2,\).*got shape \(\)"):
        hypervolume(POINTS, 1.0)
    with pytest.raises(ValueError, match="reference_point has nan at index 1"):
        hypervolume(POINTS, [1.0, math.nan])
    with pytest.raises(ValueError, match=r"2 objectives.*front has 3"):
        igd(POINTS, [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"\(3, 2\) and preferences \(1, 2\)"):
        inner_product([[1.0, 0.0]], POINTS)
    with pytest.raises(ValueError, match=r"maximize has shape \(3,\), but there are 2"):
        spacing(POINTS, maximize=[True, False, True])
    with pytest.raises(ValueError, match="maximize must be a bool"):
        hypervolume(POINTS, [3, 3], maximize=1)
    with pytest.raises(ValueError, match="complex"):
        sparsity([[1j, 0]])


def test_everything_public_is_listed():
    for module in ("distances", "front_quality", "preference", "volume"):
        part = importlib.import_module(f"mopref.indicators.{module}")
        defined = {n for n, v in vars(part).items() if getattr(v, "__module__", "") == part.__name__}
        assert {n for n in defined if not n.startswith("_")} == set(part.__all__)
        assert set(part.__all__) <= set(indicators.__all__)
    assert all(callable(getattr(indicators, name)) for name in indicators.__all__)


def test_importing_is_light():
    heavy = ("torch", "matplotlib", "seaborn", "pymoo", "moocore", "scipy", "transformers")
    code = (
        "import sys; import mopref.indicators, mopref.front; "
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
