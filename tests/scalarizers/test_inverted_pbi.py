"""InvertedPBI: its formula, hand values, its relation to PBI, the nadir point that it tracks, refusals."""

import math

import pytest
import torch
from _tensors import tensor, tolerance
from hypothesis import given, settings, strategies as st
from scalarizer_asserts import assert_formula, assert_value
from scalarizer_inputs import cases

from mopref.scalarizers import PBI, InvertedPBI


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(case):
    assert_formula("inverted-pbi", case)


@pytest.mark.parametrize(
    ("scalarizer", "f", "lam", "expected"),
    [
        # f = (3, 2), λ = (1/4, 3/4). r = (5, 3): r − f = (2, 1), w = (1, 3)/√10, d1 = (2 + 3)/√10,
        # d2 = |2·3 − 1·1|/√10: both 5/√10, so g = −(1 − θ) 5/√10
        (InvertedPBI(nadir=[5, 3], theta=0.1), (3, 2), (0.25, 0.75), -4.5 / math.sqrt(10)),
        (InvertedPBI(nadir=[5, 3], theta=0.0), (3, 2), (0.25, 0.75), -5 / math.sqrt(10)),
        # r − f = (2, 0, 1), w = (1, 1, 1)/√3: d1 = 3/√3 = √3, d2² = 5 − 3
        (InvertedPBI(nadir=[2, 1, 3], theta=0.5), (0, 1, 2), (1 / 3, 1 / 3, 1 / 3), math.sqrt(2) / 2 - math.sqrt(3)),
    ],
)
def test_hand_values(scalarizer, f, lam, expected):
    assert_value(scalarizer, f, lam, expected)


@settings(max_examples=40, deadline=None)
@given(case=cases(), theta=st.floats(0, 10))
def test_mirrored_at_0_the_nadir_is_the_ideal_point_of_pbi(case, theta):
    """d1 and d2 are the same, θ has the other sign."""
    nadir = [a + g for a, g in zip(case.losses, case.gaps, strict=True)]
    x, w, mirrored = tensor(case.losses, torch.float64), tensor(case.preference, torch.float64), [-a for a in nadir]
    d1 = PBI(ideal=mirrored, theta=0, convention="ray")(-x, w).item()
    d2 = PBI(ideal=mirrored, theta=1, convention="ray")(-x, w).item() - d1
    assert InvertedPBI(nadir=nadir, theta=0)(x, w).item() == pytest.approx(-d1, rel=1e-9, abs=1e-9)
    assert InvertedPBI(nadir=nadir, theta=theta)(x, w).item() == pytest.approx(theta * d2 - d1, rel=1e-7, abs=1e-7)


def test_it_may_prefer_a_dominated_point():
    """d1 = 1 and d2 = 1: −.9. At (0, −1): d2 = 2, so −.8."""
    g = InvertedPBI(nadir=[1, 1], theta=0.1)
    assert_value(g, (0, 0), (1, 0), -0.9)
    assert_value(g, (0, -1), (1, 0), -0.8)


def test_tracked_nadir():
    """Rows that dominate nothing: the nadir is their maximum, plus the margin; it grows with what is seen later."""
    f, lam = tensor([1.0, 1.0]), tensor([0.3, 0.7])

    def of(nadir):
        return pytest.approx(InvertedPBI(nadir=nadir)(f, lam).item(), abs=tolerance(1e-12))

    for margin in (0.0, 0.5):
        g = InvertedPBI(margin=margin)
        g.observe(tensor([[1.0, 3.0], [2.0, 1.0]]).clone().requires_grad_())
        assert g(f, lam).item() == of([2 + margin, 3 + margin])
        assert g.origin.tolist() == g.nadir_point.tolist() == [2 + margin, 3 + margin]
        assert not g(f, lam).requires_grad, "no graph of the observed losses"
        g.observe(tensor([[3.0, 0.5]]))
        assert g(f, lam).item() == of([3 + margin, 3 + margin])


def test_tracked_nadir_is_one_of_recent_non_dominated_rows():
    f, lam, g = tensor([1.0, 1.0]), tensor([0.3, 0.7]), InvertedPBI(margin=0.0)

    def nadir_is(*nadir):
        return g(f, lam).item() == pytest.approx(InvertedPBI(nadir=nadir)(f, lam).item(), abs=tolerance(1e-12))

    g.observe(tensor([[1.0, 9.0], [5.0, 5.0], [2.0, 1.0], [6.0, 9.5]]))  # (2, 1) dominates two
    assert nadir_is(2, 9)
    g.observe(tensor([[1.5, 3.0]]).expand(254, 2))
    assert nadir_is(2, 3), "(2, 1) is the first of the last 256 rows"
    g.observe(tensor([[1.5, 3.0]]))
    assert nadir_is(1.5, 3)


@pytest.mark.parametrize("margin", [{}, {"margin": 0.0}])
def test_a_tracked_nadir_pulls_from_the_first_row_on(margin):
    """The only row seen may be the nadir itself: d1 = d2 = 0, but −d1 still falls with each loss."""
    g = InvertedPBI(**margin)
    losses = tensor([[1.0, 3.0]]).clone().requires_grad_()
    g.observe(losses)
    value = g(losses, tensor([[0.4, 0.6]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert losses.grad.isfinite().all()
    assert (losses.grad > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theta": -0.25}, r"theta is -0\.25: .* so it must be ≥ 0\."),
        ({"theta": math.nan}, "theta is nan"),
        ({"margin": -0.25}, r"margin is -0\.25: .* so it must be ≥ 0\."),
    ],
)
def test_an_invalid_option_raises_and_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        InvertedPBI(**options)


def test_a_repr_shows_the_margin_of_a_tracked_point_only():
    assert repr(InvertedPBI()) == "InvertedPBI(nadir=None, theta=0.1, margin=0.01)"
    assert repr(InvertedPBI(nadir=[1, 2])) == "InvertedPBI(nadir=[1.0, 2.0], theta=0.1)"
