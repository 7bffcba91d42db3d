"""What adapters share: the layers they wrap, and how they are put in their place."""

from types import SimpleNamespace

import pytest
import torch
from conditioned_networks import (
    PackedLinear,
    TinyLanguageModel,
    TupleLinear,
    assert_each_row_is_its_merged_model,
    conditioned,
    logits_of_rows,
    small_config,
    tiny_image_model,
)
from tiny_models import tiny_config, tiny_model
from torch import nn
from torch.nn.functional import linear

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.wrapping import block_index, named_layers, select_linear_layers, wrap_layers


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


def test_all_linear_is_another_word_for_none(make_lm):
    base = make_lm()
    assert list(select_linear_layers(base, "all-linear").layers) == list(select_linear_layers(base).layers)
    model = PreferenceModel(base, SVDLoRAConfig(("a", "b"), target_modules="all-linear", layers=(-1,)))
    assert list(model.adapters) == list(select_linear_layers(make_lm(), None, [-1]).layers)
    assert list(FiLMModel(make_lm(), 2, target_modules="all-linear").layers) == list(
        select_linear_layers(make_lm()).layers
    )


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "all-linear")])
def test_among_other_names_all_linear_is_none_and_the_way_out_is_told(targets, make_llama):
    with pytest.raises(ValueError, match=r"called 'all-linear'; .* All of them are None or 'all-linear'"):
        select_linear_layers(make_llama(), targets)


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


class Holder(nn.Module):
    """As a module is held by what compiles, shards or recomputes it."""

    def __init__(self, part: str, module: nn.Module) -> None:
        super().__init__()
        self.add_module(part, module)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda base: nn.Sequential(torch.compile(base)), "0 is wrapped in a OptimizedModule, whose names for layers"),
        (lambda base: nn.Sequential(base[0], torch.compile(base[1])), "1 is wrapped in a OptimizedModule"),
        (nn.DataParallel, "the base model is wrapped in a DataParallel"),
        (lambda base: Holder("_fsdp_wrapped_module", base), "the base model is wrapped in a Holder"),
        (lambda base: nn.Sequential(Holder("_checkpoint_wrapped_module", base)), "0 is wrapped in a Holder"),
    ],
)
def test_what_gives_layers_other_names_is_put_on_afterwards(make, message):
    base = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    for condition in WRAPPERS.values():
        with pytest.raises(ValueError, match=f"{message}.* compile, distribute or checkpoint it afterwards"):
            condition(make(base))
    assert [type(layer) for layer in base] == [nn.Linear, nn.Linear]


def prefix_tuning(peft, base):
    return peft.get_peft_model(base, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))


def prompt_tuning(peft, base):
    return peft.get_peft_model(base, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))


def injected_lora(peft, base):
    return peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["q_proj"]), base)


def base_inside_a_lora(peft, base):
    peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"]))
    return base


PEFT_BASES = {
    "LoRA": lambda peft, base: peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"])),
    "LoRA of embeddings": lambda peft, base: peft.get_peft_model(
        base, peft.LoraConfig(target_modules=["embed_tokens"])
    ),
    "IA3": lambda peft, base: peft.get_peft_model(
        base, peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    ),
    "tuned norms": lambda peft, base: peft.get_peft_model(
        base, peft.LNTuningConfig(target_modules=["input_layernorm"])
    ),
    "prefix": prefix_tuning,
    "prefix inside": lambda peft, base: nn.Sequential(prefix_tuning(peft, base)),
    "prompt": prompt_tuning,
    "injected": injected_lora,
    "inside": base_inside_a_lora,
}


@pytest.mark.parametrize("kind", PEFT_BASES)
def test_peft_is_merged_first(kind, make_llama):
    peft = pytest.importorskip("peft")
    base = PEFT_BASES[kind](peft, make_llama())
    for condition in WRAPPERS.values():
        with pytest.raises(ValueError, match=r"is wrapped already, by a .*: .* PEFT's merge_and_unload\(\) returns"):
            condition(base)


