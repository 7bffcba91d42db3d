"""Whole fronts: ParetoTrainer with ParetoSetModel against the exact optimum of the same preferences.

Measured over 16 seeds of 500 steps, least of all: ZDT1 .9995, ZDT2 .9988, VLMOP2 .9991, DTLZ2 .9976 of the exact
optimum's hypervolume. A ratio above 1 is possible: points off their own ray may be spread better.
"""

import moocore
import numpy as np
import pytest
import torch
from exact_fronts import exact_optimum

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig, simplex_lattice
from mopref.known_fronts.oracle import scalarizer_optimum
from mopref.objectives import DTLZ2, VLMOP2, ZDT1, ZDT2, Quadratic
from mopref.scalarizers import Linear, ModifiedTchebycheff, SmoothTchebycheff

EPSILON = 1e-3
PROBLEMS = {
    "ZDT1": ZDT1(num_variables=10),
    "ZDT2": ZDT2(num_variables=10),
    "VLMOP2": VLMOP2(num_variables=10),
    "DTLZ2": DTLZ2(num_objectives=3, num_variables=12),
}


def hypervolume(values):
    return moocore.hypervolume(np.asarray(values, dtype=np.float64), ref=[1.1] * values.shape[1])


def trained(problem, scalarizer, seed=0, steps=500, **settings):
    settings = {"preferences_per_step": 64, "learning_rate": 5e-3, "log_every": steps} | settings
    config = TrainerConfig(steps=steps, seed=seed, cpu=True, progress=False, **settings)
    trainer = ParetoTrainer(ParetoSetModel.for_problem(problem, seed=seed), problem, scalarizer, config=config)
    trainer.train()
    return trainer


def check_recovery(name, seed):
    problem = PROBLEMS[name]
    preferences = simplex_lattice(problem.num_objectives, 105)
    exact = exact_optimum(problem, preferences, EPSILON)
    scalarizer = ModifiedTchebycheff(ideal=problem.ideal_point, epsilon=EPSILON, convention="ray")
    front = trained(problem, scalarizer, seed).front(preferences)
    assert hypervolume(front.values) / hypervolume(exact) >= 0.99
    assert not front.is_collapsed()
    # Not only the front as a whole: each preference reaches its own point (medians up to .036, largest up to .12).
    distances = np.linalg.norm(front.values - exact, axis=1)
    assert np.median(distances) < 0.06
    assert distances.max() < 0.2


@pytest.mark.parametrize("name", PROBLEMS)
def test_training_recovers_the_front(name):
    check_recovery(name, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_seed_recovers_the_front(name, seed):
    check_recovery(name, seed)


@pytest.mark.parametrize("name", ["ZDT2", "DTLZ2"])
def test_no_collapse_without_gradient_clipping(name):
    # Weights 1/λ up to 1,000 then reach the optimiser as they are; this is where plain networks become one point.
    problem = PROBLEMS[name]
    preferences = simplex_lattice(problem.num_objectives, 105)
    scalarizer = ModifiedTchebycheff(ideal=problem.ideal_point, epsilon=EPSILON, convention="ray")
    front = trained(problem, scalarizer, max_grad_norm=None).front(preferences)
    assert hypervolume(front.values) / hypervolume(exact_optimum(problem, preferences, EPSILON)) >= 0.97


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_exact_optimum_minimises_the_scalarizer_on_the_front(name):
    # The yardstick itself: no point of a fine front has a smaller scalarized value.
    problem = PROBLEMS[name]
    preferences = simplex_lattice(problem.num_objectives, 28).double()
    scalarizer = ModifiedTchebycheff(ideal=problem.ideal_point, epsilon=EPSILON, convention="ray")
    exact = torch.from_numpy(exact_optimum(problem, preferences, EPSILON))
    fine = problem.pareto_front(5000)
    best = scalarizer(exact, preferences)
    others = scalarizer(fine.unsqueeze(1).expand(-1, len(preferences), -1), preferences).amin(dim=0)
    assert (best <= others + 1e-9).all()
    inside = preferences.min(dim=1).values > 0.1
    torch.testing.assert_close(best[inside], others[inside], rtol=0.02, atol=0)


def check_smooth_tchebycheff(seed):
    # At its defaults on a concave front, where a plain implementation ends as one point.
    problem = PROBLEMS["ZDT2"]
    preferences = simplex_lattice(2, 101)
    scalarizer = SmoothTchebycheff()
    front = trained(problem, scalarizer, seed).front(preferences)
    own_optimum = scalarizer_optimum(problem, SmoothTchebycheff(ideal=[0, 0]), preferences)
    assert hypervolume(front.values) / hypervolume(own_optimum.values) >= 0.99
    # And that optimum is the whole front: Tchebycheff's own has .5385.
    assert hypervolume(own_optimum.values) > 0.537


def test_smooth_tchebycheff_keeps_a_concave_front():
    check_smooth_tchebycheff(seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_smooth_tchebycheff_keeps_a_concave_front_in_every_seed(seed):
    check_smooth_tchebycheff(seed)


def test_linear_scalarization_finds_only_the_corners_of_a_concave_front():
    front = trained(PROBLEMS["ZDT2"], Linear()).front(101)
    to_corner = np.minimum(*(np.linalg.norm(front.values - corner, axis=1) for corner in ([0.0, 1.0], [1.0, 0.0])))
    # A continuous model cannot jump from one corner to the other, so a few preferences lie on the way.
    assert (to_corner < 0.02).mean() >= 0.95
    # The two corners' own hypervolume is .21; the whole front's is .5433.
    assert hypervolume(front.values) < 0.35


def test_linear_scalarization_finds_the_closed_form_of_quadratics():
    problem = Quadratic([[0.0, 0.0, 0.0], [1.0, 0.0, 0.5], [0.0, 1.0, 1.0]])
    trainer = trained(problem, Linear())
    preferences = simplex_lattice(3, 66)
    with torch.no_grad():
        x = trainer.unwrapped_model(preferences).double()
    assert (x - problem.optimum(preferences)).abs().max() < 0.05


def test_the_same_seed_gives_the_same_front():
    problem = PROBLEMS["ZDT1"]
    first, again, other = (
        trained(problem, ModifiedTchebycheff(ideal=[0, 0]), seed, steps=20).front(11).values for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
