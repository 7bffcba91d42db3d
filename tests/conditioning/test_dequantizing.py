"""Merging a quantised base on request: a plain model in float that computes the same, or a refusal by name."""

import copy
import warnings

import pytest
import torch
from conditioned_networks import IDS, PackedLinear, conditioned, logits_of_rows, store_in_int8
from tiny_models import PACKED_BASES, PACKED_PACKAGES, tiny_model
from torch import nn

from mopref.conditioning.dequantizing import dequantize_layers, dequantized_weight, is_quantized

PREFERENCE = [0.7, 0.3]
# What a kernel rounds on its way, of the logits' norm: that of bitsandbytes' 8 bits rounds activations, too.
ROUNDING = {"llama-nf4": 1e-5, "llama-int8": 0.03, "llama-torchao-int8": 1e-5}


@pytest.fixture(params=PACKED_BASES)
def name(request) -> str:
    pytest.importorskip(PACKED_PACKAGES[request.param])
    return request.param


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def quantised(folder, base: nn.Module, **settings) -> nn.Module:
    """The base as transformers and bitsandbytes load it."""
    from transformers import BitsAndBytesConfig

    base.save_pretrained(folder)
    own = BitsAndBytesConfig(**settings)
    return type(base).from_pretrained(folder, quantization_config=own, dtype=base.dtype, device_map="cpu").eval()


@torch.no_grad()
@pytest.mark.parametrize("targets", [None, ("q_proj",)])
def test_a_merged_copy_is_plain_and_computes_the_same(name, targets, tmp_path):
    model = conditioned(PACKED_BASES[name](), target_modules=targets)
    before = logits_of_rows(model, slice(None), preferences=PREFERENCE)
    with pytest.raises(ValueError, match=r"q_proj is quantised, .*: merge with dequantize=True .*or export a LoRA"):
        model.merge(PREFERENCE)
    merged = model.merge(PREFERENCE, dequantize=True)
    assert not any(map(is_quantized, merged.modules()))
    assert {type(p) for p in merged.parameters()} == {nn.Parameter}
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in merged.parameters())
    assert distance(logits_of_rows(merged, slice(None)), before) < ROUNDING[name]
    other = model.merge([0.0, 1.0], dequantize=True)
    assert distance(logits_of_rows(other, slice(None)), before) > 0.1
    assert torch.equal(logits_of_rows(model, slice(None), preferences=PREFERENCE), before)
    merged.save_pretrained(tmp_path)
    again = type(merged).from_pretrained(tmp_path).eval()
    assert not hasattr(again.config, "quantization_config")
    assert torch.equal(logits_of_rows(again, slice(None)), logits_of_rows(merged, slice(None)))


@torch.no_grad()
def test_a_float_base_stays_as_it_is():
    model = conditioned(tiny_model("llama"))
    plain, asked = model.merge(PREFERENCE), model.merge(PREFERENCE, dequantize=True)
    for key, value in plain.state_dict().items():
        assert torch.equal(asked.state_dict()[key], value), key
    with pytest.raises(TypeError, match=r"^dequantize is 'yes', of type str"):
        model.merge(PREFERENCE, dequantize="yes")


@torch.no_grad()
@pytest.mark.parametrize("bits", [4, 8])
def test_what_was_transposed_before_it_was_quantised_is_so_again(bits, tmp_path):
    pytest.importorskip("bitsandbytes")
    base = tiny_model("gpt2", hidden_size=64, intermediate_size=128)
    model = conditioned(quantised(tmp_path / "base", base, **{f"load_in_{bits}bit": True}))
    merged = model.merge(PREFERENCE, dequantize=True)
    assert type(merged.transformer.h[0].attn.c_attn) is type(base.transformer.h[0].attn.c_attn)
    before = logits_of_rows(model, slice(None), preferences=PREFERENCE)
    assert distance(logits_of_rows(merged, slice(None)), before) < (1e-5 if bits == 4 else 0.05)
    merged.save_pretrained(tmp_path / "merged")
    again = type(merged).from_pretrained(tmp_path / "merged").eval()
    assert torch.equal(logits_of_rows(again, slice(None)), logits_of_rows(merged, slice(None)))


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"bnb_4bit_quant_type": "fp4"}, {"bnb_4bit_use_double_quant": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_copy_is_in_the_type_of_the_other_weights(settings, dtype, tmp_path):
    pytest.importorskip("bitsandbytes")
    base = tiny_model("llama", hidden_size=64, intermediate_size=128, head_dim=16).to(dtype)
    model = conditioned(quantised(tmp_path, base, load_in_4bit=True, **settings))
    merged = model.merge(PREFERENCE, dequantize=True)
    assert {p.dtype for p in merged.parameters()} == {dtype}
    expected = logits_of_rows(model, slice(None), preferences=PREFERENCE)
    assert distance(logits_of_rows(merged, slice(None)), expected) < (1e-5 if dtype == torch.float32 else 0.03)


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_a_quantised_and_an_adapted_head(tied, tmp_path):
    pytest.importorskip("bitsandbytes")
    base = tiny_model("llama", hidden_size=64, intermediate_size=128, head_dim=16, tie_word_embeddings=tied)
    skipped = {"llm_int8_skip_modules": ["lm_head"] if tied else ["none"]}
    model = conditioned(quantised(tmp_path, base, load_in_4bit=True, **skipped), target_modules=("lm_head", "q_proj"))
    assert is_quantized(model.adapters["lm_head"].base_layer) == (not tied)
    merged = model.merge(PREFERENCE, dequantize=True)
    expected = logits_of_rows(model, slice(None), preferences=PREFERENCE)
    assert distance(logits_of_rows(merged, slice(None)), expected) < 1e-5
    assert merged.get_output_embeddings().weight is not merged.get_input_embeddings().weight


@torch.no_grad()
def test_layers_that_were_packed_for_a_cpu_are_brought_back():
    """A forward in evaluation mode before the base is adapted packs 4-bit weights anew where the processor can."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4", compress_statistics=False)
    layer.load_state_dict(nn.Linear(64, 64).state_dict())
    layer = layer.to("cpu").eval()
    fresh = dequantized_weight(copy.deepcopy(layer))
    layer(torch.ones(1, 64))
    # Scales are packed in half precision.
    assert distance(dequantized_weight(layer), fresh) < 1e-2


@torch.no_grad()
def test_a_layer_with_two_names_stays_one_layer_and_its_hooks_stay():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Doubling(ModelHook):
        def post_forward(self, module, output):
            return 2 * output

    torch.manual_seed(0)
    shared = bitsandbytes.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
    shared.load_state_dict(nn.Linear(64, 64).state_dict())
    base = nn.Sequential(shared.to("cpu"), nn.Tanh(), shared, nn.Linear(64, 64)).eval()
    x = torch.randn(3, 64)
    add_hook_to_module(base[0], Doubling())
    before = base(x)
    assert dequantize_layers(base, lambda layer: None) == {"0", "2"}
    assert base[0] is base[2]
    assert distance(base(x), before) < 0.05


class Int8(nn.Module):
    """A layer of another kind than linear ones, with a weight in 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)

    def forward(self, x):
        return x @ self.weight.float()


