"""The first product of a low-rank adapter, x V, where activations and adapter are of two types."""

from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["coordinates_of"]


def coordinates_of(x: Tensor, in_directions: Tensor) -> Tensor:
    """X V: ``(…, n_in)`` by ``(n_in, k)``, in the type of V, or in autocast's.

    Where x is of another type, such as the bfloat16 of a base beside an adapter in float32, PyTorch would keep a copy
    of x in V's type for the backward pass of every layer that sees it. What is kept here is x itself, which those
    layers share; values and gradients are the same ones.

    Example:
        >>> coordinates_of(torch.ones(1, 2, dtype=torch.bfloat16), torch.eye(2)).dtype
        torch.float32
    """
    if torch.is_autocast_enabled(x.device.type):
        # Which brings both to its own type, but for float64: another one on the way would be one more tensor.
        return (x.to(in_directions.dtype) if x.dtype == torch.float64 else x) @ in_directions
    if x.dtype == in_directions.dtype or not torch.is_grad_enabled():
        return x.to(in_directions.dtype) @ in_directions
    return cast(Tensor, _OfOtherType.apply(x, in_directions))


class _OfOtherType(torch.autograd.Function):
    """The product, which keeps x in its own type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, in_directions: Tensor) -> Tensor:
        """In the type of V."""
        ctx.save_for_backward(x, in_directions)
        return x.to(in_directions.dtype) @ in_directions

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gradients to x, in its type, and to V, by the products that PyTorch takes."""
        x, in_directions = ctx.saved_tensors
        rows = outer.reshape(-1, outer.shape[-1])
        of_x = (rows @ in_directions.T).view(x.shape).to(x.dtype) if ctx.needs_input_grad[0] else None
        flat = x.reshape(-1, x.shape[-1]).to(in_directions.dtype)
        return of_x, (rows.T @ flat).T if ctx.needs_input_grad[1] else None
