"""even_preferences: points evenly spread on the front, measured on exact fronts with known preferences."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref import simplex_lattice
from mopref.front import even
from mopref.front.even import even_preferences
from mopref.indicators import fill_distance, spacing
from mopref.objectives import DTLZ2, VLMOP2, ZDT1, ZDT2

EPSILON = 1e-3


def zdt1(ray):
    """f2 = 1 − √f1 on f = t·ray: a quadratic equation for √f1."""
    a, b = ray.T
    root = (np.sqrt(1 + 4 * b / a) - 1) / (2 * b / a)
    return np.stack([root**2, 1 - root], axis=1)


def zdt2(ray):
    """f2 = 1 − f1² on f = t·ray: a quadratic equation for t."""
    a, b = ray.T
    return ray * ((np.sqrt(b**2 + 4 * a**2) - b) / (2 * a**2))[:, None]


def vlmop2(ray):
    """Σ √(−log(1 − f_i)) = 2 on f = t·ray, halving the interval of t."""
    low, high = np.zeros(len(ray)), 1 / ray.max(axis=1)
    for _ in range(60):
        middle = (low + high) / 2
        values = np.minimum(middle[:, None] * ray, 1 - 1e-16)
        above = np.sqrt(-np.log1p(-values)).sum(axis=1) > 2
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low[:, None] * ray


def dtlz2(ray):
    return ray / np.linalg.norm(ray, axis=1, keepdims=True)


def exact(front):
    """The optimum of modified Tchebycheff with the ideal point 0, where the ray max(λ, ε) meets the front."""
    return lambda preferences: front(np.maximum(preferences.double().numpy(), EPSILON))


TWO = {"ZDT1": (zdt1, ZDT1()), "ZDT2": (zdt2, ZDT2()), "VLMOP2": (vlmop2, VLMOP2())}


def late_circle(preferences):
    """A quarter of a circle at even speed for λ_1 from ½ to 1; one end of it before."""
    angle = (2 * preferences[:, 0].double() - 1).clamp(min=0) * math.pi / 2
    return torch.stack([1 - angle.cos(), 1 - angle.sin()], dim=1)


def segments(preferences):
    """A straight front f1 + f2 = 1 with two gaps: f1 in [0, .2), [.4, .5) and [.98, 1]."""
    first = preferences[:, 0].double()
    first = torch.where(first < 0.5, first * 0.4, torch.where(first < 0.8, 0.4 + (first - 0.5) / 3, 0.9 + first / 10))
    return torch.stack([first, 1 - first], dim=1)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("n", [11, 21, 51])
def test_smaller_holes_than_an_even_lattice(name, n):
    front, problem = TWO[name]
    dense = problem.pareto_front(4000)
    preferences = even_preferences(exact(front), 2, n)
    assert preferences.shape == (n, 2)
    lattice = simplex_lattice(2, n)
    assert fill_distance(exact(front)(preferences), dense) < 0.9 * fill_distance(exact(front)(lattice), dense)
    assert spacing(exact(front)(preferences)) < 0.2 * spacing(exact(front)(lattice))


@pytest.mark.parametrize("n", [28, 105])
def test_no_larger_holes_than_a_lattice_on_the_sphere(n):
    dense = DTLZ2(num_objectives=3).pareto_front(8000)
    preferences = even_preferences(exact(dtlz2), 3, n)
    assert preferences.shape == (n, 3)
    lattice = simplex_lattice(3, n)
    assert len(lattice) == n
    assert fill_distance(exact(dtlz2)(preferences), dense) <= fill_distance(exact(dtlz2)(lattice), dense)
    for corner in torch.eye(3):
        assert (preferences == corner).all(1).any()


def test_a_steep_map_of_three_objectives():
    """λ³ normalised: an even lattice crowds at the corners of the front, and leaves a hole in its middle."""

    def steep(preferences):
        cubed = preferences.double().numpy() ** 3
        return dtlz2(np.maximum(cubed / cubed.sum(axis=1, keepdims=True), EPSILON))

    dense = DTLZ2(num_objectives=3).pareto_front(8000)
    preferences, lattice = even_preferences(steep, 3, 66), simplex_lattice(3, 66)
    assert fill_distance(steep(preferences), dense) < 0.5 * fill_distance(steep(lattice), dense)


def test_even_lengths_along_a_circle():
    """Every point is where its share of the length is."""
    preferences = even_preferences(late_circle, 2, 9)
    np.testing.assert_allclose(preferences[1:, 0], np.linspace(0.5, 1, 9)[1:], atol=2e-3)
    assert preferences[0, 0] <= 0.5


def test_both_ends_in_order_of_the_first_loss():
    losses = exact(zdt1)(even_preferences(exact(zdt1), 2, 7))
    assert (np.diff(losses[:, 0]) > 0).all()
    ends = exact(zdt1)(torch.eye(2))
    np.testing.assert_allclose(losses[[0, -1]], ends[[1, 0]], atol=1e-9)


@pytest.mark.parametrize("n", [6, 11, 30])
def test_a_gap_is_no_length(n):
    """Of n − 1 steps two are spent on the two gaps, and the others cover the three pieces evenly."""
    losses = segments(even_preferences(segments, 2, n)).numpy()
    first = losses[:, 0]
    even = (0.2 + 0.1 + 0.02) * math.sqrt(2) / (n - 1 - 2)
    dense = np.concatenate([np.linspace(0, 0.2, 500), np.linspace(0.4, 0.5, 250), np.linspace(0.98, 1, 50)])
    assert fill_distance(losses, np.stack([dense, 1 - dense], axis=1)) <= 0.5 * even * 1.02 + 1e-3
    assert first[0] == 0
    assert first[-1] == 1


def test_dominated_candidates_are_dropped():
    """ZDT3's curve: of each wave only the part that nothing dominates is left, five pieces in all."""

    def zdt3(preferences):
        first = preferences[:, 0].double() * 0.852
        return torch.stack([first, 1 - first.sqrt() - first * (10 * math.pi * first).sin()], dim=1)

    losses = zdt3(even_preferences(zdt3, 2, 40)).numpy()
    # The pieces' ends, from the ZDT paper's problem, known to four digits.
    pieces = [(0.0, 0.0830), (0.1822, 0.2578), (0.4093, 0.4539), (0.6183, 0.6525), (0.8233, 0.8518)]
    counts = [int(((losses[:, 0] > low - 2e-3) & (losses[:, 0] < high + 2e-3)).sum()) for low, high in pieces]
    assert sum(counts) == 40
    assert min(counts) >= 3


