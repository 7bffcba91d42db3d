"""Quadratics: the closed form of the optimum, the bounds, refusals."""

import math

import moocore
import numpy as np
import pytest
import torch
from _tensors import tensor
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize

from mopref.objectives import Quadratic

SEEDS = st.integers(0, 2**31 - 1)


def test_pinned_values():
    problem = Quadratic([[0.0, 0.0], [1.0, 1.0]], [[[2.0, 1.0], [1.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert problem.evaluate(tensor([[1.0, 2.0]])).tolist() == [[18.0, 1.0]]


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, m=st.integers(2, 4), n=st.integers(1, 4), identity=st.booleans())
def test_the_optimum_of_a_quadratic_equals_a_numerical_one(seed, m, n, identity):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(m, n, generator=generator).double()
    root = torch.randn(m, n, n, generator=generator).double()
    matrices = None if identity else root @ root.mT + 0.5 * torch.eye(n, dtype=torch.float64)
    problem = Quadratic(centers, matrices)
    weights = torch.rand(m, generator=generator).double()
    weights /= weights.sum()

    def scalarized(x):
        point = torch.tensor(x, dtype=torch.float64).unsqueeze(0).requires_grad_()
        value = (weights * problem.evaluate(point)).sum()
        value.backward()
        return value.item(), point.grad[0].numpy()

    optimum = problem.optimum(weights)[0]
    least = minimize(scalarized, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(optimum, least.x, atol=1e-5)
    if identity:
        torch.testing.assert_close(optimum, weights @ centers)
    lower, upper = problem.bounds
    assert ((optimum > lower) & (optimum < upper)).all()


def test_quadratic_corners_are_the_centres_and_the_nadir_point_is_known_where_it_is_certain():
    centers = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    problem = Quadratic(centers)
    torch.testing.assert_close(problem.optimum(torch.eye(3)), centers)
    assert problem.nadir_point.tolist() == [25.0, 25.0, 18.0]
    assert problem.ideal_point.tolist() == [0.0, 0.0, 0.0]
    matrices = torch.eye(2).expand(3, 2, 2)
    assert Quadratic(centers, matrices).nadir_point is None
    assert Quadratic(centers[:2], matrices[:2]).nadir_point.tolist() == [25.0, 25.0]
    front = problem.pareto_front(200)
    assert moocore.is_nondominated(front.numpy(), keep_weakly=True).all()
    # All centres in one point: still a box around it.
    lower, upper = Quadratic([[2.0], [2.0]]).bounds
    assert lower < 2 < upper


def test_the_bounds_of_a_quadratic_hold_optima_far_from_its_centres():
    problem = Quadratic([[-1.0, 0.0], [1.0, 0.0]], [[[6.97, -1.19], [-1.19, 0.4]], [[3.92, 0.64], [0.64, 0.12]]])
    optima = problem.optimum(torch.stack([torch.linspace(0, 1, 101), torch.linspace(1, 0, 101)], dim=-1))
    assert optima.abs().max() > 3
    lower, upper = problem.bounds
    assert ((optima > lower) & (optima < upper)).all()


@pytest.mark.parametrize(
    ("centers", "matrices", "message"),
    [
        ([1.0, 2.0], None, r"centers have shape \(2,\)"),
        ([[1.0], [math.nan]], None, "finite"),
        ([[1.0], [2.0]], [[[1.0]]], r"matrices have shape \(1, 1, 1\).*\(2, 1, 1\)"),
        ([[1.0], [2.0]], [[[1.0]], [[-1.0]]], "matrix 1 has the eigenvalue -1"),
        ([[1.0, 0.0]], [[[1.0, 1.0], [0.0, 1.0]]], "matrix 0 is not symmetric"),
    ],
)
def test_quadratics_that_are_none_are_refused(centers, matrices, message):
    with pytest.raises(ValueError, match=message):
        Quadratic(centers, matrices)


def test_preferences_off_the_simplex_have_no_optimum():
    with pytest.raises(ValueError, match="sums to"):
        Quadratic([[0.0], [1.0]]).optimum([[0.5, 0.6]])


@pytest.mark.parametrize("shape", [(2, 0), (0, 2), (0, 0)])
def test_no_centres_are_refused(shape):
    with pytest.raises(ValueError, match=r"centers have shape .*: give finite numbers, one row for each objective"):
        Quadratic(torch.ones(shape))
