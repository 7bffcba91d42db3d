"""Scalarizers against pymoo's decompositions: equal where both mean the same, the difference pinned where not.

pymoo writes them as the literature does: where they aim along a ray, the ray is λ itself.
"""

import numpy as np
import pytest
import torch
from _tensors import tensor
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from pymoo.decomposition import aasf, asf, pbi, tchebicheff, weighted_sum
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from pymoo.util.normalization import normalize

from mopref.scalarizers import (
    PBI,
    AchievementScalarizing,
    AugmentedAchievementScalarizing,
    InvertedPBI,
    Linear,
    ModifiedTchebycheff,
    Normalized,
    Tchebycheff,
)

ROWS = 12


def t(values) -> torch.Tensor:
    """In float64, as pymoo counts."""
    return tensor(np.array(values), torch.float64)


@st.composite
def batches(draw: st.DrawFn):
    """Losses (N, m), positive weights (N, m) and a point below all losses (m,)."""
    m = draw(st.integers(2, 5))
    losses = draw(arrays(float, (ROWS, m), elements=st.floats(-5, 5)))
    raw = draw(arrays(float, (ROWS, m), elements=st.floats(0.05, 1)))
    gaps = draw(arrays(float, m, elements=st.floats(0.01, 3)))
    return losses, raw / raw.sum(axis=1, keepdims=True), losses.min(axis=0) - gaps


def theirs(kind, losses, weights, point, **options):
    return kind.do(losses, weights, _type="one_to_one", utopian_point=np.asarray(point, dtype=float), **options)


