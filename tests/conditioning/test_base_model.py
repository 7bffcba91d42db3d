"""What has to be known of a base model as a whole."""

import warnings

import pytest
import torch
from conditioned_networks import small_config, tiny_image_model, tiny_t5
from tiny_models import tiny_model
from torch import nn

from mopref import PreferenceModel
from mopref.conditioning.base_model import (
    auto_class,
    expert_parameters,
    keep_statistics,
    plain_base_model,
    tell_experts_left_out,
    token_counts,
)
from mopref.conditioning.film import FiLMModel

IDS = torch.zeros(2, 5, dtype=torch.long)
FLOATS = torch.zeros(2, 5, 4)


def test_the_plain_model_is_taken_out_of_a_compiled_one(make_mlp):
    base = make_mlp()
    with pytest.warns(
        UserWarning, match=r"the base model is compiled, so the plain one inside is conditioned: compile"
    ):
        assert plain_base_model(torch.compile(base)) is base
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain_base_model(base) is base


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((IDS,), {}, (2, (5,))),
        ((IDS.int(),), {}, (2, (5,))),
        ((), {"input_ids": IDS}, (2, (5,))),
        ((), {"inputs_embeds": FLOATS}, (2, (5,))),
        ((), {"input_ids": None, "inputs_embeds": FLOATS}, (2, (5,))),
        ((IDS,), {"decoder_input_ids": IDS[:, :3]}, (2, (3, 5))),
        ((), {"input_ids": IDS, "decoder_inputs_embeds": FLOATS[:, :2]}, (2, (2, 5))),
        ((), {"input_ids": IDS, "labels": IDS[:, :4]}, (2, (4, 5))),
        ((), {"input_ids": IDS, "labels": IDS}, (2, (5,))),
        ((), {"input_ids": IDS, "attention_mask": torch.ones(2, 9)}, (2, (5,))),
        ((FLOATS,), {}, (None, ())),
        ((FLOATS[0],), {}, (None, ())),
        ((IDS[0],), {"labels": IDS[0]}, (None, ())),
        ((), {"pixel_values": FLOATS}, (None, ())),
        (("text",), {}, (None, ())),
    ],
)
def test_rows_and_tokens_of_inputs(args, kwargs, expected):
    assert token_counts(args, kwargs) == expected


def test_experts_stored_as_one_parameter_are_counted(make_llama):
    base = tiny_model("qwen3_moe")
    sizes = expert_parameters(base)
    assert set(sizes) == {"model.layers.*.mlp.experts.gate_up_proj", "model.layers.*.mlp.experts.down_proj"}
    experts = [parameter for name, parameter in base.named_parameters() if ".experts." in name]
    assert sum(sizes.values()) == sum(parameter.numel() for parameter in experts) > 0
    assert expert_parameters(make_llama()) == {}


def test_names_with_expert_in_them_are_no_experts():
    base = nn.Module()
    base.expertise = nn.Parameter(torch.zeros(2, 3, 4))
    base.expert = nn.Linear(3, 2)
    assert expert_parameters(base) == {}
    base.local_experts = nn.Parameter(torch.zeros(2, 3, 4))
    assert expert_parameters(base) == {"local_experts": 24}


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "mixtral"])
def test_experts_without_an_adapter_are_said(family):
    base = tiny_model(family)
    share = sum(expert_parameters(base).values()) / sum(parameter.numel() for parameter in base.parameters())
    with pytest.warns(
        UserWarning, match=rf"^{100 * share:.0f} % of the base model's weights are experts .*\.experts\."
    ):
        PreferenceModel(base, small_config())


def test_nothing_is_said_of_experts_where_there_are_none_or_layers_are_named(make_llama):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_experts_left_out(make_llama())
        PreferenceModel(tiny_model("qwen3_moe"), small_config(target_modules=("q_proj",)))


def normalised(kind: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), kind(4), nn.Dropout(0.5))


@pytest.mark.parametrize("train_base", [False, True])
@pytest.mark.parametrize("conditioning", ["svd-lora", "film"])
def test_running_statistics_are_part_of_a_frozen_base(conditioning, train_base):
    base = normalised(nn.BatchNorm1d)
    if conditioning == "svd-lora":
        model, train_base = PreferenceModel(base, small_config()), False
    else:
        model = FiLMModel(base, 2, train_base=train_base)
    before = [buffer.clone() for buffer in base[1].buffers()]
    model.train()
    model(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), preferences=[0.3, 0.7])
    unchanged = all(torch.equal(now, then) for now, then in zip(base[1].buffers(), before, strict=True))
    assert unchanged != train_base
    assert base[2].training
    assert model.training


class RoundsInEvaluation(nn.Linear):
    """As 8-bit layers: the weight is packed, and what it makes of its input depends on the mode."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight = nn.Parameter((layer.weight.detach() * 127).round().to(torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.linear(x, self.weight.to(x.dtype) / 127)
        return y if self.training else y.round(decimals=1)


def test_quantised_layers_are_in_the_mode_of_the_reference():
    """Else the margin of adapters that have done nothing would be the rounding of one side."""
    torch.manual_seed(0)
    base = nn.Sequential(RoundsInEvaluation(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 2))
    model = PreferenceModel(base, small_config()).train()
    assert not model.adapters["0"].base_layer.training
    assert model.adapters["2"].base_layer.training
    x = torch.randn(3, 4)
    with torch.no_grad():
        policy = model(x, preferences=[0.5, 0.5])
        with model.eval().disabled():
            assert torch.equal(model(x), policy)


def test_a_spectral_norm_of_a_frozen_base_does_not_count_on():
    torch.manual_seed(0)
    base = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 2))
    model = PreferenceModel(base, small_config()).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert before
    model(torch.randn(3, 4), preferences=[0.5, 0.5])
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_parts_without_running_statistics_keep_their_mode():
    for kind in (nn.LayerNorm, lambda size: nn.BatchNorm1d(size, track_running_stats=False)):
        base = normalised(kind).train()
        keep_statistics(base)
        assert all(part.training for part in base.modules())


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: tiny_model("gpt2"), "AutoModelForCausalLM"),
        (tiny_image_model, "AutoModelForImageTextToText"),
    ],
)
def test_the_class_that_loads_a_model(make, kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    make().save_pretrained(tmp_path)
    assert auto_class(str(tmp_path), {}) is getattr(transformers, kind)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert auto_class("no such folder", {"config": config}) is getattr(transformers, kind)


def test_a_model_that_predicts_no_next_token_is_loaded_by_the_user(tmp_path):
    tiny_t5().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"is a t5, which predicts no next token: .* wrap it as PreferenceModel\(model"
    ):
        PreferenceModel.from_pretrained(tmp_path, small_config())


@torch.no_grad()
def test_a_model_that_sees_images_is_loaded_with_its_adapter(tmp_path):
    tiny_image_model().save_pretrained(tmp_path / "base")
    model = PreferenceModel.from_pretrained(tmp_path / "base", small_config()).eval()
    for layer in model.adapters.values():
        layer.U.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "adapter")
    again = PreferenceModel.from_pretrained(tmp_path / "adapter").eval()
    first, second = (network(input_ids=IDS + 7, preferences=[0.3, 0.7]).logits for network in (model, again))
    assert torch.equal(first, second)
