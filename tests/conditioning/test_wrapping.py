"""What adapters share: the layers they wrap, and how they are put in their place."""

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.wrapping import block_index, select_linear_layers, wrap_layers


class Around(nn.Module):
    """An adapter that does nothing."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.weight = nn.Parameter(torch.zeros(1))


# Which layers.


def test_every_linear_layer_but_the_head_is_selected(make_llama, make_gpt2, make_mlp):
    parts = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    assert list(select_linear_layers(make_llama()).layers) == [
        f"model.layers.{i}.{part}" for i in (0, 1) for part in parts
    ]
    parts = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert list(select_linear_layers(make_gpt2()).layers) == [
        f"transformer.h.{i}.{part}" for i in (0, 1) for part in parts
    ]
    assert list(select_linear_layers(make_mlp()).layers) == ["0", "2", "4"]


@pytest.mark.parametrize(
    ("targets", "blocks", "expected"),
    [
        (["q_proj"], None, ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]),
        (["mlp.up_proj", "q_proj"], [1], ["model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"]),
        (["q_proj"], [-1], ["model.layers.1.self_attn.q_proj"]),
        (["q_proj"], [0, -1], ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]),
        (["lm_head"], None, ["lm_head"]),
        (["model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj"], None, ["model.layers.0.mlp.up_proj"]),
    ],
)
def test_layers_are_selected_by_name_and_block_in_the_models_order(targets, blocks, expected, make_llama):
    base = make_llama()
    layers = select_linear_layers(base, targets, blocks).layers
    assert list(layers) == expected
    assert all(layer is base.get_submodule(name) for name, layer in layers.items())


def test_a_layer_with_two_names_is_selected_under_both():
    shared = nn.Linear(3, 3)
    layers = select_linear_layers(nn.Sequential(shared, nn.Tanh(), shared)).layers
    assert list(layers) == ["0", "2"]
    assert layers["0"] is layers["2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_modules": ["proj"]},
            r"no linear layer is called 'proj'; those of the model end in down_proj, gate_pro",
        ),
        ({"target_modules": "q_proj"}, "target_modules is the single text 'q_proj': give a list"),
        ({"target_modules": []}, r"no layer to condition: LlamaForCausalLM has 15 linear layers, .* \[\] in .* None"),
        (
            {"target_modules": ["lm_head"], "blocks": [0]},
            r"no layer to condition: .* \['lm_head'\] in the blocks \[0\]",
        ),
        ({"blocks": []}, "no layer to condition"),
        ({"blocks": [2]}, "block 2 is to be conditioned, but the model has 2 blocks: 0 … 1"),
        ({"blocks": [0, -3]}, "block -3 is to be conditioned"),
    ],
)
def test_what_selects_nothing_is_refused(options, message, make_llama):
    with pytest.raises(ValueError, match=message):
        select_linear_layers(make_llama(), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(3, 2), "the base model is a single linear layer: wrap it as nn.Sequential"),
        (lambda: nn.Sequential(nn.Conv1d(3, 2, 1)), "Sequential has 0 linear layers"),
        (lambda: nn.Sequential(nn.Sequential(Around(nn.Linear(3, 2)))), "0.0 is wrapped already, by a Around"),
        (lambda: Around(nn.Linear(3, 2)), "the base model is wrapped already, by a Around"),
    ],
)
def test_what_is_no_plain_base_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        select_linear_layers(make())


WRAPPERS = {
    "svd-lora": lambda base: PreferenceModel(base, SVDLoRAConfig(("a", "b"))),
    "film": lambda base: FiLMModel(base, 2),
}


@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("inner", WRAPPERS)
def test_no_adapter_goes_around_another(inner, outer, make_mlp):
    model = WRAPPERS[inner](make_mlp())
    names = [name for name, _ in model.named_modules()]
    for base in (model, model.base_model):
        with pytest.raises(ValueError, match=r"0 is wrapped already, by a .* give the plain base model"):
            WRAPPERS[outer](base)
    assert [name for name, _ in model.named_modules()] == names


def test_peft_is_merged_first(make_llama):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(make_llama(), peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=r"q_proj is wrapped already, by a Linear: .* merge_and_unload\(\)"):
        PreferenceModel(model, SVDLoRAConfig(("a", "b")))
    PreferenceModel(model.merge_and_unload(), SVDLoRAConfig(("a", "b")))


# How they are wrapped.


def test_each_layer_is_wrapped_once_under_all_its_names():
    shared, other = nn.Linear(3, 3), nn.Linear(3, 2)
    base = nn.Sequential(shared, nn.Sequential(shared, other))
    adapters = wrap_layers(base, select_linear_layers(base), Around, train_base=True)
    assert list(adapters) == ["0", "1.1"]
    assert base[0] is base[1][0] is adapters["0"]
    assert base[1][1] is adapters["1.1"]
    assert [adapter.base_layer for adapter in adapters.values()] == [shared, other]


@pytest.mark.parametrize("train_base", [True, False])
def test_a_frozen_base_has_adapters_that_train(train_base, make_mlp):
    base = make_mlp()
    wrap_layers(base, select_linear_layers(base, ["0"]), Around, train_base)
    trained = {name for name, parameter in base.named_parameters() if parameter.requires_grad}
    all_names = {name for name, _ in base.named_parameters()}
    assert trained == (all_names if train_base else {"0.weight"})


def test_a_base_is_left_as_it_was_when_an_adapter_cannot_be_made(make_mlp):
    base = make_mlp()
    modules = list(base)

    def fail(layer: nn.Module) -> nn.Module:
        if layer is base[4]:
            raise RuntimeError("out of memory")
        return Around(layer)

    with pytest.raises(RuntimeError, match="out of memory"):
        wrap_layers(base, select_linear_layers(base), fail, train_base=False)
    assert list(base) == modules
    assert all(parameter.requires_grad for parameter in base.parameters())


@pytest.mark.parametrize(
    ("name", "index"), [("model.layers.12.mlp.up_proj", 12), ("h.0.3.c", 0), ("lm_head", None), ("layer2.proj", None)]
)
def test_block_index(name, index):
    assert block_index(name) == index
