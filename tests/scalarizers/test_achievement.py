"""AchievementScalarizing and AugmentedAchievementScalarizing: formulas, hand values, special cases, refusals."""

import math

import pytest
import torch
from _tensors import tensor
from hypothesis import given, settings, strategies as st
from scalarizer_asserts import assert_formula, assert_value
from scalarizer_inputs import ACHIEVEMENT_RHO, cases

from mopref.scalarizers import AchievementScalarizing, AugmentedAchievementScalarizing, ModifiedTchebycheff


@pytest.mark.parametrize("name", ["achievement", "augmented-achievement"])
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(name, case):
    assert_formula(name, case)


@pytest.mark.parametrize(
    ("scalarizer", "f", "lam", "expected"),
    [
        # z = (1, 1): 2/(1/4) = 8 and 1/(3/4) = 4/3. z = (4, 4), above f: −1/(1/4) = −4 and −2/(3/4) = −8/3
        (AchievementScalarizing([1, 1]), (3, 2), (0.25, 0.75), 8.0),
        (AchievementScalarizing([4, 4]), (3, 2), (0.25, 0.75), -8 / 3),
        # 1/1 and 1/ε = 100
        (AchievementScalarizing([0, 0], epsilon=0.01), (1, 1), (1, 0), 100.0),
        # 8 + .1 (8 + 4/3) = 134/15; −8/3 + .1 (−4 − 8/3) = −10/3; 100 + .1 · 101 = 110.1
        (AugmentedAchievementScalarizing([1, 1], rho=0.1), (3, 2), (0.25, 0.75), 134 / 15),
        (AugmentedAchievementScalarizing([4, 4], rho=0.1), (3, 2), (0.25, 0.75), -10 / 3),
        (AugmentedAchievementScalarizing([0, 0], rho=0.1, epsilon=0.01), (1, 1), (1, 0), 110.1),
    ],
)
def test_hand_values(scalarizer, f, lam, expected):
    assert_value(scalarizer, f, lam, expected)


@settings(max_examples=40, deadline=None)
@given(case=cases(), better=st.lists(st.floats(0, 3), min_size=5, max_size=5))
def test_the_sum_makes_every_lower_loss_count(case, better):
    lower = [a - b for a, b in zip(case.losses, better, strict=False)]
    g = AugmentedAchievementScalarizing(case.point("augmented-achievement"), rho=ACHIEVEMENT_RHO)
    lam = tensor(case.preference, torch.float64)
    before, after = (g(tensor(f, torch.float64), lam).item() for f in (case.losses, lower))
    if max(better[: len(lower)]) > 1e-3:
        assert after < before


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_special_cases_of_one_another(case):
    low, high = ([a + s * g for a, g in zip(case.losses, case.gaps, strict=True)] for s in (-1, 1))
    x, w = tensor(case.losses), tensor(case.preference)
    for z in (low, high):
        plain = AchievementScalarizing(z, epsilon=0.02)(x, w)
        assert torch.equal(AugmentedAchievementScalarizing(z, rho=0, epsilon=0.02)(x, w), plain)
    assert torch.equal(
        AchievementScalarizing(low, epsilon=0.02)(x, w), ModifiedTchebycheff(ideal=low, epsilon=0.02)(x, w)
    )


@pytest.mark.parametrize("kind", [AchievementScalarizing, AugmentedAchievementScalarizing])
@pytest.mark.parametrize("epsilon", [0.0, -0.25, math.nan])
def test_a_smallest_weight_that_is_not_positive_raises(kind, epsilon):
    with pytest.raises(ValueError, match=rf"epsilon is {epsilon}: .* so it must be > 0\."):
        kind([0, 0], epsilon=epsilon)


@pytest.mark.parametrize("rho", [-0.25, math.nan])
def test_a_negative_weight_of_the_sum_raises(rho):
    with pytest.raises(ValueError, match=rf"rho is {rho}: .* so it must be ≥ 0\."):
        AugmentedAchievementScalarizing([0, 0], rho=rho)
