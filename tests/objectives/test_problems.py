"""What holds for every problem with a formula for its front: types, gradients, fronts, refusals; and the frame.

Values of single problems: test_synthetic_values.py, test_quadratic.py, test_real_world.py. Training on them:
tests/test_synthetic_fronts.py.
"""

import math
import subprocess
import sys

import moocore
import pytest
import torch
from torch import nn

from mopref.bounds import box_bounds
from mopref.objectives.dtlz import DTLZ1, DTLZ2, DTLZ3, DTLZ4, InvertedDTLZ1
from mopref.objectives.quadratic import Quadratic
from mopref.objectives.real_world import RE21, RE24, RE33, RE37
from mopref.objectives.vlmop import VLMOP1, VLMOP2, VLMOP3
from mopref.objectives.zdt import ZDT1, ZDT2, ZDT3, ZDT4, ZDT6, ScaledZDT1
from mopref.problem import Problem

torch_double = torch.float64
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
PROBLEMS = [
    ZDT1(),
    ZDT1(2),
    ScaledZDT1(5),
    ZDT2(),
    ZDT2(7),
    ZDT3(),
    ZDT3(3),
    ZDT4(),
    ZDT6(),
    ZDT6(2),
    VLMOP1(),
    VLMOP1(1),
    VLMOP2(),
    VLMOP2(1),
    DTLZ1(),
    DTLZ1(2, 3),
    DTLZ1(4, 4),
    InvertedDTLZ1(),
    InvertedDTLZ1(4),
    DTLZ2(),
    DTLZ2(2, 2),
    DTLZ2(4, 9),
    DTLZ3(),
    DTLZ4(),
    DTLZ4(4, 6, alpha=3),
    Quadratic([[0.0, 0.0], [1.0, 0.5], [0.0, 2.0]]),
    Quadratic([[0.0, 0.0], [1.0, 0.5]], [[[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.5], [0.5, 1.0]]]),
    RE21(),
    RE24(),
    RE33(),
    RE37(),
    VLMOP3(),
]
KNOWN = [problem for problem in PROBLEMS if type(problem) in IMPLICIT]


def label(problem):
    return f"{type(problem).__name__}-m{problem.num_objectives}-n{problem.num_variables}"


def random_x(problem, rows, seed=0, dtype=torch_double):
    generator = torch.Generator().manual_seed(seed)
    lower, upper = problem.bounds
    return (lower + (upper - lower) * torch.rand(rows, problem.num_variables, generator=generator).double()).to(dtype)


# -- values --


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_a_batch_equals_the_loop_over_its_rows(problem):
    x = random_x(problem, 5)
    rows = torch.cat([problem.evaluate(row.unsqueeze(0)) for row in x])
    torch.testing.assert_close(problem.evaluate(x), rows, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_float32_and_float64_agree_and_keep_their_type(problem):
    x = random_x(problem, 50)
    single = problem.evaluate(x.float())
    assert problem.evaluate(x).dtype == torch_double
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), problem.evaluate(x.float().double()), rtol=1e-4, atol=1e-4)


# -- gradients --


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_gradients_are_right_inside(problem):
    x = random_x(problem, 2).requires_grad_()
    assert torch.autograd.gradcheck(problem.evaluate, (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch_double])
@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_gradients_are_finite_in_the_corners_and_on_the_pareto_set(problem, dtype):
    lower, upper = problem.bounds.to(dtype)
    picks = torch.rand(20, problem.num_variables, generator=torch.Generator().manual_seed(0)) < 0.5
    zero = torch.zeros_like(lower).clamp(lower, upper)
    best = problem.pareto_set(50).to(dtype)
    corners = torch.cat([torch.where(picks, lower, upper), lower[None], upper[None], zero[None], best]).requires_grad_()
    values = problem.evaluate(corners)
    for objective in range(problem.num_objectives):
        (gradient,) = torch.autograd.grad(values[:, objective].sum(), corners, retain_graph=True)
        assert gradient.isfinite().all()


# -- fronts --


@pytest.mark.parametrize("problem", KNOWN, ids=label)
def test_the_front_is_on_the_front_and_non_dominated(problem):
    front = problem.pareto_front(211)
    assert front.dtype == torch_double
    assert problem.ideal_point.dtype == problem.nadir_point.dtype == torch_double
    assert 0 < len(front) <= 211
    assert IMPLICIT[type(problem)](front).abs().max() < 1e-12
    assert moocore.is_nondominated(front.numpy(), keep_weakly=True).all()
    torch.testing.assert_close(front.amin(dim=0), problem.ideal_point, atol=1e-12, rtol=0)
    torch.testing.assert_close(front.amax(dim=0), problem.nadir_point, atol=1e-12, rtol=0)


@pytest.mark.parametrize("problem", KNOWN, ids=label)
def test_nothing_lies_below_the_front(problem):
    anywhere, best = random_x(problem, 2000), problem.pareto_set(100)
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


