"""The ZDT, DTLZ and VLMOP problems: values against pymoo and by hand, slopes, hypervolumes, spread."""

import itertools
import math

import moocore
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize_scalar

from mopref.objectives.dtlz import DTLZ1, DTLZ2, DTLZ3, DTLZ4, InvertedDTLZ1
from mopref.objectives.even_points import even_along
from mopref.objectives.real_world import RE21, RE24
from mopref.objectives.vlmop import VLMOP1, VLMOP2, VLMOP3
from mopref.objectives.zdt import _ZDT3_PIECES, ZDT1, ZDT2, ZDT3, ZDT4, ZDT6, ScaledZDT1
from mopref.problem import Problem

torch_double = torch.float64
SEEDS = st.integers(0, 2**31 - 1)


def label(value):
    return type(value).__name__ if isinstance(value, Problem) else ""


def random_x(problem, rows, seed=0, dtype=torch_double):
    generator = torch.Generator().manual_seed(seed)
    lower, upper = problem.bounds
    return (lower + (upper - lower) * torch.rand(rows, problem.num_variables, generator=generator).double()).to(dtype)


def hypervolume(front, reference):
    return moocore.hypervolume(front.numpy(), ref=[reference] * front.shape[1])


# -- values --


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 30), maker=st.sampled_from([ZDT1, ZDT2, ZDT3, ZDT4, ZDT6]))
def test_zdt_values_equal_pymoo(seed, n, maker):
    from pymoo.problems import get_problem

    problem, peer = maker(n), get_problem(maker.__name__.lower(), n_var=n)
    lower, upper = problem.bounds
    np.testing.assert_array_equal(lower, peer.xl)
    np.testing.assert_array_equal(upper, peer.xu)
    x = random_x(problem, 8, seed)
    x[0], x[1], x[2, 0], x[3, 1:] = lower, upper, 0, 0
    np.testing.assert_allclose(problem.evaluate(x), peer.evaluate(x.numpy()), atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    m=st.integers(2, 6),
    extra=st.integers(0, 10),
    maker=st.sampled_from([DTLZ1, InvertedDTLZ1, DTLZ2, DTLZ3, DTLZ4]),
)
def test_dtlz_values_equal_pymoo(seed, m, extra, maker):
    from pymoo.problems.many import dtlz

    problem = maker(m, m + extra)
    x = random_x(problem, 8, seed)
    x[0], x[1], x[2, m - 1 :] = 0, 1, 0.5
    peer = getattr(dtlz, maker.__name__)(n_var=m + extra, n_obj=m)
    np.testing.assert_allclose(problem.evaluate(x), peer.evaluate(x.numpy()), atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 30))
def test_vlmop_values_equal_the_formula(seed, n):
    x = random_x(VLMOP2(n), 8, seed)
    rows = x.tolist()
    expected = [[1 - math.exp(-sum((v + sign / math.sqrt(n)) ** 2 for v in row)) for sign in (-1, 1)] for row in rows]
    np.testing.assert_allclose(VLMOP2(n).evaluate(x), expected, atol=1e-12)
    expected = [[sum((v - shift) ** 2 for v in row) / (4 * n) for shift in (0, 2)] for row in rows]
    np.testing.assert_allclose(VLMOP1(n).evaluate(x), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("problem", "x", "expected"),
    [
        # g = 1 + 9 · ½ = 5.5
        (ZDT1(3), [0.25, 0.5, 0.5], [0.25, 5.5 - math.sqrt(0.25 * 5.5)]),
        (ScaledZDT1(3, (2.0, 1e-3)), [0.25, 0.5, 0.5], [0.5, (5.5 - math.sqrt(0.25 * 5.5)) / 1e3]),
        (ZDT2(3), [0.25, 0.5, 0.5], [0.25, 5.5 - 0.25**2 / 5.5]),
        # sin(2.5π) = 1
        (ZDT3(3), [0.25, 0.5, 0.5], [0.25, 5.5 - math.sqrt(0.25 * 5.5) - 0.25]),
        # g = 1 + 2 · (¼ + 10 − 10 cos 2π) = 1.5
        (ZDT4(3), [0.25, 0.5, -0.5], [0.25, 1.5 - math.sqrt(0.25 * 1.5)]),
        # sin(½π) = 1, g = 1 + 9 · (1/16)^¼ = 5.5
        (ZDT6(2), [1 / 12, 1 / 16], [1 - math.exp(-1 / 3), 5.5 - (1 - math.exp(-1 / 3)) ** 2 / 5.5]),
        (VLMOP1(2), [1.0, 3.0], [1.25, 0.25]),
        (VLMOP3(), [1.0, 2.0], [2.5 + math.sin(5), 16.125, 1 / 6 - 1.1 * math.exp(-5)]),
        # g = 100 · (1/16 + 1 − cos 5π) = 206.25
        (DTLZ1(3, 3), [0.5, 0.25, 0.75], [12.953125, 38.859375, 51.8125]),
        (InvertedDTLZ1(3, 3), [0.5, 0.25, 0.75], [90.671875, 64.765625, 51.8125]),
        (DTLZ3(2, 2), [0.5, 0.75], [207.25 / math.sqrt(2)] * 2),
        (DTLZ4(2, 2, alpha=2), [math.sqrt(0.5), 0.5], [1 / math.sqrt(2)] * 2),
    ],
    ids=label,
)
def test_pinned_values(problem, x, expected):
    values = problem.evaluate(torch.tensor([x], dtype=torch_double))
    torch.testing.assert_close(values, torch.tensor([expected], dtype=torch_double), rtol=1e-12, atol=1e-12)


