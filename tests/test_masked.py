"""Sums over what is labelled: the rest may hold anything."""

import pytest
import torch
from _tensors import DEVICE, DTYPE, randn, tensor

from mopref._masked import labelled_sum

NAN = float("nan")


def test_by_hand():
    values = tensor([[1.0, NAN, 3.0], [4.0, 5.0, float("inf")]])
    labelled = tensor([[True, False, True], [True, True, False]], torch.bool)
    assert labelled_sum(values, labelled, 0).tolist() == [5.0, 5.0, 3.0]
    assert labelled_sum(values, labelled, 1).tolist() == [4.0, 9.0]


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_equals_the_loop(dim):
    generator = torch.Generator().manual_seed(0)
    values, labelled = randn((4, 5, 3), generator), tensor(torch.rand(4, 5, 3, generator=generator) < 0.5, torch.bool)
    result = labelled_sum(values, labelled, dim)
    rows, mask = values.movedim(dim, 0), labelled.movedim(dim, 0)
    expected = sum(torch.where(keep, row, 0.0) for row, keep in zip(rows, mask, strict=True))
    torch.testing.assert_close(result, expected)
    assert result.dtype == DTYPE
    assert result.device.type == DEVICE.type


def test_a_mask_may_be_broadcast():
    """As the labels of rows, for the losses of every preference."""
    values = tensor([[[1.0, 2.0], [3.0, NAN]], [[5.0, 6.0], [7.0, NAN]]])
    labelled = tensor([[True, True], [True, False]], torch.bool)
    assert labelled_sum(values, labelled, 1).tolist() == [[4.0, 2.0], [12.0, 6.0]]


def test_nothing_labelled_is_0():
    assert labelled_sum(tensor([[NAN], [NAN]]), tensor([[False], [False]], torch.bool), 0).tolist() == [0.0]


def test_what_is_left_out_has_gradient_0():
    values = tensor([[1.0, 2.0], [3.0, 4.0]]).requires_grad_()
    labelled = tensor([[True, False], [True, True]], torch.bool)
    labelled_sum(values * values, labelled, 0).sum().backward()
    assert values.grad.tolist() == [[2.0, 0.0], [6.0, 8.0]]
