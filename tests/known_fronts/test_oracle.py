"""The oracle against closed forms and against brute force."""

import numpy as np
import pytest
import torch
from _tensors import tensor
from exact_fronts import FRONTS, lengths_to_front

from mopref import simplex_lattice
from mopref.known_fronts.oracle import scalarizer_optimum
from mopref.objectives import DTLZ2, ZDT1, Problem, Quadratic
from mopref.scalarizers import PBI, SCALARIZERS, AugmentedTchebycheff, Linear, ModifiedTchebycheff, Tchebycheff


@pytest.mark.parametrize("kind", FRONTS)
def test_modified_tchebycheff_is_where_the_ray_meets_the_front(kind):
    problem = kind()
    preferences = simplex_lattice(problem.num_objectives, 28).double()
    result = scalarizer_optimum(problem, ModifiedTchebycheff(ideal=problem.ideal_point, convention="ray"), preferences)
    np.testing.assert_allclose(result.scalarized, lengths_to_front(problem, preferences, epsilon=1e-3), rtol=1e-5)
    assert result.values.shape == preferences.shape
    # The importance 1/λ, of sum 1, asks for the same points where no weight is cut off.
    inside = preferences[(preferences > 0.1).all(dim=1)]
    importance = (1 / inside) / (1 / inside).sum(dim=1, keepdim=True)
    mirrored = scalarizer_optimum(problem, ModifiedTchebycheff(ideal=problem.ideal_point), importance)
    expected = result.values[(preferences > 0.1).all(dim=1)]
    torch.testing.assert_close(mirrored.values, expected, rtol=1e-3, atol=1e-4)


def test_linear_scalarization_of_quadratics_is_the_closed_form():
    problem = Quadratic(
        [[0.0, 0.0], [1.0, 0.5], [0.2, 1.0]], np.array([np.diag([1.0, 4.0]), np.eye(2), [[2.0, 0.5], [0.5, 1.0]]])
    )
    preferences = simplex_lattice(3, 21).double()
    result = scalarizer_optimum(problem, Linear(), preferences)
    expected = (preferences * problem.evaluate(problem.optimum(preferences))).sum(dim=1)
    torch.testing.assert_close(result.scalarized, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", [Tchebycheff, AugmentedTchebycheff, PBI])
def test_never_worse_than_a_much_finer_front(method):
    problem = ZDT1()
    scalarizer = method(ideal=problem.ideal_point)
    preferences = simplex_lattice(2, 11).double()
    result = scalarizer_optimum(problem, scalarizer, preferences, num_points=500)
    fine = problem.pareto_front(100_001)
    table = scalarizer(fine.unsqueeze(1).expand(-1, 11, -1), preferences.expand(len(fine), -1, -1))
    assert (result.scalarized <= table.amin(dim=0) + 1e-9).all()
    torch.testing.assert_close(result.scalarized, table.amin(dim=0), rtol=1e-4, atol=1e-4)


def test_a_front_without_a_set_gives_its_best_points():
    class OnlyFront(Problem):
        def __init__(self):
            super().__init__(num_variables=1, num_objectives=2)

        def evaluate(self, x):
            raise AssertionError("not needed")

        def pareto_front(self, num_points):
            return torch.tensor([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]], dtype=torch.float64)

    result = scalarizer_optimum(OnlyFront(), Linear(), [[0.5, 0.5], [0.9, 0.1]])
    torch.testing.assert_close(result.values, torch.tensor([[0.4, 0.4], [0.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(result.scalarized, torch.tensor([0.4, 0.1], dtype=torch.float64))


def test_the_same_seed_gives_the_same_optimum_and_inputs_stay():
    preferences = tensor(simplex_lattice(3, 10))
    before = preferences.clone()
    first, again = (
        scalarizer_optimum(DTLZ2(), SCALARIZERS.make("pbi", ideal=[0, 0, 0]), preferences) for _ in range(2)
    )
    assert torch.equal(first.values, again.values)
    assert torch.equal(preferences, before)


def test_a_problem_without_a_known_front_is_refused():
    class Unknown(Problem):
        def __init__(self):
            super().__init__(num_variables=1, num_objectives=2)

        def evaluate(self, x):
            return torch.cat([x, 1 - x], dim=-1)

    with pytest.raises(NotImplementedError, match="Pareto front of Unknown is not known"):
        scalarizer_optimum(Unknown(), Linear(), [[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"preference 0 = \[0\.5, 0\.4\] sums to 0\.9, not 1"):
        scalarizer_optimum(ZDT1(), Linear(), [[0.5, 0.4]])


def test_a_seed_that_no_generator_takes_is_refused():
    with pytest.raises(ValueError, match=f"seed is {2**64}: it must be at least"):
        scalarizer_optimum(Quadratic(torch.eye(2)), Linear(), [[0.5, 0.5]], num_points=20, seed=2**64)
