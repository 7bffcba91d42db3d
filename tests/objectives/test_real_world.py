"""Real-world problems: values that a public implementation of the suite has, gradients, fronts by formula."""

import math

import moocore
import pytest
import torch
from _tensors import tensor, tolerance
from scipy.optimize import minimize
from synthetic_problems import label

from mopref.objectives import RE21, RE24, RE33, RE37


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
    values = problem.evaluate(tensor([x]))
    torch.testing.assert_close(values, tensor([expected]), rtol=tolerance(1e-12), atol=tolerance(1e-12))


@pytest.mark.parametrize(
    ("problem", "lower", "upper"),
    [
        (RE21(), [1, math.sqrt(2), math.sqrt(2), 1], [3, 3, 3, 3]),
        (RE24(), [0.5, 0.5], [4, 50]),
        (RE33(), [55, 75, 1000, 11], [80, 110, 3000, 20]),
        (RE37(), [0] * 4, [1] * 4),
    ],
    ids=label,
)
def test_bounds_of_the_suite(problem, lower, upper):
    assert problem.bounds.tolist() == [lower, upper]


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_radii_have_finite_values_and_gradients(dtype):
    x = tensor([[77.0, 77.0, 2000.0, 15.0], [77.0, 77.0 + 1e-9, 2000.0, 15.0]], dtype).requires_grad_()
    values = RE33().evaluate(x)
    assert values.isfinite().all()
    assert (values[:, 2] > 1e6).all()
    for objective in range(3):
        (gradient,) = torch.autograd.grad(values[:, objective].sum(), x, retain_graph=True)
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("problem", "point"), [(RE21(), 0.3), (RE21(), 0.9), (RE24(), 0.1), (RE24(), 0.6)], ids=label)
def test_the_front_holds_the_least_of_one_objective_at_every_value_of_the_other(problem, point):
    # A convex problem with the first objective held: sequential quadratic programming finds its only minimum.
    front, x = problem.pareto_front(4001), problem.pareto_set(4001)
    target = front[int(point * 4000)]
    scale = (problem.nadir_point - problem.ideal_point).numpy()
    lower, upper = problem.bounds.numpy()

    def objective(unit, index):
        return problem.evaluate(torch.from_numpy(lower + (upper - lower) * unit)[None])[0, index].item() / scale[index]

    held = {"type": "ineq", "fun": lambda unit: target[0].item() / scale[0] - objective(unit, 0)}
    start = (x[2000].numpy() - lower) / (upper - lower)
    least = minimize(
        objective, start, args=(1,), bounds=[(0, 1)] * len(lower), constraints=held, method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    assert least.fun == pytest.approx(target[1].item() / scale[1], abs=2e-6)


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


@pytest.mark.parametrize("problem", [RE21(), RE24()], ids=label)
def test_steps_along_a_front_are_even(problem):
    front = problem.pareto_front(101)
    steps = (front / (problem.nadir_point - problem.ideal_point)).diff(dim=0)
    lengths = torch.linalg.vector_norm(steps, dim=1)
    # Without the steps that cut a corner short.
    inside = lengths.sort().values[4:-4]
    assert inside[-1] / inside[0] < 1.02
