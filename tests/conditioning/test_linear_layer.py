"""What has to be known of one linear layer."""

from types import SimpleNamespace

import pytest
import torch
from conditioned_networks import BlockingLinear, PackedLinear, TupleLinear, store_in_int8
from torch import nn
from torch.nn.utils import parametrizations, prune

from mopref.conditioning.linear_layer import (
    adapter_device,
    adapter_dtype,
    is_adaptable,
    is_transposed,
    layer_sizes,
    layers_without_gradient,
    plain_weight,
    weight_of,
)


def test_sizes_and_kinds_of_layers(make_gpt2):
    transposed = make_gpt2().transformer.h[0].mlp.c_fc
    assert layer_sizes(transposed) == (256, 64)
    assert layer_sizes(nn.Linear(4, 2)) == (2, 4)
    assert layer_sizes(PackedLinear(nn.Linear(4, 2))) == (2, 4)
    assert is_transposed(transposed)
    assert not is_transposed(nn.Linear(4, 2))
    assert is_adaptable(transposed)
    assert is_adaptable(nn.Linear(4, 2))
    assert is_adaptable(PackedLinear(nn.Linear(4, 2)))
    assert not is_adaptable(nn.MultiheadAttention(4, 2).out_proj)
    assert not is_adaptable(nn.Conv1d(4, 2, 1))


def test_a_layer_derived_from_gpt2s_is_transposed_too(make_gpt2):
    kind = type(make_gpt2().transformer.h[0].mlp.c_fc)

    class Derived(kind):
        """As a user derives it."""

    assert is_transposed(Derived(8, 4))
    assert is_adaptable(Derived(8, 4))
    assert layer_sizes(Derived(8, 4)) == (8, 4)


@pytest.mark.parametrize(
    ("stored", "trained"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.int8, torch.float32),
        (torch.uint8, torch.float32),
    ],
)
def test_adapters_train_in_single_precision_or_in_the_bases_double(stored, trained):
    assert adapter_dtype(torch.zeros(2, dtype=stored)) == trained


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_plain_weight_is_the_parameter_itself(dtype, make_gpt2):
    layer = nn.Linear(4, 2, dtype=dtype)
    assert plain_weight(layer) is layer.weight is weight_of(layer)
    assert plain_weight(layer.requires_grad_(False)) is layer.weight
    transposed = make_gpt2().transformer.h[0].mlp.c_fc
    assert plain_weight(transposed) is transposed.weight


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "weight norm by a hook": nn.utils.weight_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "packed": PackedLinear,
    "a tensor of its own kind": lambda layer: store_in_int8(nn.Sequential(layer))[0],
    "8 bits": lambda layer: layer.to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_nothing_can_be_added_to_a_weight_that_is_packed_or_computed(kind):
    layer = COMPUTED[kind](nn.Linear(4, 2))
    assert is_adaptable(layer)
    assert layer_sizes(layer) == (2, 4)
    assert plain_weight(layer) is None


def test_an_adapter_belongs_where_its_layer_runs():
    layer = nn.Linear(4, 2)
    assert adapter_device(layer) == torch.device("cpu")
    layer = nn.Linear(4, 2, device="meta")
    assert adapter_device(layer) == torch.device("meta")
    for device, expected in (("cpu", "cpu"), (torch.device("cpu"), "cpu"), (1, "cuda:1"), (None, "meta")):
        layer._hf_hook = SimpleNamespace(execution_device=device)
        assert adapter_device(layer) == torch.device(expected)


class WithoutBackward(torch.autograd.Function):
    """A kernel whose output has a graph that nothing comes back through."""

    @staticmethod
    def forward(ctx, x, weight):
        return x @ weight.T

    @staticmethod
    def backward(ctx, gradient):
        return None, None


def test_quantised_layers_that_pass_no_gradient_are_named():
    class PackedWithoutBackward(PackedLinear):
        def forward(self, x):
            weight = self.weight.view(self.out_features, self.in_features).to(x.dtype) * self.step
            return WithoutBackward.apply(x, weight)

    class PackedBlocking(PackedLinear):
        def forward(self, x):
            return super().forward(x).detach()

    class Particular(PackedLinear):
        def forward(self, x, scale):
            return super().forward(x) * scale

    layers = {
        "plain": nn.Linear(4, 2),
        "frozen": nn.Linear(4, 2).requires_grad_(False),
        "packed": PackedLinear(nn.Linear(4, 2)),
        "computed": parametrizations.weight_norm(nn.Linear(4, 2)),
        "blocking": PackedBlocking(nn.Linear(4, 2)),
        "with a graph": PackedWithoutBackward(nn.Linear(4, 2)),
        "of other inputs": Particular(nn.Linear(4, 2)),
        "a router": parametrizations.weight_norm(TupleLinear(4, 2)),
        "blocking and computed": parametrizations.weight_norm(BlockingLinear(4, 2)),
    }
    assert layers_without_gradient(layers) == ["blocking", "with a graph", "blocking and computed"]
    with torch.no_grad():
        assert layers_without_gradient(layers) == ["blocking", "with a graph", "blocking and computed"]
    assert all(parameter.grad is None for layer in layers.values() for parameter in layer.parameters())