@torch.no_grad()
def test_what_peft_merges_is_a_plain_base(make_llama, token_batch):
    peft = pytest.importorskip("peft")
    lora = peft.get_peft_model(make_llama(), peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    expected = lora.eval()(token_batch).logits
    model = PreferenceModel(lora.merge_and_unload(), small_config()).eval()
    torch.testing.assert_close(model(token_batch, preferences=[0.5, 0.5]).logits, expected, atol=1e-4, rtol=1e-4)
    assert (make_llama()(token_batch).logits - expected).abs().max() > 0.05


def test_weights_are_there_before_adapters(make_llama):
    with torch.device("meta"):
        empty = type(make_llama())(tiny_config("llama"))
    with pytest.raises(ValueError, match=r"q_proj is on the meta device, which holds no numbers: load the base"):
        PreferenceModel(empty, small_config())
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ValueError, match="0 has no weight yet, as a lazy layer has not before its first forward"):
        PreferenceModel(lazy, small_config())
    lazy(torch.zeros(1, 4))
    assert list(PreferenceModel(lazy, small_config()).adapters) == ["0"]


def test_an_offloaded_layer_rests_on_the_meta_device():
    base = nn.Sequential(nn.Linear(3, 2, device="meta"))
    base[0]._hf_hook = SimpleNamespace(execution_device="cpu")
    layer = PreferenceModel(base, small_config()).adapters["0"]
    assert (layer.U.device.type, layer.base_layer.weight.device.type) == ("cpu", "meta")


def test_linear_layers_of_another_kind_are_told():
    class QuantizedLinear(nn.Module):
        """Not derived from PyTorch's."""

    with pytest.raises(ValueError, match=r"no layer to condition: .* layers of the kind QuantizedLinear cannot be ad"):
        select_linear_layers(nn.Sequential(QuantizedLinear()))


# Layers of a language model that cannot be adapted.


def test_derived_layers_are_adapted():
    model = conditioned(tiny_model("falcon"))
    assert {name.split(".", 3)[-1] for name in model.adapters} == {
        "self_attention.query_key_value",
        "self_attention.dense",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
    }
    assert_each_row_is_its_merged_model(model)


def router_and_projection(base: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return base.layers["projection"](x) + base.layers["router"](x)[0]


def test_a_layer_that_gives_a_tuple_is_left_out_and_said():
    base = TinyLanguageModel(router_and_projection, projection=nn.Linear(4, 4), router=TupleLinear(4, 4))
    with pytest.warns(UserWarning, match=r"linear layers without an adapter; layers.router: it makes something else"):
        assert list(select_linear_layers(base).layers) == ["layers.projection"]
    with pytest.raises(ValueError, match=r"'router' cannot be adapted: it makes something else .* Leave it out of the"):
        select_linear_layers(base, ["projection", "router"])


def test_of_a_target_the_layers_that_can_be_adapted_are():
    def body(base, x):
        return base.layers["0"]["projection"](x)

    parts = {str(i): nn.ModuleDict({"projection": nn.Linear(4, 4)}) for i in range(2)}
    base = TinyLanguageModel(body, **parts)
    with pytest.warns(
        UserWarning, match=r"without an adapter; layers.\*.projection: a forward over text does not call"
    ):
        assert list(select_linear_layers(base, ["projection"]).layers) == ["layers.0.projection"]
    with pytest.raises(ValueError, match=r"'layers.1.projection' cannot be adapted: a forward over text does not"):
        select_linear_layers(base, ["layers.1.projection"])


@pytest.mark.parametrize(
    ("family", "left_out"), [("mamba", ("dt_proj", "x_proj", "out_proj")), ("mamba2", ("out_proj",))]
)
def test_projections_that_a_state_space_layer_reads_are_left_out(family, left_out):
    with pytest.warns(UserWarning, match=r"linear layers without an adapter; .*mixer\.out_proj: the fused kernels"):
        model = conditioned(tiny_model(family))
    assert model.adapters
    assert not any(name.endswith(left_out) for name in model.adapters)
    for train in (False, True):
        found = model.train(train)
        merged = model.merge([0.3, 0.7]).train(train)
        with torch.no_grad():
            torch.testing.assert_close(
                logits_of_rows(found, slice(None), preferences=[0.3, 0.7]),
                logits_of_rows(merged, slice(None)),
                atol=2e-4,
                rtol=2e-4,
            )


def test_a_weight_that_is_read_is_no_target():
    base = tiny_model("llama")
    mlp = base.model.layers[0].mlp
    mlp.forward = lambda x: linear(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x), mlp.down_proj.weight)
    message = r"'0.mlp.down_proj' cannot be adapted: the model computes with its weight itself"
    with pytest.raises(ValueError, match=message):
        select_linear_layers(base, ["0.mlp.down_proj"])


