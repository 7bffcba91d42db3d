"""A merged model is a plain one with W0 + ΔW(λ), each layer's weight its own; what cannot be merged is refused."""

import copy

import pytest
import torch
from conditioned_networks import (
    IDS,
    DoubledLinear,
    PackedLinear,
    assert_each_row_is_its_merged_model,
    conditioned,
    logits_of_rows,
    store_in_int8,
    tiny_t5,
)
from tiny_models import tiny_model
from torch import nn
from torch.nn.utils import parametrizations, prune

PREFERENCE = [0.7, 0.3]
TOLERANCE = {"atol": 2e-4, "rtol": 2e-4}


@torch.no_grad()
@pytest.mark.parametrize("targets", [("lm_head",), ("lm_head", "q_proj", "c_attn")])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_merged_head_has_a_weight_of_its_own(family, tied, targets, tmp_path):
    base = tiny_model(family, tie_word_embeddings=tied)
    present = tuple(target for target in targets if any(name.endswith(target) for name, _ in base.named_modules()))
    plain = copy.deepcopy(base)
    model = conditioned(base, target_modules=present)
    expected = logits_of_rows(model, slice(None), preferences=PREFERENCE)
    merged = model.merge(PREFERENCE)
    torch.testing.assert_close(logits_of_rows(merged, slice(None)), expected, **TOLERANCE)
    embeddings = merged.get_input_embeddings().weight
    assert torch.equal(embeddings, plain.get_input_embeddings().weight)
    assert embeddings is not merged.get_output_embeddings().weight
    assert not merged.config.tie_word_embeddings
    for names in ("_tied_weights_keys", "all_tied_weights_keys"):
        assert "lm_head.weight" not in (getattr(merged, names, None) or ()), "tools must not take them for one weight"
    merged.save_pretrained(tmp_path)
    again = type(merged).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits_of_rows(again, slice(None)), expected, **TOLERANCE)
    merged.tie_weights()
    torch.testing.assert_close(logits_of_rows(merged, slice(None)), expected, **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("target", ["lm_head", "q_proj"])
def test_the_conditioned_model_stays_as_it_was_and_tied(target):
    base = tiny_model("llama", tie_word_embeddings=True)
    model = conditioned(base, target_modules=(target,))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = model.merge(PREFERENCE)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert base.config.tie_word_embeddings
    head = base.get_output_embeddings()
    assert getattr(head, "base_layer", head).weight is base.get_input_embeddings().weight
    assert merged.config.tie_word_embeddings == (target != "lm_head")
    still_tied = merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    assert still_tied == (target != "lm_head")


@torch.no_grad()
def test_an_encoder_decoder_with_an_adapted_head():
    model = conditioned(tiny_t5(tie_word_embeddings=True), target_modules=("lm_head", "q"))

    def call(network, rows, **options):
        return network(input_ids=IDS[rows], decoder_input_ids=IDS[rows, :2], **options).logits

    assert_each_row_is_its_merged_model(model, call)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_that_scales_what_a_tied_head_sees_is_refused(tied):
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    sizes = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_decoder_layers": 1}
    config = SwitchTransformersConfig(
        **sizes, num_heads=4, num_sparse_encoder_layers=0, num_sparse_decoder_layers=0, dropout_rate=0.0
    )
    config.tie_word_embeddings, config.decoder_start_token_id = tied, 0
    torch.manual_seed(0)
    model = conditioned(SwitchTransformersForConditionalGeneration(config).eval(), target_modules=("lm_head",))
    if tied:
        with pytest.raises(ValueError, match=r"makes something else of its output head .* export a LoRA instead"):
            model.merge(PREFERENCE)
    else:
        inputs = {"input_ids": IDS, "decoder_input_ids": IDS}
        with torch.no_grad():
            expected = model(**inputs, preferences=PREFERENCE).logits
            torch.testing.assert_close(model.merge(PREFERENCE)(**inputs).logits, expected, **TOLERANCE)


def test_layers_that_share_a_weight_get_one_each():
    base = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False), nn.Linear(4, 2)).eval()
    base[2].weight = base[0].weight
    model = conditioned(base)
    merged, x = model.merge(PREFERENCE), torch.ones(2, 4)
    torch.testing.assert_close(merged(x), model(x, preferences=PREFERENCE))
    assert merged[0].weight is not merged[2].weight
    assert (merged[0].weight - merged[2].weight).abs().max() > 0.1
    only_one = conditioned(
        nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).eval(), target_modules=("0",)
    )
    only_one.base_model[1].weight = only_one.base_model[0].base_layer.weight
    merged = only_one.merge(PREFERENCE)
    torch.testing.assert_close(merged(x), only_one(x, preferences=PREFERENCE))


