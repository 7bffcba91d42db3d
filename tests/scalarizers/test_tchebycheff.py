"""Tchebycheff, ModifiedTchebycheff and AugmentedTchebycheff: formulas, hand values, limits, slopes, refusals."""

import math

import pytest
import torch
from _tensors import tensor, tolerance
from hypothesis import given, settings
from scalarizer_asserts import assert_formula, assert_value
from scalarizer_inputs import cases, random_batch

from mopref.scalarizers import SCALARIZERS, AugmentedTchebycheff, ModifiedTchebycheff, Tchebycheff


@pytest.mark.parametrize(
    "name", ["tchebycheff", "modified-tchebycheff", "modified-tchebycheff ray", "augmented-tchebycheff"]
)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(name, case):
    assert_formula(name, case)


@pytest.mark.parametrize(
    ("scalarizer", "expected"),
    [
        # f = (3, 2), z = (1, 1), f − z = (2, 1), λ = (1/4, 3/4); worked out by hand.
        (Tchebycheff(ideal=[1.0, 1.0]), 0.75),
        (ModifiedTchebycheff(ideal=[1.0, 1.0]), 0.75),
        (ModifiedTchebycheff(ideal=[1.0, 1.0], convention="ray"), 8.0),
        (AugmentedTchebycheff(ideal=[1.0, 1.0], rho=0.1), 1.05),
    ],
)
def test_hand_values(scalarizer, expected):
    assert_value(scalarizer, (3, 2), (0.25, 0.75), expected)


def test_tchebycheff_returns_the_weighted_maximum_not_the_worst_loss():
    """f = (1, 10), λ = (.95, .05): the weighted maximum .95 belongs to objective 0; f[argmax] would be 1."""
    assert_value(Tchebycheff(ideal=[0.0, 0.0]), (1, 10), (0.95, 0.05), 0.95)


def test_the_augmented_form_tends_to_tchebycheff():
    losses, preferences, ideal = random_batch((50, 4), "tchebycheff")
    hard = Tchebycheff(ideal=ideal)(losses, preferences)
    augmented = AugmentedTchebycheff(ideal=ideal, rho=1e-8)(losses, preferences)
    torch.testing.assert_close(augmented, hard, atol=tolerance(1e-6), rtol=0)


def test_tchebycheff_gradient_passes_through_the_argmax_only():
    losses, preferences, ideal = random_batch((20, 4), "tchebycheff", seed=5)
    losses.requires_grad_()
    Tchebycheff(ideal=ideal)(losses, preferences).sum().backward()
    worst = (preferences * (losses.detach() - ideal)).argmax(-1)
    expected = torch.zeros_like(losses).scatter_(1, worst[:, None], preferences.gather(1, worst[:, None]))
    torch.testing.assert_close(losses.grad, expected)


def test_the_smallest_weight_that_is_divided_by_is_an_option():
    importance = SCALARIZERS.make("modified-tchebycheff", ideal=[0.0, 0.0], epsilon=0.1)
    assert_value(importance, (0, 1), (1, 0), 0.1)
    assert_value(importance, (1, 1), (1, 0), 1.0)
    ray = SCALARIZERS.make("modified-tchebycheff", ideal=[0.0, 0.0], epsilon=0.1, convention="ray")
    assert_value(ray, (1, 1), (1, 0), 10.0)


def test_the_modified_form_is_tchebycheff_where_no_weight_is_cut_off():
    losses, preferences, ideal = random_batch((50, 4), "tchebycheff")
    hard = Tchebycheff(ideal=ideal)(losses, preferences)
    assert torch.equal(ModifiedTchebycheff(ideal=ideal)(losses, preferences), hard)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tchebycheff(margin=-0.25), r"margin is -0\.25: .* so it must be ≥ 0\."),
        (lambda: Tchebycheff(ideal=[0.0, math.nan]), r"ideal is \[0\.0, nan\]"),
        (lambda: Tchebycheff(ideal=[0.0, math.inf]), r"ideal is \[0\.0, inf\]"),
        (lambda: ModifiedTchebycheff(epsilon=0.0), r"epsilon is 0\.0: .* so it must be > 0\."),
        (lambda: ModifiedTchebycheff(epsilon=-0.25), r"epsilon is -0\.25"),
        (lambda: AugmentedTchebycheff(rho=-0.25), r"rho is -0\.25: .* so it must be ≥ 0\."),
    ],
)
def test_an_invalid_option_raises_and_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_repr_shows_the_margin_of_a_tracked_point_only():
    assert repr(Tchebycheff(ideal=[0, 0])) == "Tchebycheff(ideal=[0.0, 0.0])"
    expected = "ModifiedTchebycheff(ideal=None, epsilon=0.001, margin=0.01, convention='importance')"
    assert repr(ModifiedTchebycheff()) == expected
    tracked = Tchebycheff(margin=0.5)
    tracked.observe(tensor([[1.0, 2.0]]))
    assert repr(tracked) == "Tchebycheff(ideal=None, margin=0.5)", "what was observed is no option"
