"""CAGrad against hand values, a search over the simplex by scipy, the inequalities of its paper, and torchjd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize, minimize_scalar

from mopref.gradients import CAGrad


def weigh(gradients, preference, **options) -> np.ndarray:
    """CAGrad's weights for the gradients (m, n) of one group."""
    jacobian = torch.as_tensor(np.asarray(gradients, dtype=float))
    lam = torch.tensor([list(preference)], dtype=torch.float64)
    losses = torch.ones(1, len(jacobian), dtype=torch.float64)
    return CAGrad(**options)(losses, (jacobian @ jacobian.T).unsqueeze(0), lam)[0].numpy()


def dual(p, gradients, preference, c) -> float:
    """⟨g_p, g_0⟩ + c‖g_0‖‖g_p‖."""
    combined, linear = p @ gradients, preference @ gradients
    return float(combined @ linear + c * np.linalg.norm(linear) * np.linalg.norm(combined))


def draw(m, n, seed):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(m, n)), generator.dirichlet(np.ones(m))


@pytest.mark.parametrize(
    ("gradients", "preference", "c", "expected"),
    [
        # g_0 = (½, ½). On the circle of radius √.2 around it 2x = −x + y, so 10x² − 4x + .3 = 0: d = (.3, .9), which is
        # .6 · (2, 0) + .9 · (−1, 1); its correction (−.2, .4) is half of .2 · (2, 0) + .8 · (−1, 1).
        ([[2.0, 0.0], [-1.0, 1.0]], (0.5, 0.5), math.sqrt(0.4), (0.6, 0.9)),
        # p is at a corner: F = p_1 + c√(p_1² + p_2²) rises with p_1.
        ([[1.0, 0.0], [0.0, 1.0]], (1.0, 0.0), 0.5, (1.0, 0.5)),
        # Opposite ones: of d = (.6 ± .6c) the smaller one is best for the worse loss.
        ([[1.0, 0.0], [-1.0, 0.0]], (0.8, 0.2), 0.5, (0.8, 0.2 + 0.3)),
        # One objective: a longer step in its own direction.
        ([[3.0, 4.0]], (1.0,), 0.25, (1.25,)),
        # No slower loss than one whose gradient is 0: nothing to correct.
        ([[0.0, 0.0], [1.0, 0.0]], (0.5, 0.5), 0.5, (0.5, 0.5)),
    ],
)
def test_hand_values(gradients, preference, c, expected):
    np.testing.assert_allclose(weigh(gradients, preference, c=c), expected, atol=1e-12)


def test_a_clipped_hand_value():
    """p = (.2, .8) of the first one above becomes (.2, .5), and its combination (−.1, .5)."""
    found = weigh([[2.0, 0.0], [-1.0, 1.0]], (0.5, 0.5), c=math.sqrt(0.4), clip=True)
    factor = math.sqrt(0.2 / 0.26)
    np.testing.assert_allclose(found, (0.5 + 0.2 * factor, 0.5 + 0.5 * factor), atol=1e-12)


