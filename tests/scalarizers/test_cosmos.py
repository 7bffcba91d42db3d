"""COSMOS: its formula, hand values, the cosine, refusals."""

import math

import pytest
import torch
from _tensors import tensor
from hypothesis import assume, given, settings, strategies as st
from scalarizer_asserts import assert_formula, assert_value, value_and_gradient
from scalarizer_inputs import away_from_zero, cases

from mopref.scalarizers import COSMOS, Linear


@pytest.mark.parametrize("name", ["cosmos", "cosmos ray"])
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(name, case):
    assume(away_from_zero(case))
    assert_formula(name, case)


@pytest.mark.parametrize(
    ("options", "lam", "expected"),
    # f = (3, 4): Σ λ f = 3/4 + 3 = 15/4, ‖f‖ = 5, ‖λ‖ = √10/4, cos = 3/√10; at the corner 3 and cos = 3/5
    [
        ({"convention": "ray"}, (0.25, 0.75), 3.75 - 6 / math.sqrt(10)),
        ({"convention": "ray"}, (1, 0), 3 - 1.2),
        # With the inverse (3, 1)/√10: cos = 13/(5 √10); at the corner (ε, 1) with ε = 3/4: (9/4 + 4)/(5 · 5/4) = 1
        ({}, (0.25, 0.75), 3.75 - 26 / (5 * math.sqrt(10))),
        ({"epsilon": 0.75}, (1, 0), 3 - 2),
    ],
)
def test_hand_values(options, lam, expected):
    assert_value(COSMOS(mu=2, **options), (3, 4), lam, expected)


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_without_the_cosine_it_is_the_weighted_sum(case):
    x, w = tensor(case.losses, torch.float64), tensor(case.preference, torch.float64)
    assert COSMOS(mu=0)(x, w).item() == pytest.approx(Linear()(x, w).item(), rel=1e-12, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(case=cases(), alpha=st.floats(1e-3, 1e3))
def test_the_cosine_ignores_the_scale_of_the_losses(case, alpha):
    assume(away_from_zero(case))
    f, lam = tensor(case.losses, torch.float64), tensor(case.preference, torch.float64)
    cosine, scaled = (Linear()(losses, lam) - COSMOS(mu=1)(losses, lam) for losses in (f, alpha * f))
    assert -1 - 1e-9 <= cosine.item() <= 1 + 1e-9
    assert scaled.item() == pytest.approx(cosine.item(), abs=1e-9)


def test_it_may_prefer_a_dominated_point():
    """cos = 1, so 1 − 5. At (1, 0): cos = 1/√2, so 1/2 − 5/√2 = −3.04."""
    assert_value(COSMOS(mu=5), (1, 1), (0.5, 0.5), -4.0)
    assert_value(COSMOS(mu=5), (1, 0), (0.5, 0.5), 0.5 - 5 / math.sqrt(2))


@pytest.mark.parametrize("mu", [-0.25, math.nan])
def test_a_negative_price_raises(mu):
    with pytest.raises(ValueError, match=rf"mu is {mu}: .* so it must be ≥ 0\."):
        COSMOS(mu=mu)


def test_losses_of_0_have_a_value_and_a_slope():
    """They point in no direction, so only the weighted sum counts: 0."""
    value, gradient = value_and_gradient(COSMOS(), (0.0, 0.0), (0.25, 0.75))
    assert value == 0.0
    assert all(math.isfinite(each) for each in gradient.tolist())
