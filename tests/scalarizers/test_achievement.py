"""AchievementScalarizing and AugmentedAchievementScalarizing: formulas, hand values, special cases, refusals."""

import math

import pytest
import torch
from _tensors import tensor
from hypothesis import given, settings, strategies as st
from scalarizer_asserts import assert_formula, assert_value
from scalarizer_inputs import ACHIEVEMENT_RHO, cases

from mopref.scalarizers import AchievementScalarizing, AugmentedAchievementScalarizing, ModifiedTchebycheff

RAY = {"convention": "ray"}


@pytest.mark.parametrize(
    "name", ["achievement", "achievement ray", "augmented-achievement", "augmented-achievement ray"]
)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(name, case):
    assert_formula(name, case)


@pytest.mark.parametrize(
    ("scalarizer", "f", "lam", "expected"),
    [
        # z = (1, 1): 2 · 1/4 and 1 · 3/4. z = (4, 4), above f: −1/(1/4) = −4 and −2/(3/4) = −8/3.
        # z = (4, 1): −4 and 3/4
        (AchievementScalarizing([1, 1]), (3, 2), (0.25, 0.75), 0.75),
        (AchievementScalarizing([4, 4]), (3, 2), (0.25, 0.75), -8 / 3),
        (AchievementScalarizing([4, 1]), (3, 2), (0.25, 0.75), 0.75),
        # 1 and ε; below z −1 and −1/ε
        (AchievementScalarizing([0, 0], epsilon=0.01), (1, 1), (1, 0), 1.0),
        (AchievementScalarizing([0, 0], epsilon=0.01), (0, 1), (1, 0), 0.01),
        (AchievementScalarizing([2, 2], epsilon=0.01), (1, 1), (1, 0), -1.0),
        # 3/4 + .1 (2/4 + 3/4); −8/3 + .1 (−1/4 − 6/4); 1 + .1 · 1.01
        (AugmentedAchievementScalarizing([1, 1], rho=0.1), (3, 2), (0.25, 0.75), 0.875),
        (AugmentedAchievementScalarizing([4, 4], rho=0.1), (3, 2), (0.25, 0.75), -8 / 3 - 0.175),
        (AugmentedAchievementScalarizing([0, 0], rho=0.1, epsilon=0.01), (1, 1), (1, 0), 1.101),
        # As rays. z = (1, 1): 2/(1/4) = 8 and 1/(3/4) = 4/3. z = (4, 4), above f: −1/(1/4) = −4 and −2/(3/4) = −8/3
        (AchievementScalarizing([1, 1], **RAY), (3, 2), (0.25, 0.75), 8.0),
        (AchievementScalarizing([4, 4], **RAY), (3, 2), (0.25, 0.75), -8 / 3),
        # 1/1 and 1/ε = 100
        (AchievementScalarizing([0, 0], epsilon=0.01, **RAY), (1, 1), (1, 0), 100.0),
        # 8 + .1 (8 + 4/3) = 134/15; −8/3 + .1 (−4 − 8/3) = −10/3; 100 + .1 · 101 = 110.1
        (AugmentedAchievementScalarizing([1, 1], rho=0.1, **RAY), (3, 2), (0.25, 0.75), 134 / 15),
        (AugmentedAchievementScalarizing([4, 4], rho=0.1, **RAY), (3, 2), (0.25, 0.75), -10 / 3),
        (AugmentedAchievementScalarizing([0, 0], rho=0.1, epsilon=0.01, **RAY), (1, 1), (1, 0), 110.1),
    ],
)
def test_hand_values(scalarizer, f, lam, expected):
    assert_value(scalarizer, f, lam, expected)


@pytest.mark.parametrize("convention", ["importance", "ray"])
@settings(max_examples=40, deadline=None)
@given(case=cases(), better=st.lists(st.floats(0, 3), min_size=5, max_size=5))
def test_the_sum_makes_every_lower_loss_count(convention, case, better):
    lower = [a - b for a, b in zip(case.losses, better, strict=False)]
    point = case.point("augmented-achievement")
    g = AugmentedAchievementScalarizing(point, rho=ACHIEVEMENT_RHO, convention=convention)
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
        for options in ({"epsilon": 0.02}, {"epsilon": 0.02, **RAY}):
            plain = AchievementScalarizing(z, **options)(x, w)
            assert torch.equal(AugmentedAchievementScalarizing(z, rho=0, **options)(x, w), plain)
            if z is low:
                assert torch.equal(plain, ModifiedTchebycheff(ideal=low, **options)(x, w))
    # Below z both conventions are one.
    assert torch.equal(AchievementScalarizing(high)(x, w), AchievementScalarizing(high, **RAY)(x, w))


@pytest.mark.parametrize("reach", [-0.5, 0.0, 0.4, 1.5])
def test_every_minimiser_is_pareto_optimal_and_an_important_loss_the_smaller(reach):
    """On all of [0, 1]² above the front f1 + f2 = 1, from points out of reach, within reach and above everything."""
    axis = torch.linspace(0, 1, 51, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    points = points[points.sum(1) > 1 - 1e-9]
    g, first = AugmentedAchievementScalarizing([reach, reach], rho=0.05), []
    for weight in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        values = g(points, tensor([weight, 1 - weight], torch.float64).expand_as(points))
        best = points[values.argmin()]
        dominates = (points <= best).all(1) & (points < best - 1e-9).any(1)
        assert not dominates.any(), f"{best} at {weight}"
        first.append(best[0].item())
    assert first == sorted(first, reverse=True)
    assert first[-1] <= 0.02
    assert first[0] >= 0.98


@pytest.mark.parametrize("kind", [AchievementScalarizing, AugmentedAchievementScalarizing])
@pytest.mark.parametrize("epsilon", [0.0, -0.25, math.nan])
def test_a_smallest_weight_that_is_not_positive_raises(kind, epsilon):
    with pytest.raises(ValueError, match=rf"epsilon is {epsilon}: .* so it must be > 0\."):
        kind([0, 0], epsilon=epsilon)


@pytest.mark.parametrize("rho", [-0.25, math.nan])
def test_a_negative_weight_of_the_sum_raises(rho):
    with pytest.raises(ValueError, match=rf"rho is {rho}: .* so it must be ≥ 0\."):
        AugmentedAchievementScalarizing([0, 0], rho=rho)