def agree(ours, expected):
    np.testing.assert_allclose(ours.cpu().numpy(), expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(case=batches(), theta=st.floats(0, 10), rho=st.floats(0, 1))
def test_equal_on_positive_weights(case, theta, rho):
    losses, weights, z = case
    f, lam = t(losses), t(weights)
    agree(Linear()(f, lam), theirs(weighted_sum.WeightedSum(), losses, weights, z))
    agree(Tchebycheff(ideal=z.tolist())(f, lam), theirs(tchebicheff.Tchebicheff(), losses, weights, z))
    agree(
        PBI(ideal=z.tolist(), theta=theta, convention="ray")(f, lam), theirs(pbi.PBI(theta=theta), losses, weights, z)
    )
    expected = theirs(asf.ASF(), losses, weights, z)
    agree(AchievementScalarizing(z.tolist(), convention="ray")(f, lam), expected)
    agree(ModifiedTchebycheff(ideal=z.tolist(), convention="ray")(f, lam), expected)
    augmented = AugmentedAchievementScalarizing(z.tolist(), rho=rho, convention="ray")
    agree(augmented(f, lam), theirs(aasf.AASF(rho=rho), losses, weights, z))


@settings(max_examples=30, deadline=None)
@given(case=batches(), share=st.floats(0, 1), rho=st.floats(0, 1))
def test_achievement_is_equal_also_where_the_reference_point_lies_above_losses(case, share, rho):
    losses, weights, _ = case
    z = losses.min(axis=0) + share * (losses.max(axis=0) - losses.min(axis=0)) + 0.1
    f, lam = t(losses), t(weights)
    agree(AchievementScalarizing(z.tolist(), convention="ray")(f, lam), theirs(asf.ASF(), losses, weights, z))
    augmented = AugmentedAchievementScalarizing(z.tolist(), rho=rho, convention="ray")
    agree(augmented(f, lam), theirs(aasf.AASF(rho=rho), losses, weights, z))


@settings(max_examples=30, deadline=None)
@given(case=batches(), theta=st.floats(0, 10))
def test_inverted_pbi_is_their_pbi_mirrored_at_zero(case, theta):
    """pymoo has no inverted PBI. −f and the point −r have the same d1 and d2, and d1 − θ d2 is its PBI with −θ."""
    losses, weights, z = case
    nadir = losses.max(axis=0) + (losses.min(axis=0) - z)
    expected = -theirs(pbi.PBI(theta=-theta), -losses, weights, -nadir)
    agree(InvertedPBI(nadir=nadir.tolist(), theta=theta)(t(losses), t(weights)), expected)


@settings(max_examples=30, deadline=None)
@given(case=batches())
def test_normalized_is_their_normalization_and_tracks_their_non_dominated_set(case):
    losses, weights, _ = case
    front = losses[NonDominatedSorting().do(losses, only_non_dominated_front=True)]
    z, nadir = losses.min(axis=0), front.max(axis=0)
    if (nadir - z < 0.01).any():
        # A tracked range is cut off below, at .1 % of the larger point: at most .005 here.
        nadir = z + 1
        g = Normalized(Linear(), ideal=z.tolist(), nadir=nadir.tolist())
    else:
        g = Normalized(Linear())
        g.observe(t(losses))
    expected = theirs(weighted_sum.WeightedSum(), normalize(losses, xl=z, xu=nadir), weights, np.zeros_like(z))
    np.testing.assert_allclose(g(t(losses), t(weights)).cpu().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rho", [0.1])
def test_zero_weights_in_achievement(rho):
    """f − z = (1, 1), λ = (1, 0). pymoo replaces weights of exactly 0 by 1e-10; we cut every weight off at ε.

    Its augmented form divides by 1e-10 in the maximum, but by 1e-12 in the sum: with one ε for both the value is
    1e10 + ρ (1 + 1e10), theirs is 1e10 + ρ (1 + 1e12).
    """
    losses, weights, z = np.ones((1, 2)), np.array([[1.0, 0.0]]), [0, 0]
    ours = AchievementScalarizing(z, epsilon=1e-10, convention="ray")(t(losses), t(weights))
    agree(ours, theirs(asf.ASF(), losses, weights, z))
    assert AchievementScalarizing(z, epsilon=1e-3, convention="ray")(t(losses), t(weights)).item() == pytest.approx(1e3)
    augmented = AugmentedAchievementScalarizing(z, rho=rho, epsilon=1e-10, convention="ray")(
        t(losses), t(weights)
    ).item()
    assert augmented == pytest.approx(1e10 + rho * (1 + 1e10), rel=1e-12)
    assert theirs(aasf.AASF(rho=rho), losses, weights, z)[0] == pytest.approx(1e10 + rho * (1 + 1e12), rel=1e-12)


def test_weights_that_are_tiny_but_not_zero():
    """λ = (1, 1e-14): pymoo divides by 1e-14, so that a hair above 0 is worse than 0; ours is continuous in λ."""
    losses, z = np.ones((1, 2)), [0, 0]
    zero, tiny = np.array([[1.0, 0.0]]), np.array([[1.0, 1e-14]])
    assert theirs(asf.ASF(), losses, zero, z)[0] == pytest.approx(1e10)
    assert theirs(asf.ASF(), losses, tiny, z)[0] == pytest.approx(1e14)
    g = AchievementScalarizing(z, convention="ray")
    assert g(t(losses), t(tiny)).item() == g(t(losses), t(zero)).item() == pytest.approx(1e3)


def test_a_loss_below_the_ideal_point():
    """f − z = (−3, 1), λ = (1/2, 1/2): pymoo takes |f − z| and calls it 3/2, worse than f − z = (0, 1). Ours raises."""
    losses, weights = np.array([[-3.0, 1.0]]), np.full((1, 2), 0.5)
    assert theirs(tchebicheff.Tchebicheff(), losses, weights, [0, 0])[0] == pytest.approx(1.5)
    with pytest.raises(ValueError, match=r"(?i)ideal.*-3"):
        Tchebycheff(ideal=[0, 0])(t(losses), t(weights))
    assert AchievementScalarizing([0, 0], convention="ray")(t(losses), t(weights)).item() == pytest.approx(2.0)


def test_their_default_points():
    """Without a point pymoo takes z = 0, and the augmented form 0 − 1e-10; ours tracks one, or must be given it."""
    losses, weights = np.array([[3.0, 2.0]]), np.array([[0.25, 0.75]])
    plain = {"_type": "one_to_one"}
    agree(PBI(ideal=[0, 0], theta=5, convention="ray")(t(losses), t(weights)), pbi.PBI().do(losses, weights, **plain))
    agree(
        AchievementScalarizing([0, 0], convention="ray")(t(losses), t(weights)), asf.ASF().do(losses, weights, **plain)
    )
    shifted = aasf.AASF(rho=0.1).do(losses, weights, **plain)[0]
    # 12 + .1 (12 + 8/3), and 1e-10 more in each loss: 1e-10 (4 + .1 (4 + 4/3)).
    exact = AugmentedAchievementScalarizing([0, 0], rho=0.1, convention="ray")(t(losses), t(weights)).item()
    assert exact == pytest.approx(12 + 0.1 * 44 / 3, rel=1e-14)
    assert shifted - exact == pytest.approx(1e-10 * (4 + 0.1 * 16 / 3), rel=1e-3)
    with pytest.raises(TypeError, match="reference_point"):
        AchievementScalarizing()
