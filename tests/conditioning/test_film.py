"""FiLMModel: (1 + γ(λ)) ∘ h + β(λ) after each linear layer, and which layers."""

import copy
import math

import pytest
import torch
from _tensors import DEVICE, DTYPE, randn, tensor
from conditioned_networks import ROW_PREFERENCES, logits_of_rows
from tiny_models import tiny_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.film import FiLMLayer, FiLMModel


def randomised(model: FiLMModel, std: float = 0.3) -> FiLMModel:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.layers.values():
            for parameter in layer.conditioner.parameters():
                parameter.add_(std * randn(parameter.shape, generator, parameter.dtype))
    return model


def test_a_layer_by_hand():
    base = nn.Sequential(nn.Linear(2, 2)).to(DEVICE, DTYPE)
    model = FiLMModel(base, 2, hidden=())
    with torch.no_grad():
        layer = model.layers["0"]
        layer.base_layer.weight.copy_(tensor([[1.0, 0.0], [0.0, 2.0]]))
        layer.base_layer.bias.copy_(tensor([0.0, 1.0]))
        # γ_1 = λ̃_1, γ_2 = 1, β_1 = 10, β_2 = λ̃_2.
        layer.conditioner[0].weight.copy_(tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
        layer.conditioner[0].bias.copy_(tensor([0.0, 1.0, 10.0, 0.0]))
    # h = (3, 2·4 + 1); λ = (1, 0) is λ̃ = (√3, −√3), and λ = (½, ½) is λ̃ = 0.
    y = model(tensor([[3.0, 4.0], [3.0, 4.0]]), preferences=[[1.0, 0.0], [0.5, 0.5]])
    root = math.sqrt(3)
    torch.testing.assert_close(y, tensor([[3 * (1 + root) + 10, 18 - root], [13.0, 18.0]]))


def test_a_single_row_without_a_batch():
    model = randomised(FiLMModel(nn.Sequential(nn.Linear(3, 2)).to(DEVICE, DTYPE), 2))
    x = tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(model(x, preferences=[0.3, 0.7]), model(x[None], preferences=[0.3, 0.7])[0])


def test_language_models_take_a_preference_for_each_row(make_lm, five_preferences, token_batch):
    base = make_lm()
    model = FiLMModel(copy.deepcopy(base), ("helpful", "harmless")).eval()
    with torch.no_grad():
        expected = base(token_batch).logits
        outputs = model(token_batch, preferences=five_preferences).logits
        torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=0)
        randomised(model, std=0.1)
        together = model(token_batch, preferences=five_preferences).logits
        for i, preference in enumerate(five_preferences):
            alone = model(token_batch[i : i + 1], preferences=preference).logits
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)
        assert (together - expected).abs().max() > 0.5


def test_every_linear_layer_but_the_head_is_conditioned(make_gpt2):
    model = FiLMModel(make_gpt2(), 2)
    names = {name.split(".", 3)[-1] for name in model.layers}
    assert names == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    assert len(model.layers) == 8
    # Conv1D's weight is (n_in, n_out).
    assert model.layers["transformer.h.0.mlp.c_fc"].num_features == 256
    assert not isinstance(model.base_model.lm_head, FiLMLayer)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], 2),
        (["layers.1.mlp.up_proj", "q_proj"], 3),
        (["lm_head"], 1),
        (["q_proj", "layers.0.self_attn.q_proj"], 2),
    ],
)
def test_layers_are_named_whole_or_by_their_last_parts(targets, expected, make_llama):
    base = make_llama()
    model = FiLMModel(base, 2, target_modules=targets)
    assert len(model.layers) == expected
    assert sum(isinstance(module, FiLMLayer) for module in base.modules()) == expected
    assert all(any(name.endswith(target) for target in targets) for name in model.layers)


def test_part_of_a_name_is_no_name(make_llama):
    with pytest.raises(ValueError, match="no linear layer is called 'proj'"):
        FiLMModel(make_llama(), 2, target_modules=["proj"])


def test_a_layer_with_two_names_stays_one_layer():
    shared = nn.Linear(3, 3)
    base = nn.Sequential(shared, nn.Tanh(), shared)
    model = FiLMModel(base, 2)
    assert len(model.layers) == 1
    assert base[0] is base[2]
    assert isinstance(base[2], FiLMLayer)