def test_the_number_of_variables_follows_the_number_of_objectives():
    assert [DTLZ1(5).num_variables, InvertedDTLZ1(3).num_variables, DTLZ2(5).num_variables] == [9, 7, 14]


# -- slopes that are infinite by formula --


@pytest.mark.parametrize("problem", [ZDT1(4), ZDT3(4), ZDT4(4)], ids=label)
def test_the_infinite_slope_of_the_square_root(problem):
    # The value is exact, the slope of f2 steep, finite and of the right sign, also a hair outside the bounds.
    x = torch.zeros(3, 4, dtype=torch_double)
    x[1, 0], x[2, 0] = 1e-12, -1e-9
    x.requires_grad_()
    values = problem.evaluate(x)
    torch.testing.assert_close(values[:, 1].tolist(), [1.0, 1.0 - 1e-6, 1.0], rtol=0, atol=1e-15)
    (gradient,) = torch.autograd.grad(values[:, 1].sum(), x)
    torch.testing.assert_close(gradient[:, 0], torch.full((3,), -5000.0, dtype=torch_double))


@pytest.mark.parametrize("dtype", [torch.float32, torch_double])
def test_the_infinite_slope_of_the_fourth_root(dtype):
    x = torch.zeros(3, 4, dtype=dtype)
    x[:, 0] = 1 / 12
    x[1, 1:], x[2, 1:] = 1e-8, -1e-9
    x.requires_grad_()
    values = ZDT6(4).evaluate(x)
    first = 1 - math.exp(-1 / 3)
    g = torch.tensor([1.0, 1.09, 1.0], dtype=dtype)
    torch.testing.assert_close(values[:, 1], g - first**2 / g)
    (gradient,) = torch.autograd.grad(values[:, 1].sum(), x)
    # ∂f2/∂g = 1 + (f1 / g)², ∂g/∂x_i = 9 · 5000 / 3.
    torch.testing.assert_close(gradient[:, 1], (1 + (first / g) ** 2) * 15_000)


# -- fronts --


def test_the_front_of_zdt3_is_what_no_point_of_its_curve_dominates():
    t = np.linspace(0, 1, 40_001)
    curve = np.stack([t, 1 - np.sqrt(t) - t * np.sin(10 * np.pi * t)], axis=1)
    left = moocore.filter_dominated(curve)
    front = ZDT3().pareto_front(2_001)
    # Five pieces, four gaps.
    gaps = np.flatnonzero(np.diff(left[:, 0]) > 0.01)
    jumps = front[:, 0].diff().gt(0.01).nonzero().flatten().numpy()
    assert len(gaps) == len(jumps) == 4
    for side in (0, 1):
        np.testing.assert_allclose(front[jumps + side, 0], left[gaps + side, 0], atol=1e-3)
    # f2 at the foot of the last piece, the lowest of all.
    foot = minimize_scalar(lambda t: 1 - t**0.5 - t * math.sin(10 * math.pi * t), (0.84, 0.85, 0.86), tol=1e-12)
    torch.testing.assert_close(front[-1].tolist(), [foot.x, foot.fun], atol=1e-7, rtol=0)
    assert ZDT3().ideal_point.tolist() == pytest.approx([0, -0.773369], abs=1e-6)
    assert ZDT3().nadir_point.tolist() == pytest.approx([0.851833, 1], abs=1e-6)


def test_a_piece_of_zdt3_starts_just_below_the_foot_of_the_one_before():
    def height(t):
        return 1 - math.sqrt(t) - t * math.sin(10 * math.pi * t)

    for (_, foot), (start, _) in itertools.pairwise(_ZDT3_PIECES):
        assert height(foot) - 1e-11 < height(start) < height(foot)
        assert height(foot) < min(height(foot - 1e-6), height(foot + 1e-6))