def test_where_gradients_cancel_no_loss_rises():
    """p = (½, ½, 0) has g_p = 0: the nearest direction to (.2, .6) in which neither of the two rises is (0, .6)."""
    gradients = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(weigh(gradients, (0.3, 0.1, 0.6), c=0.5) @ gradients, (0.0, 0.6), atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
def test_two_gradients_by_a_search_over_p(seed, c):
    gradients, preference = draw(2, 3, seed)
    value = lambda x: dual(np.array([x, 1 - x]), gradients, preference, c)  # noqa: E731
    best = minimize_scalar(value, bounds=(0, 1), method="bounded", options={"xatol": 1e-12})
    values = [best.fun, *(dual(p, gradients, preference, c) for p in np.eye(2))]
    p = np.array([[best.x, 1 - best.x], *np.eye(2)][int(np.argmin(values))])
    radius = c * np.linalg.norm(preference @ gradients)
    expected = preference + radius * p / np.linalg.norm(p @ gradients)
    np.testing.assert_allclose(weigh(gradients, preference, c=c), expected, atol=1e-5)


@pytest.mark.parametrize("m", [3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_worst_rate_is_the_dual_value_that_scipy_finds(m, seed):
    gradients, preference = draw(m, 4, seed)
    direction = weigh(gradients, preference, c=0.5) @ gradients
    starts = [np.full(m, 1 / m), *(0.9 * np.eye(m) + 0.1 / m)]
    simplex = {"type": "eq", "fun": lambda p: p.sum() - 1}
    found = [
        minimize(
            dual, p, (gradients, preference, 0.5), "SLSQP", bounds=[(0, 1)] * m, constraints=simplex, tol=1e-14
        ).fun
        for p in starts
    ]
    assert (gradients @ direction).min() == pytest.approx(min(found), abs=1e-6)


@st.composite
def groups(draw_value):
    """Gradients of any rank, some of them equal, opposite or 0, of lengths 1e-3 to 1e3, a preference, and c."""
    m, n = draw_value(st.integers(1, 5)), draw_value(st.integers(1, 5))
    rows = draw_value(st.lists(st.lists(st.integers(-3, 3), min_size=n, max_size=n), min_size=m, max_size=m))
    powers = draw_value(st.lists(st.integers(-3, 3), min_size=m, max_size=m))
    raw = draw_value(st.lists(st.integers(0, 9), min_size=m, max_size=m).filter(any))
    gradients = np.array(rows, dtype=float) * 10.0 ** np.array(powers)[:, None]
    return gradients, np.array(raw) / sum(raw), draw_value(st.sampled_from((0.0, 0.01, 0.3, 0.9)))


@settings(max_examples=150, deadline=None)
@given(group=groups(), seed=st.integers(0, 1000))
def test_the_inequalities_of_the_paper(group, seed):
    """d is in the ball; its worst rate is no point's of the ball exceeded, and none's of a combination: the optimum."""
    gradients, preference, c = group
    weights = weigh(gradients, preference, c=c)
    linear, direction = preference @ gradients, weights @ gradients
    size = np.linalg.norm(gradients, axis=1).max() + 1e-300
    radius = c * np.linalg.norm(linear)
    assert (weights >= preference).all()
    # Products of gradients of very different lengths keep about eight digits of the longest.
    assert np.linalg.norm(direction - linear) <= radius + 1e-7 * size
    worst, slack = (gradients @ direction).min(), 1e-6 * size**2
    assert worst >= (gradients @ linear).min() - slack
    assert linear @ direction >= (1 - c) * linear @ linear - slack
    generator = np.random.default_rng(seed)
    for point in generator.normal(size=(20, gradients.shape[1])):
        other = linear + radius * point / np.linalg.norm(point)
        assert (gradients @ other).min() <= worst + slack
    for p in generator.dirichlet(np.ones(len(gradients)), 20):
        assert dual(p, gradients, preference, c) >= worst - slack


@settings(max_examples=80, deadline=None)
@given(group=groups())
def test_a_clipped_correction_goes_as_far_and_serves_none_beyond_its_weight(group):
    gradients, preference, c = group
    weights = weigh(gradients, preference, c=c, clip=True)
    linear, direction = preference @ gradients, weights @ gradients
    size = np.linalg.norm(gradients, axis=1).max() + 1e-300
    assert (weights >= preference).all()
    assert not weights[preference == 0].any()
    assert linear @ direction >= (1 - c) * linear @ linear - 1e-6 * size**2
    assert np.linalg.norm(direction - linear) <= c * np.linalg.norm(linear) + 1e-6 * size


@pytest.mark.parametrize("clip", [False, True])
def test_without_a_correction_it_is_linear_scalarization(clip):
    gradients, preference = draw(4, 3, 0)
    np.testing.assert_array_equal(weigh(gradients, preference, c=0.0, clip=clip), preference)


@pytest.mark.parametrize("clip", [False, True])
def test_identical_gradients_give_that_gradient_and_its_correction(clip):
    gradients = np.tile([3.0, -1.0, 2.0], (4, 1))
    weights = weigh(gradients, (0.1, 0.2, 0.3, 0.4), c=0.25, clip=clip)
    np.testing.assert_allclose(weights @ gradients, 1.25 * gradients[0], rtol=1e-9)


@pytest.mark.parametrize("index", range(3))
def test_at_a_corner_a_clipped_direction_is_the_objectives_own(index):
    for seed in range(6):
        gradients, _ = draw(3, 4, seed)
        own = np.eye(3)[index]
        weights = weigh(gradients, own, c=0.5, clip=True)
        assert not np.delete(weights, index).any()
        assert weights[index] in (1.0, pytest.approx(1.5))


def test_equal_weights_are_torchjds():
    """Whose solver is an interior-point method, on weights 1/m."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    for seed in range(5):
        gradients, _ = draw(3, 4, seed)
        theirs = aggregation.CAGrad(c=0.5)(torch.from_numpy(gradients)).numpy()
        np.testing.assert_allclose(weigh(gradients, np.full(3, 1 / 3), c=0.5) @ gradients, theirs, atol=2e-3)


@pytest.mark.parametrize("c", [-0.1, 1.0, float("nan"), float("inf")])
def test_a_correction_out_of_its_range_is_refused(c):
    with pytest.raises(ValueError, match=r"c is .*: from 1 on .* give 0 ≤ c < 1"):
        CAGrad(c=c)
