"""ZDT1 to ZDT6 and ScaledZDT1: values against pymoo and by hand, infinite slopes, fronts, refusals."""

import itertools
import math

import moocore
import numpy as np
import pytest
import torch
from _tensors import tensor, tolerance
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize_scalar
from synthetic_problems import hypervolume, label, random_x

from mopref.objectives.zdt import _ZDT3_PIECES, ZDT1, ZDT2, ZDT3, ZDT4, ZDT6, ScaledZDT1

# -- values --


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), n=st.integers(2, 30), maker=st.sampled_from([ZDT1, ZDT2, ZDT3, ZDT4, ZDT6]))
def test_values_equal_pymoo(seed, n, maker):
    from pymoo.problems import get_problem

    problem, peer = maker(n), get_problem(maker.__name__.lower(), n_var=n)
    lower, upper = problem.bounds
    np.testing.assert_array_equal(lower, peer.xl)
    np.testing.assert_array_equal(upper, peer.xu)
    x = random_x(problem, 8, seed, dtype=torch.float64)
    x[0], x[1], x[2, 0], x[3, 1:] = lower, upper, 0, 0
    np.testing.assert_allclose(problem.evaluate(x).cpu(), peer.evaluate(x.cpu().numpy()), atol=1e-6, rtol=0)


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
    ],
    ids=label,
)
def test_values_by_hand(problem, x, expected):
    values = problem.evaluate(tensor([x]))
    torch.testing.assert_close(values, tensor([expected]), rtol=tolerance(1e-12), atol=tolerance(1e-12))


# -- slopes that are infinite by formula --


@pytest.mark.parametrize("problem", [ZDT1(4), ZDT3(4), ZDT4(4)], ids=label)
def test_the_infinite_slope_of_the_square_root(problem):
    # The value is exact, the slope of f2 steep, finite and of the right sign, also a hair outside the bounds.
    x = torch.zeros(3, 4, dtype=torch.float64)
    x[1, 0], x[2, 0] = 1e-12, -1e-9
    x = tensor(x, torch.float64).requires_grad_()
    values = problem.evaluate(x)
    torch.testing.assert_close(values[:, 1].tolist(), [1.0, 1.0 - 1e-6, 1.0], rtol=0, atol=1e-15)
    (gradient,) = torch.autograd.grad(values[:, 1].sum(), x)
    torch.testing.assert_close(gradient[:, 0], torch.full_like(gradient[:, 0], -5000.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_infinite_slope_of_the_fourth_root(dtype):
    x = torch.zeros(3, 4, dtype=dtype)
    x[:, 0] = 1 / 12
    x[1, 1:], x[2, 1:] = 1e-8, -1e-9
    x = tensor(x, dtype).requires_grad_()
    values = ZDT6(4).evaluate(x)
    first = 1 - math.exp(-1 / 3)
    g = tensor([1.0, 1.09, 1.0], dtype)
    torch.testing.assert_close(values[:, 1], g - first**2 / g)
    (gradient,) = torch.autograd.grad(values[:, 1].sum(), x)
    # ∂f2/∂g = 1 + (f1 / g)², ∂g/∂x_i = 9 · 5000 / 3.
    torch.testing.assert_close(gradient[:, 1], (1 + (first / g) ** 2) * 15_000)


# -- fronts --


def test_the_front_of_zdt3_is_what_no_point_of_its_curve_dominates():
    t = np.linspace(0, 1, 40_001)
    curve = np.stack([t, 1 - np.sqrt(t) - t * np.sin(10 * np.pi * t)], axis=1)
    non_dominated = moocore.filter_dominated(curve)
    front = ZDT3().pareto_front(2_001)
    # Five pieces, four gaps.
    gaps = np.flatnonzero(np.diff(non_dominated[:, 0]) > 0.01)
    jumps = front[:, 0].diff().gt(0.01).nonzero().flatten().numpy()
    assert len(gaps) == len(jumps) == 4
    for side in (0, 1):
        np.testing.assert_allclose(front[jumps + side, 0], non_dominated[gaps + side, 0], atol=1e-3)
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
    grid = torch.zeros(100_001, 2, dtype=torch.float64)
    grid[:, 0] = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    assert ZDT6(2).evaluate(grid)[:, 0].min() == pytest.approx(0.2807753191, abs=1e-8)


@pytest.mark.parametrize("problem", [ZDT3(), ZDT6()], ids=label)
def test_steps_along_a_front_are_even(problem):
    front = problem.pareto_front(101)
    steps = (front / (problem.nadir_point - problem.ideal_point)).diff(dim=0)
    lengths = torch.linalg.vector_norm(steps, dim=1)
    # Without the steps across ZDT3's four gaps.
    inside = lengths.sort().values[4:-4]
    assert inside[-1] / inside[0] < 1.02


# The area between a front f2 = h(f1) and (1.1, 1.1): for ZDT6, 1.1 (1.1 − a) − ∫ 1 − t² dt from a to 1.
LOWEST = 0.2807753191
AREAS = [
    (ZDT1(), 0.876667),
    (ZDT2(), 0.543333),
    (ZDT3(), 1.331761),
    (ZDT4(), 0.876667),
    (ZDT6(), 1.1 * (1.1 - LOWEST) - (1 - LOWEST) + (1 - LOWEST**3) / 3),
]


@pytest.mark.parametrize(("problem", "exact"), AREAS, ids=label)
def test_hypervolume_of_the_front(problem, exact):
    area = hypervolume(problem.pareto_front(20_001), 1.1)
    assert exact - 5e-5 < area < exact + 1e-6


def test_the_front_of_a_scaled_problem_is_scaled():
    front = ScaledZDT1(5, scales=(0.5, 1e4)).pareto_front(50)
    torch.testing.assert_close(front / torch.tensor([0.5, 1e4]), ZDT1(5).pareto_front(50))
    assert ScaledZDT1(5, scales=(0.5, 1e4)).nadir_point.tolist() == [0.5, 1e4]
    assert ScaledZDT1(5, scales=(0.5, 1e4)).ideal_point.tolist() == [0, 0]


# -- refusals --


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZDT1(1), "num_variables is 1: ZDT1 needs at least 2"),
        (lambda: ZDT4(1), "num_variables is 1: ZDT4 needs at least 2"),
        (lambda: ZDT6(0), "num_variables is 0: ZDT6 needs at least 2"),
        (lambda: ScaledZDT1(1), "num_variables is 1: .*ZDT1 needs at least 2"),
        (lambda: ScaledZDT1(5, (1.0,)), r"scales are \[1.0\]: ScaledZDT1 needs two finite numbers above 0"),
        (lambda: ScaledZDT1(5, (1.0, 0.0)), r"scales are \[1.0, 0.0\]"),
        (lambda: ScaledZDT1(5, (math.inf, 1.0)), r"scales are \[inf, 1.0\]"),
    ],
)
def test_impossible_problems_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