def test_the_lowest_f1_of_zdt6():
    # The value that the problem's literature has; its tenth digit is rounded up.
    assert ZDT6().ideal_point[0].item() == pytest.approx(0.2807753191, abs=5e-10)
    grid = torch.zeros(100_001, 2, dtype=torch_double)
    grid[:, 0] = torch.linspace(0, 1, 100_001, dtype=torch_double)
    assert ZDT6(2).evaluate(grid)[:, 0].min() == pytest.approx(0.2807753191, abs=1e-8)


@pytest.mark.parametrize("problem", [ZDT3(), ZDT6(), RE21(), RE24()], ids=label)
def test_steps_along_a_front_are_even(problem):
    front = problem.pareto_front(101)
    steps = (front / (problem.nadir_point - problem.ideal_point)).diff(dim=0)
    lengths = torch.linalg.vector_norm(steps, dim=1)
    # Gaps and kinks: the steps across ZDT3's four gaps, and those that cut a corner short.
    inside = lengths.sort().values[4:-4]
    assert inside[-1] / inside[0] < 1.02


def test_a_curve_that_rests_at_its_start_is_spread_all_the_same():
    def values(t):
        return torch.stack([(t - 0.5).relu(), -(t - 0.5).relu()], dim=-1)

    assert even_along(values, [(0.0, 1.0)], 3)[1:].tolist() == pytest.approx([0.75, 1.0], abs=1e-3)
    assert values(even_along(values, [(0.0, 1.0)], 3))[0].tolist() == [0, 0]


# The area between a front f2 = h(f1) and (1.1, 1.1): for ZDT6, 1.1 (1.1 − a) − ∫ 1 − t² dt from a to 1.
LOWEST = 0.2807753191
AREAS = [
    (ZDT1(), 0.876667),
    (ZDT2(), 0.543333),
    (ZDT3(), 1.331761),
    (ZDT4(), 0.876667),
    (ZDT6(), 1.1 * (1.1 - LOWEST) - (1 - LOWEST) + (1 - LOWEST**3) / 3),
    (VLMOP1(), 1.043333),
    (VLMOP2(), 0.552114),
    (DTLZ1(2), 1.21 - 0.125),
    (InvertedDTLZ1(2), 1.21 - 0.125),
    (DTLZ2(2), 1.21 - math.pi / 4),
]


@pytest.mark.parametrize(("problem", "exact"), AREAS, ids=label)
def test_hypervolume_of_the_front(problem, exact):
    area = hypervolume(problem.pareto_front(20_001), 1.1)
    assert exact - 5e-5 < area < exact + 1e-6


@pytest.mark.parametrize(
    ("problem", "exact"),
    [
        (DTLZ1(3), 1.331 - 0.5**3 / 6),
        # What is missing of the cube: a corner of the small cube [0, ½]³ cut by Σ f = 1, and a prism on each axis.
        (InvertedDTLZ1(3), 1.331 - 5 / 48 - 3 / 8 * 0.6),
        (DTLZ2(3), 1.331 - math.pi / 6),
        (DTLZ3(3), 1.331 - math.pi / 6),
        (DTLZ4(3), 1.331 - math.pi / 6),
    ],
    ids=label,
)
def test_hypervolume_of_the_surface(problem, exact):
    # The staircase under a surface is too small by a multiple of the lattice's step, which two lattices cancel.
    coarse, fine = (hypervolume(problem.pareto_front(math.comb(h + 2, 2)), 1.1) for h in (100, 200))
    assert coarse < fine < exact
    assert 2 * fine - coarse == pytest.approx(exact, abs=1e-4)


def test_the_front_of_a_scaled_problem_is_scaled():
    front = ScaledZDT1(5, scales=(0.5, 1e4)).pareto_front(50)
    torch.testing.assert_close(front / torch.tensor([0.5, 1e4]), ZDT1(5).pareto_front(50))
    assert ScaledZDT1(5, scales=(0.5, 1e4)).nadir_point.tolist() == [0.5, 1e4]


@pytest.mark.parametrize("problem", [DTLZ2(3), DTLZ3(3), DTLZ4(3)], ids=lambda problem: type(problem).__name__)
def test_no_rounding_below_the_ideal_point_far_from_the_front(problem):
    # In float32 cos(π/2) is −4e-8, and DTLZ3's g is 1,000 and more.
    x = torch.ones(1, problem.num_variables)
    assert (problem.evaluate(x) >= 0).all()
