"""Bases with quantised weights: adapted, trained, saved and loaded; what cannot learn or be merged is said in time."""

import copy
import json
import warnings

import pytest
import torch
from _sealed_adapters import settings_of, write_settings
from conditioned_networks import (
    IDS,
    ROW_PREFERENCES,
    PackedLinear,
    conditioned,
    logits_of_rows,
    pack_linear_layers,
    small_config,
    store_in_int8,
)
from tiny_models import PACKED_BASES, PACKED_PACKAGES, tiny_model
from torch import nn

from mopref import PreferenceModel
from mopref.conditioning.preference_state import PreferenceRecord

STAND_INS = {
    "packed": lambda: pack_linear_layers(tiny_model("llama")),
    "a tensor of its own kind": lambda: store_in_int8(tiny_model("llama")),
}


def packed_base(name: str) -> nn.Module:
    if name in STAND_INS:
        return STAND_INS[name]()
    pytest.importorskip(PACKED_PACKAGES[name])
    return PACKED_BASES[name]()


@pytest.mark.parametrize("name", [*STAND_INS, *PACKED_BASES])
def test_it_is_adapted_trained_saved_and_loaded_but_not_merged(name, tmp_path):
    base = packed_base(name)
    model = PreferenceModel(base, small_config())
    assert len(model.adapters) == 14
    assert {layer.U.dtype for layer in model.adapters.values()} == {torch.float32}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(3):
        loss = model.train()(input_ids=IDS, labels=IDS, preferences=ROW_PREFERENCES).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(layer.U.grad.abs().max() > 0 for layer in model.adapters.values())
    model.eval().save_pretrained(tmp_path)
    loaded = PreferenceModel.load(packed_base(name), tmp_path).eval()
    with torch.no_grad():
        expected = logits_of_rows(model, slice(None), preferences=ROW_PREFERENCES)
        torch.testing.assert_close(logits_of_rows(loaded, slice(None), preferences=ROW_PREFERENCES), expected)
        with model.disabled():
            assert (logits_of_rows(model, slice(None)) - expected).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"q_proj is quantised, computed .*load the base in float .*or export a LoRA"):
        model.merge([0.3, 0.7])


@pytest.mark.parametrize("name", [*STAND_INS, *PACKED_BASES])
def test_gradients_after_an_evaluation_are_slopes_of_the_loss(name):
    """Layers of 4 bits pack their weights anew when they are evaluated on a CPU, and pass no gradient from then on."""
    model = conditioned(packed_base(name))
    with torch.no_grad():
        logits_of_rows(model, slice(None), preferences=ROW_PREFERENCES)
    model.train()
    first = next(iter(model.adapters.values())).U

    def loss() -> torch.Tensor:
        return model(input_ids=IDS, labels=IDS, preferences=ROW_PREFERENCES).loss

    direction = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
    slope = (torch.autograd.grad(loss(), first)[0] * direction).sum().item()
    # Where activations are rounded to 8 bits a smaller step drowns in the rounding.
    size, losses = 3e-2 if name == "llama-int8" else 1e-2, []
    with torch.no_grad():
        for step in (size, -2 * size):
            first.add_(step * direction)
            losses.append(loss().item())
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * size), rel=0.05, abs=1e-3)