def test_a_layer_with_two_names_stays_one_layer():
    shared = nn.Linear(3, 3)
    model = conditioned(nn.Sequential(shared, nn.Tanh(), shared).eval())
    merged, x = model.merge(PREFERENCE), torch.ones(2, 3)
    assert merged[0] is merged[2]
    torch.testing.assert_close(merged(x), model(x, preferences=PREFERENCE))


def test_it_is_in_evaluation_mode_and_can_be_trained(make_gpt2):
    model = conditioned(make_gpt2(resid_pdrop=0.5)).train()
    merged = model.merge(PREFERENCE)
    assert not any(part.training for part in merged.modules())
    assert all(parameter.requires_grad for parameter in merged.parameters())
    assert model.training
    assert model.base_model.training
    with torch.no_grad():
        expected = logits_of_rows(model.eval(), slice(None), preferences=PREFERENCE)
        torch.testing.assert_close(logits_of_rows(merged, slice(None)), expected, **TOLERANCE)


# What nothing can be added to.


class Scaled(nn.Linear):
    """A linear map, but of another weight than it stores."""

    def forward(self, x):
        return super().forward(x * self.weight.norm())


UNMERGEABLE = {
    "weight norm": lambda layer: parametrizations.weight_norm(layer),
    "spectral norm": lambda layer: parametrizations.spectral_norm(layer).eval(),
    "weight norm by a hook": nn.utils.weight_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "packed": PackedLinear,
    "a tensor of its own kind": lambda layer: store_in_int8(nn.Sequential(layer))[0],
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", UNMERGEABLE)
def test_a_packed_or_computed_weight_is_refused(kind):
    base = nn.Sequential(nn.Linear(3, 4), UNMERGEABLE[kind](nn.Linear(4, 4)), nn.Linear(4, 2)).eval()
    model, x = conditioned(base), torch.ones(1, 3)
    expected = model(x, preferences=PREFERENCE)
    with pytest.raises(ValueError, match=r"the weight of 1 is quantised, computed from others .*, or export a LoRA"):
        model.merge(PREFERENCE)
    assert torch.equal(model(x, preferences=PREFERENCE), expected)


@pytest.mark.parametrize("kind", [DoubledLinear, Scaled])
def test_a_layer_that_does_more_with_its_weight_is_refused(kind):
    model = conditioned(nn.Sequential(nn.Linear(3, 4), kind(4, 2)).eval())
    with pytest.raises(ValueError, match=rf"1 is a {kind.__name__}, which does more with its weight .* export a LoRA"):
        model.merge(PREFERENCE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_derived_layer_that_only_multiplies_is_merged_in_any_precision(dtype):
    class Derived(nn.Linear):
        def forward(self, x):
            return (x @ self.weight.T) + self.bias

    base = nn.Sequential(Derived(64, 64, dtype=dtype), nn.Linear(64, 2, dtype=dtype)).eval()
    model, x = conditioned(base), torch.ones(2, 64, dtype=dtype)
    merged = model.merge(PREFERENCE)
    assert {parameter.dtype for parameter in merged.parameters()} == {dtype}
    tolerance = 4 * 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(merged(x), model(x, preferences=PREFERENCE), atol=tolerance, rtol=tolerance)
