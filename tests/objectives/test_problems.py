"""Synthetic problems: values, fronts, gradients, refusals. Training on them: tests/test_synthetic_fronts.py."""

import math
import subprocess
import sys

import moocore
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import nn

from mopref.bounds import box_bounds
from mopref.objectives import DTLZ2, VLMOP2, ZDT1, ZDT2, Problem, Quadratic

torch_double = torch.float64
SEEDS = st.integers(0, 2**31 - 1)
# Zero on the front, positive above it.
IMPLICIT = {
    ZDT1: lambda f: f[:, 1] + f[:, 0].sqrt() - 1,
    ZDT2: lambda f: f[:, 1] + f[:, 0] ** 2 - 1,
    VLMOP2: lambda f: (-torch.log1p(-f)).clamp(min=0).sqrt().sum(dim=1) - 2,
    DTLZ2: lambda f: f.square().sum(dim=1) - 1,
}
PROBLEMS = [
    ZDT1(),
    ZDT1(2),
    ZDT2(),
    ZDT2(7),
    VLMOP2(),
    VLMOP2(1),
    DTLZ2(),
    DTLZ2(2, 2),
    DTLZ2(4, 9),
    Quadratic([[0.0, 0.0], [1.0, 0.5], [0.0, 2.0]]),
    Quadratic([[0.0, 0.0], [1.0, 0.5]], [[[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.5], [0.5, 1.0]]]),
]
KNOWN = [problem for problem in PROBLEMS if type(problem) in IMPLICIT]


def label(problem):
    return f"{type(problem).__name__}-m{problem.num_objectives}-n{problem.num_variables}"


def random_x(problem, rows, seed=0, dtype=torch_double):
    generator = torch.Generator().manual_seed(seed)
    lower, upper = problem.bounds
    return (lower + (upper - lower) * torch.rand(rows, problem.num_variables, generator=generator).double()).to(dtype)


def hypervolume(front, reference):
    return moocore.hypervolume(front.numpy(), ref=[reference] * front.shape[1])


# -- values --


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 30), name=st.sampled_from(["zdt1", "zdt2"]))
def test_zdt_values_equal_pymoo(seed, n, name):
    from pymoo.problems import get_problem

    problem = {"zdt1": ZDT1, "zdt2": ZDT2}[name](n)
    x = random_x(problem, 8, seed)
    x[0], x[1], x[2, 0] = 0, 1, 0
    np.testing.assert_allclose(problem.evaluate(x), get_problem(name, n_var=n).evaluate(x.numpy()), atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, m=st.integers(2, 6), extra=st.integers(0, 10))
def test_dtlz2_values_equal_pymoo(seed, m, extra):
    from pymoo.problems import get_problem

    problem = DTLZ2(m, m + extra)
    x = random_x(problem, 8, seed)
    x[0], x[1] = 0, 1
    expected = get_problem("dtlz2", n_var=m + extra, n_obj=m).evaluate(x.numpy())
    np.testing.assert_allclose(problem.evaluate(x), expected, atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 30))
def test_vlmop2_values_equal_the_formula(seed, n):
    x = random_x(VLMOP2(n), 8, seed).numpy()
    expected = [
        [1 - math.exp(-sum((v + sign / math.sqrt(n)) ** 2 for v in row)) for sign in (-1, 1)] for row in x.tolist()
    ]
    np.testing.assert_allclose(VLMOP2(n).evaluate(torch.tensor(x)), expected, atol=1e-12)