@pytest.mark.parametrize("name", PACKED_BASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_is_called_once_and_the_adapters_output_is_added_to_what_it_made(name, dtype, monkeypatch):
    """With the numbers and gradients of a sum that makes a new tensor."""
    model = conditioned(packed_base(name).to(dtype) if name == "llama-torchao-int8" else packed_base(name))
    layer = model.adapters["model.layers.0.mlp.up_proj"]
    model.state.set(PreferenceRecord(torch.tensor([[0.3, 0.7]]), True))
    made = []
    kernel = type(layer.base_layer).forward

    def counted(own, rows):
        made.append(kernel(own, rows))
        return made[-1]

    monkeypatch.setattr(type(layer.base_layer), "forward", counted)
    x = torch.randn(3, 5, layer.n_in, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    y = layer(x)
    assert len(made) == 1
    assert y.data_ptr() == made[0].data_ptr()
    assert y.dtype == dtype
    gradients = torch.autograd.grad(y.float().square().sum(), (x, layer.U, layer.V, layer.sigma))
    monkeypatch.setattr(type(layer), "_adds_in_place", lambda *arguments: False)
    plain = layer(x)
    assert plain.data_ptr() != made[1].data_ptr()
    exact = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.03, "atol": 0.1}
    torch.testing.assert_close(y, plain, **exact)
    others = torch.autograd.grad(plain.float().square().sum(), (x, layer.U, layer.V, layer.sigma))
    for own, other in zip(gradients, others, strict=True):
        assert (own - other).norm() < (1e-4 if dtype == torch.float32 else 2e-2) * other.norm()


@pytest.mark.parametrize("name", STAND_INS)
@torch.no_grad()
def test_its_adapter_loads_on_the_same_base_in_float_and_back(name, tmp_path):
    model = conditioned(packed_base(name))
    model.save_pretrained(tmp_path / "packed")
    with pytest.warns(UserWarning, match=r"stored as 14 × \w+.*, and here they are 14 × float: .* Evaluate the front"):
        plain = PreferenceModel.load(tiny_model("llama"), tmp_path / "packed").eval()
    found, expected = (logits_of_rows(m, slice(None), preferences=ROW_PREFERENCES) for m in (plain, model))
    torch.testing.assert_close(found, expected, atol=0.3, rtol=0.1)
    plain.save_pretrained(tmp_path / "plain")
    with pytest.warns(UserWarning, match="stored as 14 × float, and here they are 14 × ") as told:
        again = PreferenceModel.load(packed_base(name), tmp_path / "plain").eval()
    assert told[0].filename == __file__
    assert torch.equal(logits_of_rows(again, slice(None), preferences=ROW_PREFERENCES), expected)


KINDS = {
    "packed": "PackedLinear int8",
    "a tensor of its own kind": "_Int8",
    "llama-nf4": "Linear4bit nf4",
    "llama-int8": "Linear8bitLt",
    "llama-torchao-int8": "Int8Tensor",
}


@pytest.mark.parametrize("name", KINDS)
def test_how_its_weights_are_stored_is_recorded_and_the_same_base_needs_no_word(name, tmp_path):
    model = conditioned(packed_base(name))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_weights"] == {KINDS[name]: 14}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "(?s).*stored as")
        PreferenceModel.load(packed_base(name), tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_precision_of_a_float_base_needs_no_word(dtype, tmp_path):
    conditioned(tiny_model("llama")).save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PreferenceModel.load(tiny_model("llama").to(dtype), tmp_path)


def test_a_file_that_does_not_record_it_is_loaded_without_a_word(tmp_path):
    conditioned(packed_base("packed")).save_pretrained(tmp_path)
    settings = settings_of(tmp_path)
    del settings["base_weights"]
    write_settings(tmp_path, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PreferenceModel.load(tiny_model("llama"), tmp_path)


def test_a_base_without_any_weight_to_compare_is_loaded_in_float(tmp_path):
    torch.manual_seed(0)
    floats = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model = conditioned(nn.Sequential(*map(PackedLinear, floats)))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_check"] == {}
    assert PreferenceModel.load(nn.Sequential(*map(PackedLinear, floats)), tmp_path).adapters.keys() == {"0", "1"}
    with pytest.warns(UserWarning, match="stored as 2 × PackedLinear int8, and here they are 2 × float"):
        PreferenceModel.load(floats, tmp_path)


@pytest.mark.parametrize("name", STAND_INS)
@torch.no_grad()
def test_its_exported_lora_is_read_by_stock_peft(name, tmp_path):
    peft = pytest.importorskip("peft")
    model = conditioned(packed_base(name), target_modules=("q_proj", "up_proj"))
    model.export_lora(tmp_path, [0.3, 0.7])
    stock = peft.PeftModel.from_pretrained(tiny_model("llama"), tmp_path).eval()
    expected = conditioned(tiny_model("llama"), target_modules=("q_proj", "up_proj"))
    torch.testing.assert_close(
        logits_of_rows(stock, slice(None)),
        logits_of_rows(expected, slice(None), preferences=[0.3, 0.7]),
        atol=2e-4,
        rtol=2e-4,
    )


class Blocking(PackedLinear):
    """A kernel without a backward pass, as where activations are quantised too."""

    def forward(self, x):
        return super().forward(x).detach()


def blocking_base() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), Blocking(nn.Linear(4, 4)), nn.Linear(4, 2)).eval()


def test_layers_that_pass_no_gradient_are_refused_before_any_training():
    base = blocking_base()
    before = list(base)
    with pytest.raises(ValueError, match=r"^1 \(1 such layers\), whose weight is a Parameter, passes no gradient back"):
        PreferenceModel(base, small_config())
    assert list(base) == before
    assert all(parameter.requires_grad for parameter in (*base[0].parameters(), *base[2].parameters()))


def test_a_trained_adapter_can_still_be_used_with_them(tmp_path):
    floats = blocking_base()
    layer = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(floats[1].weight.view(4, 4) * floats[1].step)
    floats[1] = layer
    model = conditioned(copy.deepcopy(floats))
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"passes no gradient back, .* Use this model without training it") as told:
        loaded = PreferenceModel.load(blocking_base(), tmp_path).eval()
    assert told[0].filename == __file__
    x, preferences = torch.ones(2, 4), torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    torch.testing.assert_close(loaded(x, preferences=preferences), model(x, preferences=preferences))
