"""Preferences are checked once, at the boundary: shape, finite, ≥ 0, sum 1."""

import math

import numpy as np
import pytest
import torch

from mopref.preferences import validate_preferences


@pytest.mark.parametrize("objectives", [2, ("helpful", "harmless")])
@pytest.mark.parametrize(
    "preferences",
    [
        [[0.3, 0.7], [1.0, 0.0]],
        torch.tensor([[0.3, 0.7], [1.0, 0.0]]),
        torch.tensor([[0.3, 0.7], [1.0, 0.0]], dtype=torch.float64),
        np.array([[0.3, 0.7], [1.0, 0.0]]),
    ],
)
def test_valid_preferences_pass_unchanged(preferences, objectives):
    checked = validate_preferences(preferences, objectives)
    assert checked.shape == (2, 2)
    torch.testing.assert_close(checked.double(), torch.tensor([[0.3, 0.7], [1.0, 0.0]]).double(), atol=1e-7, rtol=0)


def test_one_preference_becomes_one_row():
    assert validate_preferences([0.25, 0.75], 2).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("objectives", [2, ("helpful", "harmless")])
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([0.2, 0.3, 0.5], id="too-long"),
        pytest.param([1.0], id="too-short"),
        pytest.param([-0.1, 1.1], id="negative"),
        pytest.param([math.nan, 1.0], id="nan"),
        pytest.param([math.inf, 0.0], id="infinite"),
        pytest.param([0.5, 0.4], id="sum-below-1"),
        pytest.param([0.5, 0.6], id="sum-above-1"),
        pytest.param([0.5, 0.5001], id="sum-off-by-1e-4"),
        pytest.param([[0.5, 0.5], [0.5, 0.4]], id="second-row"),
        pytest.param([[[0.5, 0.5]]], id="three-axes"),
        pytest.param([0, 0], id="all-zero"),
    ],
)
def test_invalid_preferences_raise(wrong, objectives):
    with pytest.raises(ValueError):
        validate_preferences(wrong, objectives)


def test_float32_rounding_is_tolerated():
    thirds = torch.full((1, 3), 1 / 3)
    assert validate_preferences(thirds, 3).shape == (1, 3)
    raw = torch.rand(1000, 7, generator=torch.Generator().manual_seed(0))
    assert validate_preferences(raw / raw.sum(-1, keepdim=True), 7).shape == (1000, 7)


def test_the_input_is_not_modified():
    preferences = torch.tensor([[0.25, 0.75]])
    checked = validate_preferences(preferences, 2)
    checked = checked + 1
    assert preferences.tolist() == [[0.25, 0.75]]


def test_the_message_names_the_objectives():
    with pytest.raises(ValueError, match="harmless"):
        validate_preferences([0.2, 0.3, 0.5], ("helpful", "harmless"))
