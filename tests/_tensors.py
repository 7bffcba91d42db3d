"""Tensors for the tests, on a device and in a floating-point type that the environment chooses.

    MOPREF_TEST_DEVICE=cuda MOPREF_TEST_DTYPE=float32 python -m pytest tests/scalarizers

The defaults are the CPU and float64. What a test draws at random it draws on the CPU in float64, so that every device
and type gets the same numbers. A test that is about one type, or that needs float64 (``gradcheck``, say), names it.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DEVICE = torch.device(os.environ.get("MOPREF_TEST_DEVICE", "cpu"))
DTYPE: torch.dtype = getattr(torch, os.environ.get("MOPREF_TEST_DTYPE", "float64"))


def tensor(values: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of these values: numbers, lists, arrays or another tensor."""
    return torch.as_tensor(values, dtype=dtype or DTYPE).to(DEVICE)


def rand(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype | None = None) -> Tensor:
    """Uniform numbers in [0, 1)."""
    return tensor(torch.rand(tuple(shape), generator=generator, dtype=torch.float64), dtype)


def randn(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype | None = None) -> Tensor:
    """Normal numbers."""
    return tensor(torch.randn(tuple(shape), generator=generator, dtype=torch.float64), dtype)


def tolerance(float64_tolerance: float) -> float:
    """A tolerance that float64 keeps, widened to what the type in force can."""
    return max(float64_tolerance, 1e3 * torch.finfo(DTYPE).eps)
