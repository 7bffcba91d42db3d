"""A layer that stands in for the one it wraps: looked at like it, called like it, and never computed around."""

import copy

import pytest
import torch
from conditioned_networks import (
    GroupedLinear,
    PackedLinear,
    TupleLinear,
    assert_each_row_is_its_merged_model,
    conditioned,
    tiny_t5,
)
from torch import nn
from torch.nn.functional import linear

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.preference_state import PreferenceRecord

CONDITIONINGS = {
    "svd-lora": lambda base: PreferenceModel(base, SVDLoRAConfig(("a", "b"))),
    "film": lambda base: FiLMModel(base, 2),
}


@pytest.fixture(params=CONDITIONINGS)
def condition(request):
    """Each way to put adapters around linear layers."""
    return CONDITIONINGS[request.param]


class BlockDiagonalLinear(nn.Linear):
    """Two maps, each from a half of the input, in one weight."""

    def forward(self, x):
        halves = zip(x.chunk(2, dim=-1), self.weight.chunk(2), strict=True)
        return torch.cat([half @ weight.T for half, weight in halves], dim=-1)


def first_adapter(model: nn.Module) -> AdapterLayer:
    return next(part for part in model.modules() if isinstance(part, AdapterLayer))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_it_has_the_attributes_of_the_layer_it_wraps(dtype, condition):
    linear_layer = nn.Linear(3, 2, dtype=dtype)
    linear_layer.note = "of the user's"
    layer = first_adapter(condition(nn.Sequential(linear_layer)))
    assert (layer.in_features, layer.out_features, layer.note) == (3, 2, "of the user's")
    assert layer.bias is linear_layer.bias
    assert (layer.weight.dtype, layer.weight.device, tuple(layer.weight.shape)) == (
        dtype,
        linear_layer.weight.device,
        (2, 3),
    )
    assert not hasattr(layer, "no_such_attribute")
    with pytest.raises(AttributeError, match="no_such_attribute"):
        _ = layer.no_such_attribute


def test_a_transposed_and_a_packed_layer_tell_the_sizes_of_their_map(condition, make_gpt2):
    model = condition(make_gpt2())
    layer = model.base_model.transformer.h[0].mlp.c_fc
    assert (layer.nf, tuple(layer.weight.shape)) == (256, (256, 64))
    layer = first_adapter(condition(nn.Sequential(PackedLinear(nn.Linear(3, 2)))))
    assert (layer.weight.dtype, tuple(layer.weight.shape), layer.step > 0) == (torch.int8, (2, 3), True)


def test_its_own_attributes_come_first_and_its_parameters_are_the_layers_and_its_own(condition):
    model = condition(nn.Sequential(nn.Linear(3, 2)))
    layer = first_adapter(model)
    assert layer.state is model.state
    names = {name for name, _ in layer.named_parameters()}
    assert names >= {"base_layer.weight", "base_layer.bias"}
    assert not names & {"weight", "bias"}
    copied = first_adapter(copy.deepcopy(model))
    assert (copied.in_features, copied.bias is layer.bias) == (3, False)


@pytest.mark.parametrize(
    ("move", "adapter", "base"),
    [
        (lambda model: model.to(torch.bfloat16), torch.float32, torch.bfloat16),
        (lambda model: model.half(), torch.float32, torch.float16),
        (lambda model: model.double(), torch.float64, torch.float64),
        (lambda model: model.double().to(torch.bfloat16), torch.float64, torch.bfloat16),
        (lambda model: model.half().float(), torch.float32, torch.float32),
    ],
)
def test_what_it_adds_stays_in_single_precision_or_double(move, adapter, base, condition):
    model = move(condition(nn.Sequential(nn.Linear(3, 2))))
    layer = first_adapter(model)
    kinds = {name: parameter.dtype for name, parameter in layer.named_parameters()}
    assert {kind for name, kind in kinds.items() if name.startswith("base_layer")} == {base}
    assert {kind for name, kind in kinds.items() if not name.startswith("base_layer")} == {adapter}
    assert model(torch.ones(2, 3, dtype=base), preferences=[0.5, 0.5]).dtype == base


