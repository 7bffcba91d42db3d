"""Exported LoRAs that stock PEFT would misread or refuse are refused before they are written."""

import copy
from types import SimpleNamespace

import pytest
import torch
from conditioned_networks import conditioned, logits_of_rows
from tiny_models import tiny_model
from torch import nn

from mopref.conditioning.peft_targets import refuse_misread_targets

PREFERENCE = [0.3, 0.7]
pytestmark = pytest.mark.filterwarnings("ignore:.*experts of a mixture:UserWarning", "ignore:.*without an adapter")


def family(model_type: str) -> nn.Module:
    base = nn.Module()
    base.config = SimpleNamespace(model_type=model_type)
    return base


@pytest.mark.parametrize("name", ["deepseek_v3", "glm4_moe", "qwen3_next"])
def test_layers_that_it_takes_for_experts_are_refused_and_nothing_is_written(name, tmp_path):
    model = conditioned(tiny_model(name))
    for export in (lambda: model.export_lora(tmp_path, PREFERENCE), lambda: model.export_lora_set(tmp_path)):
        with pytest.raises(ValueError, match=r"a LoRA of .*gate_proj .*would be lost: .* by target_modules"):
            export()
    assert not list(tmp_path.iterdir())
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(
        logits_of_rows(model.merge(PREFERENCE), slice(None)),
        logits_of_rows(model, slice(None), preferences=PREFERENCE),
        atol=2e-4,
        rtol=2e-4,
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("deepseek_v3", ("o_proj", "q_b_proj")),
        ("qwen2_moe", ("q_proj",)),
        ("qwen3_moe", None),
        ("mixtral", None),
        ("falcon", None),
        ("opt", None),
    ],
)
def test_what_is_exported_is_what_it_reads(name, targets, tmp_path):
    peft = pytest.importorskip("peft")
    base = tiny_model(name)
    model = conditioned(copy.deepcopy(base), target_modules=targets)
    model.export_lora(tmp_path, PREFERENCE)
    stock = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    expected = logits_of_rows(model, slice(None), preferences=PREFERENCE)
    torch.testing.assert_close(logits_of_rows(stock, slice(None)), expected, atol=2e-4, rtol=2e-4)


def test_a_network_of_no_family_may_call_its_layers_as_it_likes(tmp_path):
    names = ["gate_proj", "out_proj", "w1", "gate"]
    refuse_misread_targets(nn.Module(), names)
    refuse_misread_targets(family("llama"), names)


@pytest.mark.parametrize("model_type", ["mamba", "mamba2", "falcon_h1", "nemotron_h", "falcon_mamba"])
def test_a_state_space_layers_output_projection_is_refused(model_type):
    with pytest.raises(ValueError, match=rf"stock PEFT takes no LoRA of a\.mixer\.out_proj in a {model_type}: serve m"):
        refuse_misread_targets(family(model_type), ["a.mixer.in_proj", "a.mixer.out_proj"])
    refuse_misread_targets(family(model_type), ["a.mixer.in_proj"])


@pytest.mark.parametrize("name", ["w1", "w2", "w3", "gate"])
def test_names_of_mixtrals_experts(name):
    with pytest.raises(ValueError, match=rf"a LoRA of block\.{name} \(1 such layers\) would be lost: in a mixtral"):
        refuse_misread_targets(family("mixtral"), ["q_proj", f"block.{name}"])
    refuse_misread_targets(family("mixtral"), ["q_proj", "down_proj", f"block.{name}_proj"])


def test_without_a_list_of_families_any_fused_mixture_is_taken_for_one(monkeypatch):
    mapping = pytest.importorskip("transformers.conversion_mapping")
    base = family("of-tomorrow")
    refuse_misread_targets(base, ["mlp.gate_proj"])
    base.experts = nn.Parameter(torch.zeros(2, 3, 4))
    refuse_misread_targets(base, ["mlp.gate_proj"])
    monkeypatch.delattr(mapping, "_MODEL_TO_CONVERSION_PATTERN", raising=False)
    with pytest.raises(ValueError, match="would be lost: in a of-tomorrow"):
        refuse_misread_targets(base, ["mlp.gate_proj"])
    del base.experts
    refuse_misread_targets(base, ["mlp.gate_proj"])


def test_a_layer_that_is_renamed_while_a_file_is_loaded_is_refused(monkeypatch):
    mapping = pytest.importorskip("transformers.conversion_mapping")
    loading = pytest.importorskip("transformers.core_model_loading")
    renaming = loading.WeightRenaming("old_proj", "new_proj")
    monkeypatch.setattr(mapping, "get_checkpoint_conversion_mapping", lambda model_type: [renaming])
    with pytest.raises(
        ValueError, match=r"a LoRA of a\.old_proj \(1 such layers\) would be lost: .* renames that layer"
    ):
        refuse_misread_targets(family("llama"), ["a.q_proj", "a.old_proj"])
    refuse_misread_targets(family("llama"), ["a.q_proj", "a.new_proj"])
