"""Real-world problems: values that a public implementation of the suite has, fronts by formula, and stored fronts."""

import math

import moocore
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mopref.objectives.real_world import RE21, RE24, RE33, RE37
from mopref.objectives.stored_sets import StoredSetProblem
from mopref.objectives.vlmop import VLMOP3
from mopref.problem import Problem

torch_double = torch.float64
STORED = [VLMOP3(), RE33(), RE37()]


def label(value):
    return type(value).__name__ if isinstance(value, Problem) else ""


# -- values --


@pytest.mark.parametrize(
    ("problem", "x", "expected"),
    [
        (RE21(), [1.5, 2, 2.5, 1.25], [1731.9131909660762, 0.03216176045807952]),
        (RE21(), [3, 1.75, 1.5, 2.75], [2489.923721108901, 0.011245653820588042]),
        (RE21(), [1, 3, 2, 2], [1931.3708498984759, 0.02528595479208969]),
        (RE24(), [1, 2], [241.0, 3.2142857142857144]),
        (RE24(), [0.75, 0.5], [60.75, 27.045079365079363]),
        (RE24(), [2, 30], [3602.0, 0.0]),
        (RE24(), [3.5, 1.5], [183.5, 1.891156462585034]),
        (RE33(), [60, 90, 2000, 15], [3.0870000000000006, 2.871345029239766, 0.0]),
        # The inner radius is the larger one.
        (RE33(), [78, 76, 1500, 12.5], [-0.17355800000000002, 4.534232816130725, 22.0]),
        # The distance, the pressure and the temperature are violated.
        (RE33(), [70, 80, 2900, 18], [1.2495000000000003, 1.6697272665442426, 10.215711252653929]),
        (RE33(), [57, 76, 3000, 20], [2.3526370000000005, 1.6296823138928402, 1.0]),
        (RE37(), [0.1, 0.2, 0.3, 0.4], [0.5592273999999998, 0.355116, 0.718815]),
        (RE37(), [0.9, 0.35, 0.6, 0.05], [0.6897446999999999, 0.30719525000000003, 0.10415849999999989]),
        (RE37(), [1, 1, 1, 1], [0.20513999999999996, 0.8773999999999998, 0.2837999999999997]),
    ],
    ids=label,
)
def test_values_of_the_suite(problem, x, expected):
    values = problem.evaluate(torch.tensor([x], dtype=torch_double))
    torch.testing.assert_close(values, torch.tensor([expected], dtype=torch_double), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("problem", "lower", "upper"),
    [
        (RE21(), [1, math.sqrt(2), math.sqrt(2), 1], [3, 3, 3, 3]),
        (RE24(), [0.5, 0.5], [4, 50]),
        (RE33(), [55, 75, 1000, 11], [80, 110, 3000, 20]),
        (RE37(), [0] * 4, [1] * 4),
        (VLMOP3(), [-3, -3], [3, 3]),
    ],
    ids=label,
)
def test_bounds_of_the_suite(problem, lower, upper):
    assert problem.bounds.tolist() == [lower, upper]


# -- gradients --


@pytest.mark.parametrize("problem", [RE24(), RE33()], ids=label)
def test_descent_on_the_violation_alone_ends_at_an_allowed_design(problem):
    lower, upper = problem.bounds
    unit = torch.rand(20, problem.num_variables, generator=torch.Generator().manual_seed(0)).double()
    if isinstance(problem, RE33):
        # Radii of 70 to 80 and of 83 to 94: apart, and most of them too close.
        unit[:, 0], unit[:, 1] = 0.6 + 0.4 * unit[:, 0], 0.25 + 0.3 * unit[:, 1]
    unit.requires_grad_()
    optimizer = torch.optim.Adam([unit], lr=0.02)
    first = problem.evaluate(lower + (upper - lower) * unit)[:, -1]
    assert (first > 0).any()
    for _ in range(200):
        optimizer.zero_grad()
        problem.evaluate(lower + (upper - lower) * unit)[:, -1].sum().backward()
        optimizer.step()
        with torch.no_grad():
            unit.clamp_(0, 1)
    assert problem.evaluate(lower + (upper - lower) * unit)[:, -1].max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch_double])
def test_equal_radii_have_finite_values_and_gradients(dtype):
    x = torch.tensor([[77.0, 77.0, 2000.0, 15.0], [77.0, 77.0 + 1e-9, 2000.0, 15.0]], dtype=dtype).requires_grad_()
    values = RE33().evaluate(x)
    assert values.isfinite().all()
    assert (values[:, 2] > 1e6).all()
    for objective in range(3):
        (gradient,) = torch.autograd.grad(values[:, objective].sum(), x, retain_graph=True)
        assert gradient.isfinite().all()


# -- fronts by formula --


@pytest.mark.parametrize(("problem", "point"), [(RE21(), 0.3), (RE21(), 0.9), (RE24(), 0.1), (RE24(), 0.6)], ids=label)
def test_the_front_holds_the_least_of_one_objective_at_every_value_of_the_other(problem, point):
    # A convex problem with the first objective held: sequential quadratic programming finds its only minimum.
    front, x = problem.pareto_front(4001), problem.pareto_set(4001)
    chosen = front[int(point * 4000)]
    scale = (problem.nadir_point - problem.ideal_point).numpy()
    lower, upper = problem.bounds.numpy()

    def objective(unit, index):
        return problem.evaluate(torch.from_numpy(lower + (upper - lower) * unit)[None])[0, index].item() / scale[index]

    held = {"type": "ineq", "fun": lambda unit: chosen[0].item() / scale[0] - objective(unit, 0)}
    start = (x[2000].numpy() - lower) / (upper - lower)
    found = minimize(
        objective, start, args=(1,), bounds=[(0, 1)] * len(lower), constraints=held, method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    assert found.fun == pytest.approx(chosen[1].item() / scale[1], abs=2e-6)


@pytest.mark.parametrize("problem", [RE21(), RE24()], ids=label)
def test_the_front_by_formula_is_non_dominated_and_nothing_dominates_it(problem):
    front = problem.pareto_front(1001)
    assert len(front) == 1001
    assert moocore.is_nondominated(front.numpy(), keep_weakly=True).all()
    torch.testing.assert_close(front.amin(dim=0), problem.ideal_point)
    torch.testing.assert_close(front.amax(dim=0), problem.nadir_point)
    generator = torch.Generator().manual_seed(0)
    lower, upper = problem.bounds
    x = lower + (upper - lower) * torch.rand(20_000, len(lower), generator=generator).double() ** 4
    values = problem.evaluate(x)
    scale = problem.nadir_point - problem.ideal_point
    excess = ((front[::20, None] - values[None]) / scale).amin(dim=-1)
    assert excess.max() < 1e-9


# -- stored fronts --

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