class Reader(nn.Module):
    """Multiplies with a layer's weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.inner.weight, self.inner.bias)


@pytest.mark.parametrize("train", [True, False])
def test_a_network_that_computes_with_the_weight_is_told_the_layer(train, condition):
    model = condition(nn.Sequential(Reader(), nn.Linear(2, 2))).train(train)
    with pytest.raises(ValueError, match=r"0\.inner is adapted, but the model computes with its weight itself"):
        model(torch.zeros(4, 3), preferences=[0.5, 0.5])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (TupleLinear(4, 4), r"1 makes tuple of an input of shape \(2, 4\), which is no product with its weight \(4, 4"),
        (GroupedLinear(4, 8), r"1 makes \(2, 2, 4\) of an input of shape \(2, 4\)"),
        (BlockDiagonalLinear(2, 4), r"1 makes \(2, 4\) of an input of shape \(2, 4\), which is no .* \(4, 2\)"),
    ],
)
def test_a_layer_to_which_no_product_can_be_added_is_refused(layer, message, condition):
    model = condition(nn.Sequential(nn.Linear(3, 4), layer))
    with pytest.raises(TypeError, match=message):
        model(torch.zeros(2, 3), preferences=[0.5, 0.5])


def test_arguments_of_a_derived_layer_reach_it(condition):
    class Scaled(nn.Linear):
        def forward(self, x, factor, *, shift=0.0):
            return factor * super().forward(x) + shift

    base = nn.Sequential(Scaled(3, 2))
    layer, x = first_adapter(condition(base)), torch.ones(1, 3)
    layer.state.set(PreferenceRecord(torch.tensor([[0.5, 0.5]])))
    torch.testing.assert_close(layer(x, 2.0, shift=1.0), 2 * linear(x, layer.base_layer.weight, layer.bias) + 1)


# Networks that look at a weight as well as calling its layer.


def test_an_encoder_decoder_that_asks_for_a_weights_type_is_its_merged_model():
    def call(network, rows, **options):
        ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])[rows]
        return network(input_ids=ids, decoder_input_ids=ids[:, :2], **options).logits

    model = conditioned(tiny_t5())
    preferences = torch.tensor([[1.0, 0.0], [0.2, 0.8]])
    assert_each_row_is_its_merged_model(model, call, preferences)
    with torch.no_grad():
        single = call(model, slice(None), preferences=preferences[1])
        merged = call(model.merge(preferences[1]), slice(None))
    torch.testing.assert_close(single, merged, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_fast_path_of_an_encoder_goes_through_its_adapters(norm_first, masked):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=norm_first)
    base = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
    x = torch.randn(2, 3, 16)
    mask = torch.tensor([[False, False, False], [False, False, True]]) if masked else None

    def call(network, rows, **options):
        return network(x[rows], src_key_padding_mask=None if mask is None else mask[rows], **options)[:, :2]

    assert_each_row_is_its_merged_model(conditioned(base), call, torch.tensor([[1.0, 0.0], [0.2, 0.8]]))


@pytest.mark.parametrize("batch_first", [True, False])
def test_rows_of_an_encoder_lie_where_it_takes_them(batch_first):
    """As many tokens as rows, so that the two can be mistaken for each other."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=batch_first)
    base = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x, rows_at = torch.randn(3, 3, 16), 0 if batch_first else 1

    def call(network, rows, **options):
        return network(x[rows] if batch_first else x[:, rows], **options).movedim(rows_at, 0)

    preferences = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    assert_each_row_is_its_merged_model(conditioned(base), call, preferences)


@torch.no_grad()
def test_an_encoder_with_scaled_and_shifted_features_is_the_same_in_both_modes():
    torch.manual_seed(0)
    base = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 1)
    model = FiLMModel(base, 2)
    for layer in model.layers.values():
        layer.conditioner[-1].weight.normal_(0, 0.5)
    x, preferences = torch.randn(2, 3, 16), [[1.0, 0.0], [0.2, 0.8]]
    trained = model.train()(x, preferences=preferences)
    torch.testing.assert_close(model.eval()(x, preferences=preferences), trained)
    assert (model(x, preferences=[0.5, 0.5]) - trained).abs().max() > 0.1


class Looker(nn.Module):
    """Brings its input to the type of a layer's weight, as T5 does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.to(self.inner.weight.dtype))


@torch.no_grad()
def test_compiled_code_may_look_at_a_weight_too():
    model = conditioned(Looker())
    x, preferences = torch.ones(2, 3, dtype=torch.float64), torch.tensor([[1.0, 0.0], [0.2, 0.8]])
    compiled = torch.compile(model.base_model, backend="eager")
    expected = model(x, preferences=preferences)
    torch.testing.assert_close(compiled(x), expected)
    assert (expected[0] - expected[1]).abs().max() > 0.05
