"""What several tests of scalarizers assert."""

from collections.abc import Sequence

import pytest
import torch
from _tensors import tensor, tolerance
from scalarizer_inputs import Case, build, formula
from torch import Tensor

from mopref.scalarizer import Scalarizer


def assert_formula(name: str, case: Case) -> None:
    """The scalarizer of that name has the value that its formula has in plain Python."""
    f, lam, point = case.losses, case.preference, case.point(name)
    value = build(name, point)(tensor(f), tensor(lam))
    assert value.shape == ()
    assert value.item() == pytest.approx(formula(name, f, lam, point), rel=tolerance(1e-9), abs=tolerance(1e-9))


def assert_value(g: Scalarizer, f: Sequence[float], lam: Sequence[float], expected: float) -> None:
    """g has a value that was worked out by hand."""
    assert g(tensor(f), tensor(lam)).item() == pytest.approx(expected, rel=tolerance(1e-12), abs=tolerance(1e-12))


def value_and_gradient(
    g: Scalarizer, f: Sequence[float] | Tensor, lam: Sequence[float], dtype: torch.dtype | None = None
) -> tuple[float, Tensor]:
    """g and its gradient in the losses, both of the losses' type and finite."""
    losses = tensor(f, dtype).clone().requires_grad_()
    value = g(losses, tensor(lam, dtype))
    value.backward()
    assert value.dtype == losses.grad.dtype == losses.dtype
    assert value.isfinite(), f"value {value} at {f}, λ = {lam}"
    assert losses.grad.isfinite().all(), f"gradient {losses.grad} at {f}, λ = {lam}"
    return value.item(), losses.grad