class Scaled(nn.Linear):
    """A weight in 8 bits of floating point, with a scale that only this layer knows of."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(4, 4, bias=False)
        self.weight = nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)

    def forward(self, x):
        return 3 * x @ self.weight.float().T


UNTOLD = {
    "packed": (PackedLinear, r"a PackedLinear with a Parameter cannot be dequantised \(its int8 numbers do not say"),
    "a tensor of its own kind": (lambda layer: store_in_int8(nn.Sequential(layer))[0], r"with a _Int8 cannot be dequa"),
    "floats of 8 bits": (Scaled, r"a Scaled with a Parameter cannot be dequantised \(its float8_e4m3fn numbers do not"),
}


@pytest.mark.parametrize("kind", UNTOLD)
def test_what_does_not_tell_its_numbers_is_refused_by_name(kind):
    make, message = UNTOLD[kind]
    model = conditioned(nn.Sequential(nn.Linear(3, 4), make(nn.Linear(4, 4)), nn.Linear(4, 2)).eval())
    with pytest.raises(ValueError, match=rf"^1: .*{message}.*: load the base in float and whole, or export a LoRA\.$"):
        model.merge(PREFERENCE, dequantize=True)
    with pytest.raises(ValueError, match=r"so nothing can be added to it: load the base in float"):
        model.merge(PREFERENCE)


def test_a_quantised_part_that_is_no_linear_layer_is_refused_by_name():
    model = conditioned(nn.Sequential(nn.Linear(3, 4), Int8(), nn.Linear(4, 2)).eval())
    with pytest.raises(ValueError, match=r"^1\.weight is a Parameter of int8 that cannot be dequantised"):
        model.merge(PREFERENCE, dequantize=True)


@torch.no_grad()
def test_quantised_layers_beside_the_adapted_ones_stay_as_they_are_unless_it_is_asked_for(name):
    model = conditioned(PACKED_BASES[name](), target_modules=("lm_head",))
    expected = logits_of_rows(model, slice(None), preferences=PREFERENCE)
    merged = model.merge(PREFERENCE)
    assert sum(map(is_quantized, merged.modules())) == 14
    assert {p.requires_grad for p in merged.parameters() if type(p) is nn.Parameter} == {True}
    torch.testing.assert_close(logits_of_rows(merged, slice(None)), expected, atol=2e-4, rtol=2e-4)
    in_float = model.merge(PREFERENCE, dequantize=True)
    assert not any(map(is_quantized, in_float.modules()))
    assert distance(logits_of_rows(in_float, slice(None)), expected) < ROUNDING[name]


@pytest.mark.parametrize("targets", [None, ("lm_head",)])
def test_numbers_that_are_not_those_of_the_kernel_are_refused(targets, monkeypatch):
    pytest.importorskip("bitsandbytes")
    model = conditioned(PACKED_BASES["llama-nf4"](), target_modules=targets)
    monkeypatch.setattr(
        "mopref.conditioning.dequantizing.dequantized_weight", lambda layer: 1.2 * dequantized_weight(layer)
    )
    with pytest.raises(ValueError, match=r"q_proj: a Linear4bit makes something else of its inputs than a .*off"):
        model.merge(PREFERENCE, dequantize=True)


@torch.no_grad()
def test_it_is_said_without_warnings_and_the_copy_can_be_trained(name):
    model = conditioned(PACKED_BASES[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merged = model.merge(PREFERENCE, dequantize=True).train()
    with torch.enable_grad():
        merged(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None for p in merged.parameters())
