"""SmoothTchebycheff: its formula, a hand value, bounds and limit, slope, refusals."""

import math

import pytest
import torch
from _tensors import tensor, tolerance
from hypothesis import given, settings, strategies as st
from scalarizer_asserts import assert_formula, assert_value
from scalarizer_inputs import cases, random_batch

from mopref.scalarizers import SmoothTchebycheff, Tchebycheff


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(case):
    assert_formula("smooth-tchebycheff", case)


def test_hand_value():
    """f = (3, 2), z = (1, 1), λ = (1/4, 3/4): λ (f − z) / μ = (2, 3)."""
    expected = 0.25 * math.log(math.e**2 + math.e**3)
    assert_value(SmoothTchebycheff(ideal=[1.0, 1.0], mu=0.25), (3, 2), (0.25, 0.75), expected)


@settings(max_examples=60, deadline=None)
@given(case=cases(), mu=st.floats(0.01, 2))
def test_bounds(case, mu):
    """max ≤ g ≤ max + μ log m."""
    f, lam, z = tensor(case.losses), tensor(case.preference), case.point("tchebycheff")
    hard = Tchebycheff(ideal=z)(f, lam).item()
    smooth = SmoothTchebycheff(ideal=z, mu=mu)(f, lam).item()
    assert hard - tolerance(1e-9) <= smooth <= hard + mu * math.log(len(f)) + tolerance(1e-9)


def test_it_tends_to_tchebycheff():
    losses, preferences, ideal = random_batch((50, 4), "tchebycheff")
    hard = Tchebycheff(ideal=ideal)(losses, preferences)
    smooth = SmoothTchebycheff(ideal=ideal, mu=1e-7)(losses, preferences)
    torch.testing.assert_close(smooth, hard, atol=tolerance(1e-6), rtol=0)


def test_it_does_not_overflow():
    g = SmoothTchebycheff(ideal=[0.0, 0.0], mu=1e-3)
    value = g(tensor([1e4, 2e4], torch.float32), tensor([0.5, 0.5], torch.float32))
    assert value.item() == pytest.approx(1e4, rel=1e-6)


def test_gradient_is_the_softmax_of_weighted_gaps():
    losses, preferences, ideal = random_batch((6, 3), "tchebycheff", seed=6)
    losses.requires_grad_()
    SmoothTchebycheff(ideal=ideal, mu=0.2)(losses, preferences).sum().backward()
    share = torch.softmax(preferences * (losses.detach() - ideal) / 0.2, dim=-1)
    torch.testing.assert_close(losses.grad, share * preferences)


@pytest.mark.parametrize("mu", [0.0, -0.25, -1.0])
def test_a_smoothing_that_is_not_positive_raises(mu):
    with pytest.raises(ValueError, match=rf"mu is {mu}: it is divided by, so it must be > 0"):
        SmoothTchebycheff(mu=mu)