# -- the frame --


class Parabolas(Problem):
    def __init__(self):
        super().__init__(num_variables=1, num_objectives=2, bounds=(-2.0, 2.0))

    def evaluate(self, x):
        return torch.cat([x**2, (x - 1) ** 2], dim=-1)


class Constant(nn.Module):
    """Returns the same x, whatever the preferences."""

    def __init__(self, x):
        super().__init__()
        self.x = torch.as_tensor(x)

    def forward(self, preferences):
        return self.x


def test_a_user_defined_problem_needs_no_more_than_evaluate():
    problem = Parabolas()
    assert problem.names == ("f1", "f2")
    assert problem.num_objectives == 2
    assert problem.num_variables == 1
    assert problem.bounds.tolist() == [[-2.0], [2.0]]
    assert problem.ideal_point is None
    assert problem.nadir_point is None
    losses = problem.losses(Constant([[2.0], [0.5]]), None, torch.eye(2))
    assert losses.tolist() == [[4.0, 1.0], [0.25, 0.25]]
    with pytest.raises(NotImplementedError, match="Pareto front of Parabolas"):
        problem.pareto_front(10)
    with pytest.raises(NotImplementedError, match="Pareto set of Parabolas"):
        problem.pareto_set(10)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0.0]], r"shape \(1, 1\), not \(2, 1\)"),
        ([[0.0, 1.0], [0.0, 1.0]], r"shape \(2, 2\), not \(2, 1\)"),
        ([0.0, 1.0], r"shape \(2,\), not \(2, 1\)"),
        ([[0.0], [2.1]], r"row 1 .* 2\.1 for variable 0, outside Parabolas's bounds \[-2, 2\]"),
        ([[-3.0], [0.0]], "row 0 .* -3 for variable 0"),
    ],
)
def test_a_models_output_is_checked(x, message):
    with pytest.raises(ValueError, match=message):
        Parabolas().losses(Constant(x), None, torch.eye(2))


def test_rounding_at_a_bound_is_allowed():
    Parabolas().losses(Constant([[2.00001], [-2.00001]]), None, torch.eye(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZDT1(1), "num_variables is 1: ZDT1 needs at least 2"),
        (lambda: ZDT4(1), "num_variables is 1: ZDT4 needs at least 2"),
        (lambda: ZDT6(0), "num_variables is 0: ZDT6 needs at least 2"),
        (lambda: ScaledZDT1(5, (1.0,)), r"scales are \[1.0\]: ScaledZDT1 needs two finite numbers above 0"),
        (lambda: ScaledZDT1(5, (1.0, 0.0)), r"scales are \[1.0, 0.0\]"),
        (lambda: ScaledZDT1(5, (math.inf, 1.0)), r"scales are \[inf, 1.0\]"),
        (lambda: VLMOP1(0), "num_variables is 0"),
        (lambda: VLMOP2(0), "num_variables is 0"),
        (lambda: DTLZ1(3, 2), "DTLZ1 was asked for 3 objectives of 2 variables"),
        (lambda: DTLZ2(3, 2), "DTLZ2 was asked for 3 objectives of 2 variables"),
        (lambda: DTLZ4(alpha=0), "alpha is 0: the power of DTLZ4 must be a whole number of at least 1"),
        (lambda: DTLZ4(alpha=2.5), "alpha is 2.5"),
        (lambda: DTLZ4(alpha=math.nan), "alpha is nan"),
        (lambda: DTLZ2(1, 5), "at least 2"),
        (lambda: box_bounds((1.0, 0.0), 2), "variable 0 has the bounds 1 and 0"),
        (lambda: box_bounds((0.0, math.inf), 2), "finite"),
        (lambda: box_bounds((0.0, [1.0, 2.0]), 3), r"upper bounds have shape \(2,\), but there are 3 variables"),
        (lambda: box_bounds([(0.0, 1.0)] * 3, 3), r"3 entries: give the pair \(lower, upper\)"),
    ],
)
def test_impossible_problems_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_names_are_counted():
    class Named(Parabolas):
        def __init__(self):
            Problem.__init__(self, 1, 2, names=("cost",))

    with pytest.raises(ValueError, match=r"2 objectives, but 1 names \(cost\)"):
        Named()


def test_bounds_per_variable():
    assert box_bounds(([0.0, -1.0], 1.0), 2).tolist() == [[0.0, -1.0], [1.0, 1.0]]
    given = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    torch.testing.assert_close(box_bounds(given, 2), given.double())


def test_importing_the_objectives_stays_light():
    code = (
        "import sys, mopref.objectives as o; o.ZDT1; o.DTLZ2; import mopref.objectives.real_world; "
        "heavy = ('transformers', 'datasets', 'matplotlib', 'pymoo', 'moocore', 'scipy', 'accelerate'); "
        "print([m for m in heavy if m in sys.modules]); "
        "assert 'DPO' in dir(o)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