def test_where_losses_change_fast_more_candidates_are_tried():
    """A front that a model runs through between λ_1 = .5 and .51: candidates go there, and no hole stays."""

    def steep(preferences):
        first = (0.5 + 50 * (preferences[:, 0].double() - 0.505)).clamp(0, 1) * 0.98 + 0.02 * preferences[:, 0].double()
        return torch.stack([first, 1 - first], dim=1)

    losses = steep(even_preferences(steep, 2, 11, num_candidates=200)).numpy()
    even = math.sqrt(2) / 10
    assert np.linalg.norm(np.diff(losses, axis=0), axis=1).max() < 2 * even


@pytest.mark.parametrize("m", [2, 3])
def test_units_do_not_matter(m):
    front = {2: exact(zdt1), 3: exact(dtlz2)}[m]
    scale = np.array([1024.0, 2.0**-10, 1.0])[:m]
    preferences = even_preferences(front, m, 20)
    assert torch.equal(even_preferences(lambda preferences: front(preferences) * scale, m, 20), preferences)


@pytest.mark.parametrize("m", [2, 3])
def test_no_randomness_but_the_seed(m):
    front = {2: exact(zdt1), 3: exact(dtlz2)}[m]
    torch.manual_seed(0)
    first = even_preferences(front, m, 12)
    torch.manual_seed(1)
    assert torch.equal(even_preferences(front, m, 12), first)


@pytest.mark.parametrize(("m", "n", "candidates"), [(2, 5, None), (2, 60, None), (3, 10, 77), (4, 12, 400)])
def test_as_many_candidates_are_evaluated_as_asked(m, n, candidates):
    seen = []

    def evaluate(preferences):
        seen.append(preferences)
        return dtlz2(np.maximum(preferences.double().numpy(), EPSILON))

    preferences = even_preferences(evaluate, m, n, candidates)
    assert sum(map(len, seen)) == (candidates or max(1000, 40 * n))
    assert len(seen) <= 4
    every = torch.cat(seen)
    assert (every >= 0).all()
    torch.testing.assert_close(every.sum(1), torch.ones(len(every)))
    assert all((every == row).all(1).any() for row in preferences)


@settings(max_examples=20, deadline=None)
@given(m=st.integers(2, 4), extra=st.integers(0, 25), power=st.floats(0.3, 3.0))
def test_as_many_distinct_preferences_as_asked(m, extra, power):
    def front(preferences):
        return dtlz2(np.maximum(preferences.double().numpy(), EPSILON) ** power)

    preferences = even_preferences(front, m, m + extra, num_candidates=200)
    assert preferences.shape == (m + extra, m)
    assert preferences.dtype == torch.get_default_dtype()
    assert (preferences >= 0).all()
    assert (preferences.double().sum(1) - 1).abs().max() < 1e-6
    assert len(torch.unique(preferences, dim=0)) == m + extra


@pytest.mark.parametrize("levels", [[0.0, 0.01, 0.02, 0.5, 1.0], [0.0, 0.5, 0.98, 0.99, 1.0]])
def test_as_many_points_as_there_are(levels):
    """Only five points are reached: all of them are taken, though even lengths would take the same one twice."""

    def steps(preferences):
        first = torch.tensor(levels)[(preferences[:, 0] * 4.999).long()]
        return torch.stack([first, 1 - first], dim=1)

    assert steps(even_preferences(steps, 2, 5))[:, 0].tolist() == pytest.approx(levels)


