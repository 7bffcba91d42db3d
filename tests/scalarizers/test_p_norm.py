"""PNorm: its formula, hand values, limits, rounding and size, the ideal point, refusals."""

import math

import numpy as np
import pytest
import torch
from _tensors import tensor, tolerance
from hypothesis import given, settings, strategies as st
from scalarizer_asserts import assert_formula, assert_value, value_and_gradient
from scalarizer_inputs import cases

from mopref.scalarizers import PNorm, Tchebycheff


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(case):
    assert_formula("p-norm", case)


@pytest.mark.parametrize(
    ("p", "expected"),
    # f = (3, 2), z = (1, 1), λ = (1/4, 3/4), λ (f − z) = (1/2, 3/4): 5/4; √(1/4 + 9/16) = √13/4;
    # (1/8 + 27/64)^(1/3) = 35^(1/3)/4
    [(1, 1.25), (2, math.sqrt(13) / 4), (3, 35 ** (1 / 3) / 4)],
)
def test_hand_values(p, expected):
    assert_value(PNorm(ideal=[1, 1], p=p), (3, 2), (0.25, 0.75), expected)


@settings(max_examples=60, deadline=None)
@given(case=cases(), p=st.floats(1, 1e4), more=st.floats(1, 10))
def test_it_lies_between_tchebycheff_and_the_weighted_sum(case, p, more):
    """max ≤ g ≤ m^(1/p) max, falling in p; p = 1 is the weighted sum of f − z, and numpy has the same norm."""
    z, m = case.point("p-norm"), len(case.losses)
    f, lam = tensor(case.losses, torch.float64), tensor(case.preference, torch.float64)

    def norm(p):
        return PNorm(ideal=z, p=p)(f, lam).item()

    hard, value = Tchebycheff(ideal=z)(f, lam).item(), norm(p)
    assert hard * (1 - 1e-9) <= value <= hard * m ** (1 / p) * (1 + 1e-9)
    assert norm(p * more) <= value * (1 + 1e-9)
    weighted = [w * (a - b) for w, a, b in zip(case.preference, case.losses, z, strict=True)]
    assert norm(1) == pytest.approx(sum(weighted), rel=1e-9)
    assert norm(1 + 1e-9) == pytest.approx(sum(weighted), rel=1e-6)
    if p < 20:
        assert value == pytest.approx(np.linalg.norm(weighted, ord=p), rel=1e-9)


KINKS = [(0.3, 0.7), (0.5, 0.5), (0.0, 0.0), (0.0, 0.5), (0.5, 0.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", KINKS)
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 50.0])
def test_gradient_is_finite_where_the_formula_has_a_kink(p, gap, dtype):
    point = (1.0, 2.0)
    for lam in ((0.3, 0.7), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0)):
        value_and_gradient(PNorm(ideal=point, p=p), [z + g for z, g in zip(point, gap, strict=True)], lam, dtype)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_at_the_ideal_point_the_slope_is_the_one_along_the_diagonal(p):
    """λ_i m^(1/p − 1), which at f − z = t/λ is the norm's own slope for every t > 0; each row by its own λ."""
    point, lam = tensor([1.0, 2.0, 3.0]), tensor([[0.25, 0.25, 0.5], [0.5, 0.3, 0.2], [1 / 3] * 3])
    losses = point.expand(3, 3).clone().requires_grad_()
    values = PNorm(ideal=[1, 2, 3], p=p)(losses, lam)
    assert values.tolist() == [0.0, 0.0, 0.0]
    values.sum().backward()
    torch.testing.assert_close(losses.grad, lam * 3 ** (1 / p - 1))
    near = (point + 0.1 / lam).requires_grad_()
    PNorm(ideal=[1, 2, 3], p=p)(near, lam).sum().backward()
    torch.testing.assert_close(near.grad, losses.grad, rtol=tolerance(1e-7), atol=0)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 1e4])
def test_it_bears_a_loss_that_rounding_put_below_the_ideal_point(p):
    """A naive power of −1e-7 is NaN for p = 1.5."""
    value, _ = value_and_gradient(PNorm(ideal=[1, 1], p=p), (1 - 1e-7, 3), (0.5, 0.5))
    assert value == pytest.approx(1.0, rel=tolerance(1e-6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("p", [1.0, 2.5, 1e2, 1e4])
def test_it_neither_overflows_nor_underflows(p, size, dtype):
    """λ (f − z) = (1/2, 1, 1) · size: size · (2 + 2^−p)^(1/p). z = 0, so g is homogeneous in f: ⟨∇g, f⟩ = g."""
    f = tensor([2.0, 4.0, 2.0], dtype) * size
    value, gradient = value_and_gradient(PNorm(ideal=[0, 0, 0], p=p), f, (0.25, 0.25, 0.5), dtype)
    expected = size * (2 + 2.0**-p) ** (1 / p)
    assert value == pytest.approx(expected, rel=1e-5)
    assert (gradient * f).sum().item() == pytest.approx(expected, rel=1e-3)


def test_an_ideal_point_above_a_loss_raises():
    with pytest.raises(ValueError, match=r"(?i)ideal.*1"):
        PNorm(ideal=[0, 1])(tensor([[0.5, 0.5]]), tensor([[1.0, 0.0]]))


def test_tracked_ideal_point():
    f, lam = tensor([1.0, 1.0]), tensor([0.3, 0.7])
    g = PNorm(p=2, margin=0.5)
    g.observe(tensor([[1.0, 3.0], [2.0, 1.0]]))
    g.observe(tensor([[0.5, 9.0]]))
    expected = PNorm(ideal=[0.0, 0.5], p=2)(f, lam).item()
    assert g(f, lam).item() == pytest.approx(expected, abs=tolerance(1e-12))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0.75}, r"p is 0\.75: a norm needs 1 ≤ p"),
        ({"p": math.nan}, "p is nan"),
        ({"p": math.inf}, "p is inf"),
        ({"margin": -0.25}, r"margin is -0\.25"),
    ],
)
def test_an_invalid_option_raises_and_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        PNorm(**options)
