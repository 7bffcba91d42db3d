"""Global search and warm start: optima that gradients do not find, feasibility, determinism."""

import pytest
import torch
from _tensors import tensor

from mopref import ParetoSetModel, simplex_lattice
from mopref.indicators import hypervolume
from mopref.known_fronts.global_search import global_search, warm_start
from mopref.known_fronts.oracle import scalarizer_optimum
from mopref.objectives import DTLZ1, ZDT3, ZDT4, Problem, Quadratic
from mopref.scalarizers import Linear, ModifiedTchebycheff


class Counted(Problem):
    """Two parabolas with their optima at the bounds; counts evaluations and records how far x went."""

    def __init__(self):
        super().__init__(num_variables=3, num_objectives=2, bounds=([-1.0, 0.0, 2.0], [0.0, 5.0, 3.0]))
        self.count, self.least, self.most = 0, self.bounds[0].clone(), self.bounds[1].clone()

    def evaluate(self, x):
        self.count += len(x)
        self.least, self.most = torch.minimum(self.least, x.amin(0)), torch.maximum(self.most, x.amax(0))
        return torch.stack([(x - self.bounds[0]).square().sum(-1), (x - self.bounds[1]).square().sum(-1)], dim=-1)


def tchebycheff(problem):
    return ModifiedTchebycheff(ideal=problem.ideal_point)


@pytest.mark.parametrize("problem", [ZDT3(10), ZDT4(10), DTLZ1(3)], ids=lambda problem: type(problem).__name__)
def test_finds_the_global_optimum_of_multimodal_problems(problem):
    preferences = simplex_lattice(problem.num_objectives, 66)
    scalarizer = tchebycheff(problem)
    exact = scalarizer_optimum(problem, scalarizer, preferences)
    result = global_search(problem, scalarizer, preferences, generations=500)
    reference = problem.ideal_point + 1.1 * (problem.nadir_point - problem.ideal_point)
    assert hypervolume(result.values, reference) / hypervolume(exact.values, reference) >= 0.995


def test_the_optimum_of_a_convex_problem_is_the_closed_form():
    problem = Quadratic([[0.0, 0.0], [1.0, 0.5], [0.2, 1.0]])
    preferences = simplex_lattice(3, 21).double()
    result = global_search(problem, Linear(), preferences, generations=300)
    torch.testing.assert_close(result.x, problem.optimum(preferences), rtol=0, atol=0.02)


def test_points_stay_inside_the_bounds_and_belong_to_their_values():
    problem = Counted()
    result = global_search(problem, Linear(), simplex_lattice(2, 12), generations=20)
    assert problem.count == result.evaluations == 12 * 21
    assert torch.equal(problem.least, problem.bounds[0])
    assert torch.equal(problem.most, problem.bounds[1])
    assert torch.equal(problem.evaluate(result.x), result.values)
    # The corners of the simplex want a corner of the box each.
    torch.testing.assert_close(result.x[[-1, 0]], problem.bounds, rtol=0, atol=0.1)


def test_more_generations_are_never_worse():
    problem = ZDT4(10)
    preferences = simplex_lattice(2, 20).double()
    scalarizer = tchebycheff(problem)
    reached = [
        scalarizer(global_search(problem, scalarizer, preferences, generations).values, preferences)
        for generations in (0, 5, 50)
    ]
    assert (reached[1] <= reached[0]).all()
    assert (reached[2] <= reached[1]).all()


def test_a_seed_gives_the_same_search_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, again, other = (
        global_search(ZDT3(), Linear(), simplex_lattice(2, 10), 10, seed=seed).x for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_tracked_ideal_point_sees_the_trials():
    scalarizer = ModifiedTchebycheff()
    result = global_search(Quadratic([[0.0, 0.0], [1.0, 1.0]]), scalarizer, simplex_lattice(2, 10), 50)
    assert (scalarizer.ideal_point <= result.values.amin(dim=0)).all()


def test_warm_start_puts_the_model_where_the_search_ended():
    problem = ZDT4(5)
    model = ParetoSetModel.for_problem(problem, hidden=(64, 64))
    preferences = simplex_lattice(2, 40)
    before = problem.evaluate(model(preferences).double()).sum(dim=1).mean()
    result = warm_start(model, problem, tchebycheff(problem), num_preferences=40, generations=200, fit_steps=200)
    with torch.no_grad():
        x = model(preferences).double()
    assert (x - result.x).abs().max() < 0.1
    assert problem.evaluate(x).sum(dim=1).mean() < 0.1 * before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_too_few_or_wrong_preferences_are_refused():
    with pytest.raises(
        ValueError, match="3 preferences make too small a population: differential evolution needs at least 4"
    ):
        global_search(ZDT3(), Linear(), simplex_lattice(2, 3))
    with pytest.raises(ValueError, match=r"preference 0 = \[1\.0, 1\.0\] sums to 2, not 1"):
        global_search(ZDT3(), Linear(), tensor(torch.ones(10, 2)))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_seeds_that_no_generator_takes_are_refused(seed):
    problem = Quadratic(torch.eye(2))
    with pytest.raises(ValueError, match=f"seed is {seed}: it must be at least"):
        global_search(problem, Linear(), simplex_lattice(2, 4), generations=1, seed=seed)


@pytest.mark.parametrize("learning_rate", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_learning_rate_that_fits_nothing_is_refused_before_the_search(learning_rate):
    problem = Counted()
    with pytest.raises(ValueError, match=r"learning_rate is .*: it is that of Adam, so it must be > 0"):
        warm_start(ParetoSetModel.for_problem(problem, hidden=(4,)), problem, Linear(), learning_rate=learning_rate)
    assert problem.count == 0
