"""At least float32: half precision is widened, and what is wide stays the very same tensor."""

import math

import pytest
import torch
from _tensors import tensor

from mopref._precision import are_finite, at_least_float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32_with_the_same_values(dtype):
    values = tensor([1.0, -2.5, 0.1], dtype)
    wide = at_least_float32(values)
    assert wide.dtype == torch.float32
    assert torch.equal(wide.to(dtype), values)
    assert torch.equal(wide, values.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_types_stay(dtype):
    values = tensor([1.0, 2.0], dtype)
    assert at_least_float32(values) is values


def test_a_gradient_goes_through():
    values = tensor([1.0, 2.0], torch.bfloat16).requires_grad_()
    (at_least_float32(values) * 3).sum().backward()
    assert values.grad.dtype == torch.bfloat16
    assert values.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_seen(bad):
    for index in range(4):
        values = torch.ones(2, 2)
        values.view(-1)[index] = bad
        assert not are_finite(values)
    assert not are_finite(torch.tensor([math.inf, -math.inf]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_numbers_whose_sum_overflows_are_finite(dtype):
    assert are_finite(torch.full((64,), torch.finfo(dtype).max, dtype=dtype))
    assert are_finite(torch.zeros(0, dtype=dtype))
