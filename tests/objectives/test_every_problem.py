"""What every problem keeps to: batches, types, gradients, its front.

Training on them: tests/known_fronts/test_synthetic_fronts.py.
"""

import math
import subprocess
import sys

import moocore
import pytest
import torch
from _tensors import DEVICE, tolerance
from synthetic_problems import PROBLEMS, label, random_x

from mopref.objectives import (
    DTLZ1,
    DTLZ2,
    DTLZ3,
    DTLZ4,
    VLMOP1,
    VLMOP2,
    ZDT1,
    ZDT2,
    ZDT3,
    ZDT4,
    ZDT6,
    InvertedDTLZ1,
    ScaledZDT1,
)

# Zero on the front, positive above it.
IMPLICIT = {
    ZDT1: lambda f: f[:, 1] + f[:, 0].sqrt() - 1,
    ScaledZDT1: lambda f: f[:, 1] / 100 + f[:, 0].sqrt() - 1,
    ZDT2: lambda f: f[:, 1] + f[:, 0] ** 2 - 1,
    ZDT3: lambda f: f[:, 1] + f[:, 0].sqrt() + f[:, 0] * torch.sin(10 * math.pi * f[:, 0]) - 1,
    ZDT4: lambda f: f[:, 1] + f[:, 0].sqrt() - 1,
    ZDT6: lambda f: f[:, 1] + f[:, 0] ** 2 - 1,
    VLMOP1: lambda f: f.sqrt().sum(dim=1) - 1,
    VLMOP2: lambda f: (-torch.log1p(-f)).clamp(min=0).sqrt().sum(dim=1) - 2,
    DTLZ1: lambda f: f.sum(dim=1) - 0.5,
    InvertedDTLZ1: lambda f: f.sum(dim=1) - (f.shape[1] - 1) / 2,
    **dict.fromkeys((DTLZ2, DTLZ3, DTLZ4), lambda f: f.square().sum(dim=1) - 1),
}
KNOWN = [problem for problem in PROBLEMS if type(problem) in IMPLICIT]


# -- values --


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_a_batch_equals_the_loop_over_its_rows(problem):
    x = random_x(problem, 5)
    rows = torch.cat([problem.evaluate(row.unsqueeze(0)) for row in x])
    torch.testing.assert_close(problem.evaluate(x), rows, rtol=tolerance(1e-13), atol=tolerance(1e-13))


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_float32_and_float64_agree_and_keep_their_type(problem):
    x = random_x(problem, 50, dtype=torch.float64)
    single = problem.evaluate(x.float())
    assert problem.evaluate(x).dtype == torch.float64
    assert single.dtype == torch.float32
    assert single.device == x.device
    torch.testing.assert_close(single.double(), problem.evaluate(x.float().double()), rtol=1e-4, atol=1e-4)


# -- gradients --


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_gradients_are_right_inside(problem):
    x = random_x(problem, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(problem.evaluate, (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_gradients_are_finite_in_the_corners_and_on_the_pareto_set(problem, dtype):
    lower, upper = problem.bounds.to(dtype)
    picks = torch.rand(20, problem.num_variables, generator=torch.Generator().manual_seed(0)) < 0.5
    zero = torch.zeros_like(lower).clamp(lower, upper)
    best = problem.pareto_set(50).to(dtype)
    corners = torch.cat([torch.where(picks, lower, upper), lower[None], upper[None], zero[None], best])
    corners = corners.to(DEVICE).requires_grad_()
    values = problem.evaluate(corners)
    for objective in range(problem.num_objectives):
        (gradient,) = torch.autograd.grad(values[:, objective].sum(), corners, retain_graph=True)
        assert gradient.isfinite().all()


# -- fronts, float64 on the CPU --


@pytest.mark.parametrize("problem", KNOWN, ids=label)
def test_the_front_is_on_the_front_and_non_dominated(problem):
    front = problem.pareto_front(211)
    assert front.dtype == torch.float64
    assert problem.ideal_point.dtype == problem.nadir_point.dtype == torch.float64
    assert 0 < len(front) <= 211
    assert IMPLICIT[type(problem)](front).abs().max() < 1e-12
    assert moocore.is_nondominated(front.numpy(), keep_weakly=True).all()
    torch.testing.assert_close(front.amin(dim=0), problem.ideal_point, atol=1e-12, rtol=0)
    torch.testing.assert_close(front.amax(dim=0), problem.nadir_point, atol=1e-12, rtol=0)


@pytest.mark.parametrize("problem", KNOWN, ids=label)
def test_nothing_lies_below_the_front(problem):
    anywhere, best = random_x(problem, 2000, dtype=torch.float64).cpu(), problem.pareto_set(100)
    close = torch.lerp(
        best[torch.arange(2000) % len(best)], anywhere, 10 ** -torch.linspace(0, 6, 2000).double()[:, None]
    )
    values = problem.evaluate(torch.cat([anywhere, close])).minimum(problem.nadir_point)
    assert IMPLICIT[type(problem)](values).min() > -1e-9


@pytest.mark.parametrize("problem", KNOWN, ids=label)
def test_between_neighbours_in_the_pareto_set_lies_the_pareto_set(problem):
    x = problem.pareto_set(200)
    values = problem.evaluate((x[1:] + x[:-1]) / 2)
    if isinstance(problem, ZDT3):
        # Four gaps in its set.
        values = values[(x[1:] - x[:-1]).amax(dim=1) < 0.1]
        assert len(values) == len(x) - 1 - 4
    assert IMPLICIT[type(problem)](values).abs().max() < 1e-12


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_the_pareto_set_maps_to_the_front_and_lies_inside_the_bounds(problem):
    x = problem.pareto_set(40)
    lower, upper = problem.bounds
    assert ((x >= lower) & (x <= upper)).all()
    torch.testing.assert_close(problem.evaluate(x), problem.pareto_front(40), atol=1e-12, rtol=0)


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_a_front_of_too_few_points_is_refused(problem):
    with pytest.raises(ValueError, match="ask for at least"):
        problem.pareto_front(1)


# -- the package --


def test_importing_the_objectives_stays_light():
    code = (
        "import sys, mopref.objectives as o; o.ZDT1; o.DTLZ2; import mopref.objectives.real_world; "
        "heavy = ('transformers', 'datasets', 'matplotlib', 'pymoo', 'moocore', 'scipy'); "
        "print([m for m in heavy if m in sys.modules]); "
        "assert 'DPO' in dir(o)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