@torch.no_grad()
@pytest.mark.parametrize("family", ["opt", "xlnet", "falcon"])
def test_rows_are_found_wherever_a_layer_has_them(family):
    """As many tokens as rows: rows and tokens in one dimension, tokens before rows, and derived layers."""
    model = randomised(FiLMModel(tiny_model(family), 2), std=0.1).eval()
    together = logits_of_rows(model, slice(None), preferences=ROW_PREFERENCES)
    for i, preference in enumerate(ROW_PREFERENCES):
        alone = logits_of_rows(model, slice(i, i + 1), preferences=preference)
        torch.testing.assert_close(together[i : i + 1], alone, atol=2e-4, rtol=2e-4)
    assert (together - logits_of_rows(model, slice(None), preferences=ROW_PREFERENCES.flip(0))).abs().max() > 0.05


class Checkpointed(nn.Module):
    """Recomputes its activations in the backward pass, or keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.options: dict | None = None

    def block(self, x):
        return self.second(torch.tanh(self.first(x)))

    def forward(self, x):
        return self.block(x) if self.options is None else checkpoint(self.block, x, **self.options)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradients_under_checkpointing_are_those_of_the_preferences_in_force(use_reentrant):
    model = randomised(FiLMModel(Checkpointed().to(DEVICE, DTYPE), 2))
    x = randn((3, 3), torch.Generator().manual_seed(1)).requires_grad_()
    preferences = tensor([[1.0, 0.0], [0.2, 0.8], [0.5, 0.5]])
    gradients = []
    for options in (None, {"use_reentrant": use_reentrant}):
        model.base_model.options = options
        model.zero_grad()
        buffer = preferences.clone()
        loss = model(x, preferences=buffer).square().sum()
        # A caller may reuse its buffer before the backward pass, which runs the layers again.
        buffer.copy_(preferences.roll(1, dims=0))
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert gradients[0].abs().max() > 0.1
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_half_precision_base_keeps_its_type():
    model = FiLMModel(nn.Sequential(nn.Linear(3, 2).to(DEVICE, torch.bfloat16)), 2)
    assert next(model.layers["0"].conditioner.parameters()).dtype == torch.float32
    assert model(torch.ones(4, 3, device=DEVICE, dtype=torch.bfloat16), preferences=[0.5, 0.5]).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FiLMModel(nn.Linear(3, 2), 2), "single linear layer"),
        (lambda: FiLMModel(nn.Sequential(nn.Conv1d(3, 2, 1)), 2), "has 0 linear layers"),
        (lambda: FiLMModel(nn.Sequential(nn.Linear(3, 2)), 2, target_modules="0"), "single text '0'"),
        (lambda: FiLMModel(nn.Sequential(nn.Linear(3, 2)), 2, target_modules=[]), "no layer to condition"),
        (lambda: FiLMModel(nn.Sequential(nn.Linear(3, 2)), 2, hidden=(0,)), "at least 1"),
        (lambda: FiLMModel(FiLMModel(nn.Sequential(nn.Linear(3, 2)), 2).base_model, 2), "already"),
        (
            lambda: FiLMModel(PreferenceModel(nn.Sequential(nn.Linear(3, 2)), SVDLoRAConfig(("a", "b"))).base_model, 2),
            "already",
        ),
    ],
)
def test_what_cannot_be_conditioned_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_refused_base_is_left_as_it_was():
    base = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="no linear layer is called '1'; those of the model end in 0"):
        FiLMModel(base, 2, target_modules=["1"], train_base=False)
    with pytest.raises(ValueError, match="each at least 1"):
        FiLMModel(base, 2, hidden=(-1,), train_base=False)
    assert all(parameter.requires_grad for parameter in base.parameters())
    assert type(base[0]) is nn.Linear


def test_it_tells_its_objectives_and_sizes():
    shown = repr(FiLMModel(nn.Sequential(nn.Linear(3, 2)), ("cost", "risk")))
    assert "objectives=('cost', 'risk')" in shown
    assert "num_features=2" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 8}, "hidden is 8, of type int: give a list of whole numbers"),
        ({"train_base": "no"}, "train_base is 'no', of type str: give True or False"),
        ({"seed": 1.5}, r"seed is 1\.5"),
    ],
)
def test_options_of_another_type_are_named_and_the_base_is_left(options, message):
    base = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(TypeError, match=message):
        FiLMModel(base, 2, **options)
    assert type(base[0]) is nn.Linear