def test_pinned_values():
    x = torch.tensor([[0.25, 0.5, 0.5]], dtype=torch_double)
    # g = 1 + 9 · ½ = 5.5
    torch.testing.assert_close(ZDT1(3).evaluate(x)[0], torch.tensor([0.25, 5.5 - math.sqrt(0.25 * 5.5)]).double())
    torch.testing.assert_close(ZDT2(3).evaluate(x)[0], torch.tensor([0.25, 5.5 - 0.25**2 / 5.5]).double())
    centres = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    values = Quadratic(centres, [[[2.0, 1.0], [1.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]]]).evaluate(
        torch.tensor([[1.0, 2.0]])
    )
    assert values.tolist() == [[18.0, 1.0]]


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_a_batch_equals_the_loop_over_its_rows(problem):
    x = random_x(problem, 5)
    rows = torch.cat([problem.evaluate(row.unsqueeze(0)) for row in x])
    torch.testing.assert_close(problem.evaluate(x), rows, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_float32_and_float64_agree_and_keep_their_type(problem):
    x = random_x(problem, 50)
    double, single = problem.evaluate(x), problem.evaluate(x.float())
    assert double.dtype == torch_double
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


# -- gradients --


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_gradients_are_right_inside(problem):
    x = random_x(problem, 2).requires_grad_()
    assert torch.autograd.gradcheck(problem.evaluate, (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch_double])
@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_gradients_are_finite_in_the_corners(problem, dtype):
    lower, upper = problem.bounds.to(dtype)
    picks = torch.rand(20, problem.num_variables, generator=torch.Generator().manual_seed(0)) < 0.5
    corners = torch.cat([torch.where(picks, lower, upper), lower[None], upper[None]]).requires_grad_()
    values = problem.evaluate(corners)
    for objective in range(problem.num_objectives):
        (gradient,) = torch.autograd.grad(values[:, objective].sum(), corners, retain_graph=True)
        assert gradient.isfinite().all()


def test_zdt1_at_its_infinite_slope():
    # The value is exact, the slope of f2 steep, finite and of the right sign, also a hair outside the bounds.
    x = torch.zeros(3, 4, dtype=torch_double)
    x[1, 0], x[2, 0] = 1e-12, -1e-9
    x.requires_grad_()
    values = ZDT1(4).evaluate(x)
    assert values[:, 1].tolist() == [1.0, 1.0 - 1e-6, 1.0]
    (gradient,) = torch.autograd.grad(values[:, 1].sum(), x)
    torch.testing.assert_close(gradient[:, 0], torch.full((3,), -5000.0, dtype=torch_double))


# -- fronts --


@pytest.mark.parametrize("problem", KNOWN, ids=label)
def test_the_front_is_on_the_front_and_non_dominated(problem):
    front = problem.pareto_front(211)
    assert front.dtype == torch_double
    assert 0 < len(front) <= 211
    assert IMPLICIT[type(problem)](front).abs().max() < 1e-12
    assert moocore.is_nondominated(front.numpy(), keep_weakly=True).all()
    torch.testing.assert_close(front.amin(dim=0), problem.ideal_point, atol=1e-12, rtol=0)
    torch.testing.assert_close(front.amax(dim=0), problem.nadir_point, atol=1e-12, rtol=0)


@pytest.mark.parametrize("problem", KNOWN, ids=label)
def test_nothing_lies_below_the_front(problem):
    values = problem.evaluate(random_x(problem, 2000)).clamp(0, 1)
    assert IMPLICIT[type(problem)](values).min() > -1e-9


@pytest.mark.parametrize("problem", PROBLEMS, ids=label)
def test_the_pareto_set_maps_to_the_front_and_lies_inside_the_bounds(problem):
    x = problem.pareto_set(40)
    lower, upper = problem.bounds
    assert ((x >= lower) & (x <= upper)).all()
    torch.testing.assert_close(problem.evaluate(x), problem.pareto_front(40), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("problem", "exact"),
    [(ZDT1(), 0.876667), (ZDT2(), 0.543333), (VLMOP2(), 0.552114), (DTLZ2(2), 1.21 - math.pi / 4)],
    ids=lambda value: label(value) if isinstance(value, Problem) else "",
)
def test_hypervolume_of_the_front(problem, exact):
    assert hypervolume(problem.pareto_front(20_001), 1.1) == pytest.approx(exact, abs=1e-4)


def test_hypervolume_of_the_sphere():
    # The staircase under a surface is too small by a multiple of the lattice's step, which two lattices cancel.
    coarse, fine = (hypervolume(DTLZ2(3).pareto_front(math.comb(h + 2, 2)), 1.1) for h in (150, 300))
    exact = 1.331 - math.pi / 6
    assert coarse < fine < exact
    assert 2 * fine - coarse == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("problem", [ZDT1(), ZDT2(), VLMOP2(), DTLZ2(), PROBLEMS[-1]], ids=label)
def test_a_front_of_too_few_points_is_refused(problem):
    with pytest.raises(ValueError, match="ask for at least"):
        problem.pareto_front(1)


# -- quadratics --


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, m=st.integers(2, 4), n=st.integers(1, 4), identity=st.booleans())
def test_the_optimum_of_a_quadratic_equals_a_numerical_one(seed, m, n, identity):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(m, n, generator=generator).double()
    root = torch.randn(m, n, n, generator=generator).double()
    matrices = None if identity else root @ root.mT + 0.5 * torch.eye(n, dtype=torch_double)
    problem = Quadratic(centers, matrices)
    weights = torch.rand(m, generator=generator).double()
    weights /= weights.sum()

    def scalarized(x):
        point = torch.tensor(x, dtype=torch_double).unsqueeze(0).requires_grad_()
        value = (weights * problem.evaluate(point)).sum()
        value.backward()
        return value.item(), point.grad[0].numpy()

    optimum = problem.optimum(weights)[0]
    found = minimize(scalarized, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(optimum, found.x, atol=1e-5)
    if identity:
        torch.testing.assert_close(optimum, weights @ centers)
    lower, upper = problem.bounds
    assert ((optimum > lower) & (optimum < upper)).all()


def test_quadratic_corners_are_the_centres_and_the_nadir_point_is_known_where_it_is_certain():
    centers = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], dtype=torch_double)
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
        (lambda: VLMOP2(0), "num_variables is 0"),
        (lambda: DTLZ2(3, 2), "3 objectives of 2 variables"),
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
        "import sys, mopref.objectives as o; o.ZDT1; o.DTLZ2; "
        "print([m for m in ('transformers', 'datasets', 'matplotlib', 'pymoo', 'accelerate') if m in sys.modules]); "
        "assert 'DPO' in dir(o)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
