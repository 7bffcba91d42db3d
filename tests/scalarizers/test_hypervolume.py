"""Hypervolume: its formula, hand values, inside and outside of its box, the hypervolume as a mean, refusals."""

import math

import moocore
import numpy as np
import pytest
import torch
from _tensors import tensor
from hypothesis import given, settings
from scalarizer_asserts import assert_formula, assert_value, value_and_gradient
from scalarizer_inputs import cases

from mopref.scalarizers import Hypervolume


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(case):
    assert_formula("hypervolume", case)


@pytest.mark.parametrize(
    ("scalarizer", "f", "lam", "expected"),
    [
        # r = (5, 3): 2/(1/4) = 8 and 1/(3/4) = 4/3, squared 16/9. r = (2, 3), f outside: (1 + 2/4) · 1
        (Hypervolume([5, 3]), (3, 2), (0.25, 0.75), -16 / 9),
        (Hypervolume([2, 3]), (3, 2), (0.25, 0.75), 1.5),
        # r − f = (1, 2, 3): 2, 8, 12, and 2³ = 8; at a corner 2 and 1/ε = 100, or with ε = 1 both divided by 1
        (Hypervolume([1, 2, 3]), (0, 0, 0), (0.5, 0.25, 0.25), -8.0),
        (Hypervolume([2, 1], epsilon=0.01), (0, 0), (1, 0), -4.0),
        (Hypervolume([2, 1], epsilon=1.0), (0, 0), (1, 0), -1.0),
    ],
)
def test_hand_values(scalarizer, f, lam, expected):
    assert_value(scalarizer, f, lam, expected)


def test_outside_its_box_it_still_pulls_the_losses_down():
    """min(0, ·)^m would be flat there; the continuation has the slope 1 + m λ in the objective furthest out."""
    value, gradient = value_and_gradient(Hypervolume([1, 1]), (3.0, 2.0), (0.5, 0.5))
    assert value == pytest.approx(4.0)
    assert gradient.tolist() == pytest.approx([2.0, 0.0])
    losses = tensor([[1 - 1e-6] * 2, [1.0] * 2, [1 + 1e-6] * 2], torch.float64)
    values = Hypervolume([1, 1])(losses, tensor([[0.5, 0.5]] * 3, torch.float64))
    assert values.tolist() == pytest.approx([-4e-12, 0.0, 2e-6], rel=1e-4, abs=1e-18)


def test_outside_its_box_an_important_loss_falls_first():
    """r = 0 on f1 + f2 = 1: (1 + 2 λ1) f1 = (1 + 2 λ2) f2, so f1 = (1 + 2 λ2)/4."""
    first = torch.linspace(0, 1, 4001, dtype=torch.float64)
    front = tensor(torch.stack([first, 1 - first], dim=1), torch.float64)
    for weight in (0.0, 0.25, 0.5, 1.0):
        lam = tensor([weight, 1 - weight], torch.float64).expand_as(front)
        best = front[Hypervolume([0, 0])(front, lam).argmin()]
        assert best[0].item() == pytest.approx((3 - 2 * weight) / 4, abs=1e-3)


@pytest.mark.parametrize(
    ("points", "reference_point", "by_hand"),
    [
        # Two strips of 1/2 that share a quarter.
        ([[0.0, 0.5], [0.5, 0.0]], [1.0, 1.0], 0.75),
        # 2 · 3 = 6; a dominated point and one outside the box add nothing.
        ([[0.0, 1.0], [1.0, 2.0], [-1.0, 5.0]], [2.0, 4.0], 6.0),
        # Three boxes of volume 1/2, each two and all three sharing 1/4, 1/4, 1/4 and 1/8: 3/2 − 3/4 + 1/8.
        ([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], [1.0, 1.0, 1.0], 0.875),
    ],
)
def test_the_mean_of_the_best_values_is_the_hypervolume(points, reference_point, by_hand):
    """HV = c_m E_λ[max_f (min_i (r_i − f_i)/λ_i)₊^m], λ uniform on the positive unit sphere."""
    m = len(reference_point)
    directions = torch.randn(100_000, m, generator=torch.Generator().manual_seed(7), dtype=torch.float64).abs()
    directions = tensor(directions / directions.norm(dim=-1, keepdim=True), torch.float64)
    g = Hypervolume(reference_point, epsilon=1e-12)
    losses = tensor(points, torch.float64).expand(len(directions), -1, -1)
    best = -g(losses, directions.unsqueeze(1).expand_as(losses)).amin(dim=1)
    factor = math.pi ** (m / 2) / (2**m * math.gamma(m / 2 + 1))
    assert moocore.hypervolume(np.array(points), ref=reference_point) == pytest.approx(by_hand)
    assert factor * best.clamp(min=0).mean().item() == pytest.approx(by_hand, rel=0.01)


def test_between_two_points_the_reference_point_lies_a_little_beyond_the_nadir():
    assert Hypervolume.between([0, 0], [1, 1]).reference_point.tolist() == [1.1, 1.1]
    assert Hypervolume.between([0, 0], [1, 1], beyond=0.0).reference_point.tolist() == [1.0, 1.0]
    made = Hypervolume.between([0.0, 100.0], [1.0, 300.0], beyond=0.5, epsilon=0.01)
    assert made.reference_point.tolist() == [1.5, 400.0]
    assert made.epsilon == 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beyond": -0.25}, r"beyond is -0\.25: .* so it must be ≥ 0\."),
        ({"beyond": math.nan}, "beyond is nan"),
        ({"nadir": [1.0, 0.0]}, "nadir's entry 1 is 0, not above ideal's 0"),
        ({"nadir": [1.0]}, "ideal has 2 numbers and nadir 1"),
        ({"ideal": [0.0, math.nan]}, r"ideal is \[0\.0, nan\]"),
    ],
)
def test_points_with_nothing_between_them_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Hypervolume.between(**({"ideal": [0.0, 0.0], "nadir": [1.0, 1.0]} | options))


@pytest.mark.parametrize("epsilon", [0.0, -0.25, math.nan])
def test_a_smallest_weight_that_is_not_positive_raises(epsilon):
    with pytest.raises(ValueError, match=rf"epsilon is {epsilon}: .* so it must be > 0\."):
        Hypervolume([0, 0], epsilon=epsilon)