def test_three_points_of_three_objectives_are_the_corners():
    """Also where moving one of them would make the largest hole smaller."""
    assert sorted(even_preferences(exact(dtlz2), 3, 3).tolist()) == sorted(torch.eye(3).tolist())
    points = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [9.0, 0.0, 0.0]])
    preferences = np.concatenate([np.eye(3), np.full((1, 3), 1 / 3)])
    assert even._even_over(points, preferences, 3).tolist() == [0, 1, 2]


def largest_hole(points, rows):
    return np.linalg.norm(points[:, None] - points[rows], axis=-1).min(axis=1).max()


@given(seed=st.integers(0, 1000), count=st.integers(4, 12))
def test_centring_makes_no_hole_larger(seed, count):
    generator = np.random.default_rng(seed)
    points = generator.random((60, 3))
    rows = generator.choice(60, size=count, replace=False)
    centred = even._centred(points, rows, num_fixed=3)
    assert largest_hole(points, centred) <= largest_hole(points, rows) + 1e-12
    assert (centred[:3] == rows[:3]).all()
    assert len(set(centred.tolist())) == count
    assert even._fill(points, centred) == pytest.approx(largest_hole(points, centred))


def test_the_centre_is_the_middle():
    points = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [13.0]])
    # The middle of 0, 1, 2 is 1; of 10, 11, 13 it is 11, from which 13 is 2 away.
    assert even._centred(points, np.array([0, 3]), num_fixed=0).tolist() == [1, 4]


def test_moving_points_into_holes_helps(monkeypatch):
    generator = np.random.default_rng(0)
    clouds = [generator.random((200, 3)) for _ in range(8)]
    with_moves = [largest_hole(points, even._even_over(points, points, 12)) for points in clouds]
    monkeypatch.setattr(even, "_with_hole_filled", lambda points, rows, num_fixed: rows)
    without = [largest_hole(points, even._even_over(points, points, 12)) for points in clouds]
    assert (np.array(with_moves) <= without).all()
    assert np.mean(with_moves) < 0.97 * np.mean(without)


def test_the_least_missed_point_goes_to_the_largest_hole():
    points = np.array([[0.0], [1.0], [1.2], [5.0], [9.0]])
    assert sorted(even._with_hole_filled(points, np.array([0, 1, 2]), num_fixed=1)) in ([0, 1, 4], [0, 2, 4])


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_a_collapsed_model_gets_the_lattice_and_a_warning(m, noise, tmp_path, monkeypatch):
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path))
    generator = torch.Generator().manual_seed(0)

    def collapsed(preferences):
        return 3 + noise * torch.rand(preferences.shape, generator=generator, dtype=torch.float64)

    with pytest.warns(UserWarning, match="1 distinct non-dominated points, too few.*collapsed"):
        preferences = even_preferences(collapsed, m, 10)
    assert torch.equal(preferences, simplex_lattice(m, 10, "riesz-energy"))


def test_too_few_distinct_points_warn():
    """Linear scalarization on a concave front reaches its two ends only."""

    def ends(preferences):
        first = (preferences[:, 0] > 0.5).double()
        return torch.stack([first, 1 - first], dim=1)

    with pytest.warns(UserWarning, match="2 distinct"):
        assert torch.equal(even_preferences(ends, 2, 5), simplex_lattice(2, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ends(even_preferences(ends, 2, 2)).tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((exact(zdt1), 1, 5), "at least two"),
        ((exact(zdt1), 2, 1), "num_points is 1"),
        ((exact(dtlz2), 3, 2), "num_points is 2"),
        ((exact(zdt1), 2, 11, 21), "num_candidates is 21"),
        ((lambda preferences: preferences[:, :1], 2, 5), r"shape \(500, 1\)"),
        ((lambda preferences: preferences[1:], 2, 5), r"shape \(499, 2\)"),
        ((lambda preferences: preferences * math.nan, 2, 5), "nan"),
    ],
)
def test_wrong_arguments_raise(arguments, match):
    with pytest.raises(ValueError, match=match):
        even_preferences(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_objectives": "2"}, "num_objectives is '2', of type str: give a whole number"),
        ({"num_points": "3"}, "num_points is '3', of type str"),
        ({"num_candidates": "9"}, "num_candidates is '9', of type str"),
        ({"seed": {}}, "seed is {}, of type dict"),
        ({"seed": -1}, "seed is -1: it must be ≥ 0"),
        ({"evaluate": None}, "evaluate is None, of type NoneType: give a function"),
        ({"num_candidates": 10**30}, r"num_candidates is 10\^30"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        even_preferences(**({"evaluate": zdt1, "num_objectives": 2, "num_points": 3} | arguments))


def test_the_warning_names_the_line_that_called():
    with pytest.warns(UserWarning, match="too few to spread") as warned:
        even_preferences(lambda preferences: torch.ones(len(preferences), 2), 2, 3)
    assert warned[0].filename == __file__