def test_a_tower_of_images_is_left_out_and_said():
    base = tiny_image_model()
    with pytest.warns(
        UserWarning, match=r"model.vision_tower.*layers.\*.self_attn.k_proj: a forward over text does not"
    ):
        layers = select_linear_layers(base).layers
    assert len(layers) == 14
    assert all("language_model" in name for name in layers)
    with pytest.raises(ValueError, match=r"'multi_modal_projector.linear_1' cannot be adapted"):
        select_linear_layers(base, ["multi_modal_projector.linear_1"])


def test_images_and_rows_are_not_mistaken_for_each_other():
    """Two images in the first row and none in the second: as many as there are rows."""
    model = conditioned(tiny_image_model())
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[96] * 8 + [5, 6], [7] * 8 + [8, 9]])
    preferences = torch.tensor([[1.0, 0.0], [0.2, 0.8]])
    with torch.no_grad():
        together = model(input_ids=ids, pixel_values=images, preferences=preferences).logits
        first = model.merge(preferences[0])(input_ids=ids[:1], pixel_values=images).logits
        second = model.merge(preferences[1])(input_ids=ids[1:]).logits
    torch.testing.assert_close(together, torch.cat([first, second]), atol=2e-4, rtol=2e-4)
    assert (first - model.merge(preferences[1])(input_ids=ids[:1], pixel_values=images).logits).abs().max() > 0.05


def chosen_tokens(base: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A router's choice: the first four of the batch's tokens."""
    rows = x.flatten(0, 1)
    return base.layers["dense"](rows) + nn.functional.pad(base.layers["expert"](rows[:4]), (0, 0, 0, len(rows) - 4))


def test_experts_that_see_chosen_tokens_take_a_single_preference_and_only_where_they_are_named():
    def make():
        return TinyLanguageModel(chosen_tokens, dense=nn.Linear(4, 4), expert=nn.Linear(4, 4))

    with pytest.warns(
        UserWarning, match=r"layers.expert: it sees other rows than those of the batch, such as a router"
    ):
        assert list(select_linear_layers(make()).layers) == ["layers.dense"]
    model = conditioned(make(), target_modules=("dense", "expert"))
    assert [layer.layout for layer in model.adapters.values()] == ["rows first", "mixed"]
    ids = torch.tensor([[3, 4], [5, 6], [7, 8], [9, 10]])
    torch.testing.assert_close(model(ids, preferences=[0.3, 0.7]), model.merge([0.3, 0.7])(ids))
    with pytest.raises(ValueError, match=r"4 preferences were given, but layers.expert sees 4 rows that are not those"):
        model(ids, preferences=[[0.3, 0.7]] * 4)


# By their whole names.


def test_named_layers_are_those_and_no_others(make_llama):
    base = make_llama()
    names = ["model.layers.1.mlp.up_proj", "lm_head", "model.layers.0.self_attn.q_proj"]
    selection = named_layers(base, names)
    assert set(selection.layers) == set(names)
    assert selection.layouts == dict.fromkeys(selection.layers, "rows first")
    for wrong in ("up_proj", "model.norm", "model.layers.2.mlp.up_proj"):
        with pytest.raises(ValueError, match=f"LlamaForCausalLM has no linear layer '{wrong}'"):
            named_layers(base, [wrong])


def test_a_named_layer_is_found_under_all_its_names():
    shared = nn.Linear(3, 3)
    base = nn.Sequential(shared, nn.Linear(3, 3), shared)
    assert list(named_layers(base, ["0"]).layers) == list(named_layers(base, ["2"]).layers) == ["0", "2"]


# How they are wrapped.


def test_each_adapter_knows_its_name_and_where_its_rows_lie():
    def body(base, x):
        return base.layers["ahead"](x) + base.layers["behind"](x.transpose(0, 1)).transpose(0, 1)

    model = conditioned(TinyLanguageModel(body, ahead=nn.Linear(4, 4), behind=nn.Linear(4, 4)))
    assert {layer.layer_name: layer.layout for layer in model.adapters.values()} == {
        "layers.ahead": "rows first",
        "layers.behind": "tokens first",
    }
    assert list(model.adapters) == [layer.layer_name for layer in model.adapters.values()]
    plain = conditioned(nn.Sequential(PackedLinear(nn.Linear(3, 2))))
    assert (plain.adapters["0"].layer_name, plain.adapters["0"].layout) == ("0", "rows first")


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
