"""VLMOP1 to VLMOP3: values by their formulas, hypervolumes of the fronts, refusals."""

import math

import numpy as np
import pytest
import torch
from _tensors import tensor, tolerance
from hypothesis import given, settings, strategies as st
from synthetic_problems import hypervolume, label, random_x

from mopref.objectives import VLMOP1, VLMOP2, VLMOP3


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, 30))
def test_values_equal_the_formula(seed, n):
    x = random_x(VLMOP2(n), 8, seed, dtype=torch.float64)
    rows = x.tolist()
    expected = [[1 - math.exp(-sum((v + sign / math.sqrt(n)) ** 2 for v in row)) for sign in (-1, 1)] for row in rows]
    np.testing.assert_allclose(VLMOP2(n).evaluate(x).cpu(), expected, atol=1e-12)
    expected = [[sum((v - shift) ** 2 for v in row) / (4 * n) for shift in (0, 2)] for row in rows]
    np.testing.assert_allclose(VLMOP1(n).evaluate(x).cpu(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("problem", "x", "expected"),
    [
        (VLMOP1(2), [1.0, 3.0], [1.25, 0.25]),
        (VLMOP3(), [1.0, 2.0], [2.5 + math.sin(5), 16.125, 1 / 6 - 1.1 * math.exp(-5)]),
    ],
    ids=label,
)
def test_values_by_hand(problem, x, expected):
    values = problem.evaluate(tensor([x]))
    torch.testing.assert_close(values, tensor([expected]), rtol=tolerance(1e-12), atol=tolerance(1e-12))


def test_the_bounds_of_vlmop3():
    assert VLMOP3().bounds.tolist() == [[-3, -3], [3, 3]]


@pytest.mark.parametrize(("problem", "exact"), [(VLMOP1(), 1.043333), (VLMOP2(), 0.552114)], ids=label)
def test_hypervolume_of_the_front(problem, exact):
    area = hypervolume(problem.pareto_front(20_001), 1.1)
    assert exact - 5e-5 < area < exact + 1e-6


@pytest.mark.parametrize("kind", [VLMOP1, VLMOP2])
def test_a_problem_without_variables_is_refused(kind):
    with pytest.raises(ValueError, match="num_variables is 0"):
        kind(0)
