"""Stored fronts: complete, locally optimal, evenly spread, known otherwise; float64 on the CPU."""

import moocore
import numpy as np
import pytest
import torch
from synthetic_problems import label

from mopref.objectives import RE33, RE37, VLMOP3
from mopref.objectives.stored_sets import StoredSetProblem

STORED = [VLMOP3(), RE33(), RE37()]
# Hypervolume of the last population of NSGA-II (400 points, 1,000 generations), objectives scaled by the stored ideal
# and nadir point, reference point 1.1: printed by benchmarks/reference_fronts.py.
EVOLVED = {"VLMOP3": 1.15347, "RE33": 1.06305, "RE37": 0.86624}


@pytest.mark.parametrize("problem", STORED, ids=label)
def test_a_stored_front_is_complete(problem):
    assert isinstance(problem, StoredSetProblem)
    x = problem.pareto_set(10_000)
    assert len(x) == 400
    assert len(x.unique(dim=0)) == 400
    lower, upper = problem.bounds
    assert ((x >= lower) & (x <= upper)).all()
    front = problem.pareto_front(10_000)
    assert front.isfinite().all()
    assert moocore.is_nondominated(front.numpy(), keep_weakly=True).all()
    scaled = (front - problem.ideal_point) / (problem.nadir_point - problem.ideal_point)
    assert scaled[:3].amin(dim=0).max() < 1e-8
    assert moocore.hypervolume(scaled.numpy(), ref=[1.1] * 3) > EVOLVED[type(problem).__name__]


@pytest.mark.parametrize("problem", STORED, ids=label)
def test_no_step_from_a_stored_point_improves_all_objectives(problem):
    x, front = problem.pareto_set(400), problem.pareto_front(400)
    lower, upper = problem.bounds
    scale = problem.nadir_point - problem.ideal_point
    generator = torch.Generator().manual_seed(0)
    for size in (1e-1, 1e-2, 1e-3, 1e-4):
        step = size * torch.randn(400, 500, x.shape[1], generator=generator).double() * (upper - lower)
        values = problem.evaluate((x[:, None] + step).clamp(lower, upper))
        assert ((front[:, None] - values) / scale).amin(dim=-1).max() < 1e-7


@pytest.mark.parametrize("problem", STORED, ids=label)
def test_the_first_stored_points_are_spread_as_evenly_as_they_can_be(problem):
    front = (problem.pareto_front(400) - problem.ideal_point) / (problem.nadir_point - problem.ideal_point)
    distances = torch.linalg.vector_norm(front[:, None] - front[None], dim=-1)
    # How far each point is from those before it falls (all but the rounding of the ranges), down to an even net.
    nearest = torch.stack([distances[i, :i].min() for i in range(3, 400)])
    assert (nearest[1:] <= 1.02 * nearest[:-1]).all()
    assert distances[50:, :50].min(dim=1).values.max() <= 1.02 * nearest[50 - 3]
    assert nearest[-1] > 0.004
    torch.testing.assert_close(problem.pareto_set(25), problem.pareto_set(400)[:25], rtol=0, atol=0)


def test_stored_points_are_not_handed_out_themselves():
    problem = RE37()
    problem.pareto_set(10).zero_()
    assert problem.pareto_set(10).abs().sum() > 0


def test_too_few_points_cannot_hold_the_best_of_each_objective():
    with pytest.raises(ValueError, match="2 points cannot hold the best of each of 3 objectives: ask for at least 3"):
        RE33().pareto_set(2)


@pytest.mark.parametrize(
    ("problem", "ideal"),
    [
        # f1 and f3 are least at 0, f2 at (−2, −1), where both its squares are 0.
        (VLMOP3(), [0.0, 15.0, -0.1]),
        # At (80, 75, ·, 20) and at (80, 110, 3000, 20).
        (RE33(), [-4.9e-5 * 775 * 19, 9.82e6 * 190 / (27_300 * 60_000), 0.0]),
        # As a public implementation of the suite has it.
        (RE37(), [0.00889341391106, 0.00488, -0.431499999825]),
    ],
    ids=label,
)
def test_the_ideal_point_of_a_stored_front_is_known_otherwise(problem, ideal):
    np.testing.assert_allclose(problem.ideal_point, ideal, atol=1e-8)
