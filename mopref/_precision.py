"""The precision that numbers are added up in, and whether they are finite."""

import math

import torch
from torch import Tensor

__all__ = ["are_finite", "at_least_float32"]


def at_least_float32(values: Tensor) -> Tensor:
    """The same values, in float32 where they are in half precision: sums and exponentials need more digits.

    Example:
        >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.float() if values.dtype.itemsize < torch.float32.itemsize else values


def are_finite(values: Tensor) -> bool:
    """Whether all numbers are finite; where their sum is they are, which takes one pass over them.

    Example:
        >>> are_finite(torch.tensor([1.0, 3e38, 3e38])), are_finite(torch.tensor([1.0, torch.nan]))
        (True, False)
    """
    return math.isfinite(values.sum().item()) or bool(values.isfinite().all())
