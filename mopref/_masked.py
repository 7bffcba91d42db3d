"""Means over the rows that count."""

import torch
from torch import Tensor

__all__ = ["labelled_sum"]


def labelled_sum(values: Tensor, labelled: Tensor, dim: int) -> Tensor:
    """The sum over ``dim`` of the values that are labelled; the others may hold anything, NaN included.

    Args:
        values: any shape.
        labelled: bool, of a shape that broadcasts to it.
        dim: what is summed over.

    Example:
        >>> labelled_sum(torch.tensor([[1.0, torch.nan], [2.0, 3.0]]), torch.tensor([[True, False], [True, True]]), 0)
        tensor([3., 3.])
    """
    # where, not a product: 0 times NaN is NaN.
    return torch.where(labelled, values, torch.zeros_like(values)).sum(dim=dim)
