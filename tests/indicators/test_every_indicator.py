"""What every indicator does with its input: kinds that agree, nothing modified, and errors that name the place."""

import importlib
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from _tensors import tensor

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
    assert CALLS[name](tensor(POINTS).requires_grad_()) == expected
    half = tensor(POINTS, torch.bfloat16)
    assert CALLS[name](half) == expected  # these numbers are exact in half precision
    assert (half.double().cpu().numpy() == POINTS).all()


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
    with pytest.raises(ValueError, match=r"reference_point has shape \(3,\): it must be \(2,\)"):
        hypervolume(POINTS, [1, 1, 1])
    with pytest.raises(ValueError, match=r"reference_point has shape \(\): it must be \(2,\)"):
        hypervolume(POINTS, 1.0)
    with pytest.raises(ValueError, match="reference_point has nan at index 1"):
        hypervolume(POINTS, [1.0, math.nan])
    with pytest.raises(ValueError, match=r"2 objectives.*front has 3"):
        igd(POINTS, [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"\(3, 2\) and preferences \(1, 2\)"):
        inner_product([[1.0, 0.0]], POINTS)
    with pytest.raises(ValueError, match=r"maximize has shape \(3,\), but there are 2"):
        spacing(POINTS, maximize=[True, False, True])
    with pytest.raises(ValueError, match="maximize is 1: give one bool"):
        hypervolume(POINTS, [3, 3], maximize=1)
    with pytest.raises(ValueError, match="complex"):
        sparsity([[1j, 0]])


@pytest.mark.parametrize("module", ["distances", "front_quality", "preference", "volume"])
def test_everything_public_is_at_the_top_of_the_package(module):
    part = importlib.import_module(f"mopref.indicators.{module}")
    defined = {n for n, v in vars(part).items() if getattr(v, "__module__", "") == part.__name__}
    assert {n for n in defined if not n.startswith("_")} == set(part.__all__)
    assert all(getattr(indicators, name) is getattr(part, name) for name in part.__all__)
    assert all(callable(getattr(indicators, name)) for name in part.__all__)


def test_importing_is_light():
    heavy = ("matplotlib", "seaborn", "pandas", "pymoo", "moocore", "scipy", "rich", "transformers", "datasets")
    code = (
        "import sys; import mopref.indicators, mopref.front; "
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
