"""Weighted MGDA against hand values, scipy, and the rates that it promises."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from mopref.gradients import MGDA, WeightedMGDA


def weigh(gradients, preference, method=WeightedMGDA) -> np.ndarray:
    jacobian = torch.as_tensor(np.asarray(gradients, dtype=float))
    lam = torch.tensor([list(preference)], dtype=torch.float64)
    losses = torch.ones(1, len(jacobian), dtype=torch.float64)
    return method()(losses, (jacobian @ jacobian.T).unsqueeze(0), lam)[0].numpy()


def draw(m, n, seed):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(m, n)), generator.dirichlet(np.ones(m))


@pytest.mark.parametrize(
    ("gradients", "preference", "expected"),
    [
        # (2w_1)² + w_2² is least on .8 w_1 + .2 w_2 = 1 where 8 w_1 : 2 w_2 = .8 : .2.
        ([[2.0, 0.0], [0.0, 1.0]], (0.8, 0.2), (0.5, 0.5)),
        ([[1.0, 0.0], [0.0, 1.0]], (0.75, 0.25), (0.75, 0.25)),
        # MGDA's own example at equal weights.
        ([[2.0, 0.0], [0.0, 1.0]], (0.5, 0.5), (0.2, 0.8)),
        # In line: 3 falls 3 times as fast as 1 anyway, so the loss that is asked to fall 9 times as fast counts alone.
        ([[3.0, 0.0], [1.0, 0.0]], (0.9, 0.1), (1.0, 0.0)),
        ([[3.0, 0.0], [1.0, 0.0]], (0.5, 0.5), (0.0, 1.0)),
        # Opposite: 0, whatever λ.
        ([[1.0, 0.0], [-3.0, 0.0]], (0.9, 0.1), (0.75, 0.25)),
        ([[0.0, 0.0], [1.0, 1.0]], (0.9, 0.1), (1.0, 0.0)),
        # Three: w_i = λ_i for unit gradients at right angles.
        (np.eye(3), (0.5, 0.3, 0.2), (0.5, 0.3, 0.2)),
    ],
)
def test_hand_values(gradients, preference, expected):
    np.testing.assert_allclose(weigh(gradients, preference), expected, atol=1e-9)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_scipy_finds_no_shorter_combination_of_the_scaled_gradients(m, seed):
    gradients, preference = draw(m, 4, seed)
    scaled = gradients / preference[:, None]

    # In units of the shortest one: the shortest combination is no longer than that.
    scaled /= np.linalg.norm(scaled, axis=1).min()
    # Non-negative least squares of (Σ x_i g_i, Σ x_i) to (0, 1) point to the shortest combination (Lawson and Hanson,
    # Solving Least Squares Problems, chapter 23).
    point, _ = nnls(np.vstack([scaled.T, np.ones(m)]), np.append(np.zeros(scaled.shape[1]), 1.0))
    alpha = weigh(gradients, preference) * preference
    shortest = point / point.sum() @ scaled
    np.testing.assert_allclose(alpha / alpha.sum() @ scaled, shortest, atol=1e-7)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_every_loss_falls_as_its_weight_says(m):
    """⟨g_i, d⟩ ≥ λ_i · r, with equality where the weight is not 0: a larger λ_i falls faster."""
    for seed in range(10):
        gradients, preference = draw(m, m + 2, seed)
        weights = weigh(gradients, preference)
        rates = gradients @ (weights @ gradients) / preference
        assert rates.min() > 0
        np.testing.assert_allclose(rates[weights > 1e-9], rates.min(), rtol=1e-6)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_equal_weights_are_mgda(m):
    for seed in range(5):
        gradients, _ = draw(m, 4, seed)
        equal = np.full(m, 1 / m)
        np.testing.assert_allclose(weigh(gradients, equal), weigh(gradients, equal, MGDA), atol=1e-9)


@pytest.mark.parametrize("index", range(3))
def test_at_a_corner_it_is_the_objectives_gradient(index):
    gradients, _ = draw(3, 2, 0)
    np.testing.assert_array_equal(weigh(gradients, np.eye(3)[index]), np.eye(3)[index])


def test_near_a_corner_the_other_loss_does_not_rise():
    """The limit is g_1 without what of it would raise the other loss, (2, 0) and (−1, 1): d ∝ (1, 1)."""
    weights = weigh([[2.0, 0.0], [-1.0, 1.0]], (1 - 1e-12, 1e-12))
    np.testing.assert_allclose(weights @ np.array([[2.0, 0.0], [-1.0, 1.0]]), (0.5, 0.5), atol=1e-9)


def test_improvements_come_out_as_the_weights():
    """f_i = ‖x − a_i‖²/2 from where gradients are at right angles, in small steps: f(start) − f = λ · t to the end."""
    centres, preference = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0.7, 0.3])
    start = x = np.array([0.5, 0.5])
    losses = lambda x: ((x - centres) ** 2).sum(axis=1) / 2  # noqa: E731
    for _ in range(600):
        x = x - 5e-3 * weigh(x - centres, preference) @ (x - centres)
    share = losses(start) - losses(x)
    assert abs(x[1]) < 0.05, "the end is on the front, between the centres"
    np.testing.assert_allclose(share / share.sum(), preference, atol=5e-3)


def test_a_preference_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 on every objective"):
        weigh(np.eye(2), (0.0, 0.0))
