"""The mixture of a Tchebycheff optimum, where it is known by hand."""

import pytest
import torch

from mopref.known_fronts.minimax import minimax_mixtures


def parabolas(weights):
    """f_i(x) = ‖x − e_i‖² over the plane: Σ w_i f_i is smallest at x = w."""
    eye = torch.eye(weights.shape[1], dtype=weights.dtype)
    return (weights.unsqueeze(1) - eye).square().sum(-1)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_equal_weights_ask_for_the_centre(m):
    even = torch.full((1, m), 1 / m, dtype=torch.float64)
    found = minimax_mixtures(parabolas, even, torch.zeros(m, dtype=torch.float64))
    torch.testing.assert_close(found, even, atol=1e-6, rtol=0)


def test_two_parabolas_by_hand():
    """On the segment f_1 = 2 (1 − t)², f_2 = 2 t²: λ_1 f_1 = λ_2 f_2 at t = √λ_1 / (√λ_1 + √λ_2)."""
    preferences = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)
    root = preferences.sqrt()
    expected = root / root.sum(dim=1, keepdim=True)
    found = minimax_mixtures(parabolas, preferences, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_an_objective_of_no_weight_is_left_out():
    preferences = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]], dtype=torch.float64)
    found = minimax_mixtures(parabolas, preferences, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(found, preferences, atol=1e-6, rtol=0)


def test_a_failed_solution_is_told():
    """Losses that jump about are no minima of a weighted sum: there is no dual, and the gap stays open."""
    preference, ideal = torch.tensor([[0.5, 0.5]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    speeds = torch.tensor([1e5, 3e5], dtype=torch.float64)
    with pytest.raises(ArithmeticError, match="gap"):
        minimax_mixtures(lambda weights: 2 + torch.sin(speeds * (weights + 0.1)), preference, ideal)
