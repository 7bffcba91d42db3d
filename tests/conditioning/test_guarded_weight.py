"""A weight that can be looked at, and that nothing can be computed with."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from mopref.conditioning.guarded_weight import GuardedWeight

X = torch.ones(2, 3)


@pytest.fixture
def weight() -> GuardedWeight:
    return GuardedWeight(torch.ones(5, 3, dtype=torch.bfloat16), (5, 3), "model.q_proj")


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (lambda w: w.dtype, torch.bfloat16),
        (lambda w: w.device, torch.device("cpu")),
        (lambda w: tuple(w.shape), (5, 3)),
        (lambda w: (w.size(0), w.size(-1), tuple(w.size())), (5, 3, (5, 3))),
        (lambda w: (w.ndim, w.dim(), w.numel(), len(w)), (2, 2, 15, 5)),
        (lambda w: (w.element_size(), w.itemsize), (2, 2)),
        (lambda w: (w.is_floating_point(), torch.is_floating_point(w), w.is_complex()), (True, True, False)),
        (lambda w: (w.is_cuda, w.is_meta, w.is_sparse, w.is_quantized, w.is_nested), (False,) * 5),
        (lambda w: w.requires_grad, False),
        (lambda w: w.dtype != torch.int8 and X.to(w.dtype).dtype, torch.bfloat16),
        (lambda w: isinstance(w, torch.Tensor) and torch.is_tensor(w), True),
        (repr, "GuardedWeight(model.q_proj)"),
    ],
)
def test_what_only_looks_is_answered(look, expected, weight):
    assert look(weight) == expected


@pytest.mark.parametrize(
    "compute",
    [
        lambda w: X @ w.T,
        lambda w: w @ torch.ones(3),
        lambda w: torch.matmul(w, torch.ones(3)),
        lambda w: linear(X, w),
        lambda w: w + 1,
        lambda w: 1 - w,
        lambda w: w[0],
        lambda w: w.sum(),
        lambda w: w.norm(),
        lambda w: w.float(),
        lambda w: w.to(torch.float64),
        lambda w: w.cpu(),
        lambda w: w.detach(),
        lambda w: w.data,
        lambda w: w.clone(),
        lambda w: w.view(-1),
        lambda w: w.tolist(),
        lambda w: w.numpy(),
        lambda w: w.abs_(),
        lambda w: w.fill_(0),
        lambda w: w.copy_(torch.zeros(5, 3)),
        lambda w: (w > 0).any(),
        lambda w: torch.einsum("oi,bi->bo", w, X),
        lambda w: torch.nn.init.zeros_(w),
        copy.deepcopy,
    ],
)
def test_what_computes_is_refused_with_the_layers_name(compute, weight):
    with pytest.raises(ValueError, match=r"model\.q_proj is adapted, but the model computes with its weight itself"):
        compute(weight)


@pytest.mark.parametrize(
    "compute",
    [
        lambda w: torch.cat([w, w]),
        lambda w: torch.stack([torch.zeros(5, 3), w]),
        lambda w: linear(input=X, weight=w),
        lambda w: torch._foreach_mul([w], 2.0),
        lambda w: torch.ops.aten.mul.Tensor(w, X),
    ],
)
def test_in_a_list_or_past_the_functions_it_is_refused_too(compute, weight):
    with pytest.raises(ValueError, match="is adapted, but the model computes with its weight itself"):
        compute(weight)


@pytest.mark.parametrize("compute", [lambda w: w + 1, lambda w: w.detach(), lambda w: torch.mul(X[:1], w)])
def test_where_functions_of_tensors_are_not_watched_it_is_refused_too(compute, weight):
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(ValueError, match="a layer is adapted, but the model"):
        compute(weight)


def test_nothing_is_computed_from_it_by_copying_into_another_tensor(weight):
    target = torch.zeros(5, 3)
    with pytest.raises(ValueError, match="computes with its weight"):
        target.copy_(weight)
    with pytest.raises(ValueError, match="computes with its weight"):
        nn.Linear(3, 5).weight.data.add_(weight)
    assert (target == 0).all()


def test_it_has_the_shape_that_it_is_given_and_no_memory_of_its_own():
    packed = torch.zeros(10**6, 1, dtype=torch.int8)
    weight = GuardedWeight(packed, (1000, 1000), "a layer")
    assert (tuple(weight.shape), weight.dtype) == ((1000, 1000), torch.int8)
    with pytest.raises(ValueError, match="computes with its weight"):
        weight.untyped_storage()
