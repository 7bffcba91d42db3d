"""PreferenceModel: the base stays reachable, λ stays in force until after the backward pass, bad λ are refused."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from _sealed_adapters import change_settings
from conditioned_networks import ROW_PREFERENCES, TinyLanguageModel, conditioned, logits_of_rows
from tiny_models import tiny_model
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig

CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_disabled_is_the_base_model_bit_for_bit(mode, make_lm, randomise, five_preferences, token_batch):
    base = make_lm()
    model = randomise(PreferenceModel(copy.deepcopy(base), CONFIG))
    (model.train() if mode == "train" else model.eval())
    expected = base(token_batch).logits
    conditioned = model(token_batch, preferences=five_preferences).logits
    assert (conditioned - expected).abs().max() > 0.5
    with model.disabled():
        assert torch.equal(model(token_batch).logits, expected)
    assert torch.equal(model(token_batch, preferences=five_preferences).logits, conditioned)


def test_disabled_is_undone_by_an_error_and_nests(make_llama, randomise, five_preferences, token_batch):
    model = randomise(PreferenceModel(make_llama(), CONFIG)).eval()
    conditioned = model(token_batch, preferences=five_preferences).logits
    with pytest.raises(RuntimeError, match="stop"), model.disabled():
        raise RuntimeError("stop")
    assert torch.equal(model(token_batch, preferences=five_preferences).logits, conditioned)
    with model.disabled():
        with model.disabled():
            outer = model(token_batch).logits
        assert torch.equal(model(token_batch).logits, outer), "leaving the inner block must not enable the outer"
    assert torch.equal(model(token_batch, preferences=five_preferences).logits, conditioned)


def test_training_moves_adapters_only(make_lm, randomise, five_preferences, token_batch):
    base = make_lm()
    model = randomise(PreferenceModel(copy.deepcopy(base), CONFIG)).train()
    adapter_parameters = {id(p) for layer in model.adapters.values() for p in layer.parameters() if p.requires_grad}
    assert {id(p) for p in trainable(model).values()} == adapter_parameters
    assert len(adapter_parameters) == 4 * len(model.adapters)
    before = {name: p.detach().clone() for name, p in trainable(model).items()}
    optimizer = torch.optim.SGD(trainable(model).values(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(token_batch, preferences=five_preferences, labels=token_batch).loss.backward()
        optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in trainable(model).items())
    model.eval()
    with model.disabled(), torch.no_grad():
        assert torch.equal(model(token_batch).logits, base(token_batch).logits)


def test_a_call_without_preferences_raises(make_llama, token_batch):
    model = PreferenceModel(make_llama(), CONFIG)
    with pytest.raises(ValueError, match=r"missing: give one weight for each of a, b, .*disabled\(\)` for the base"):
        model(token_batch)


@pytest.mark.parametrize("how", ["forward", "merge", "generate"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param([0.2, 0.3, 0.5], r"shape \(3,\), but there are 2 objectives \(a, b\)", id="length"),
        pytest.param([0.5, 0.4], "sums to 0.9, not 1", id="sum"),
        pytest.param([-0.5, 1.5], "weight -0.5 for a, which is negative", id="negative"),
        pytest.param([math.nan, 1.0], "weight nan for a, which is not finite", id="nan"),
    ],
)
def test_wrong_preferences_raise(how, wrong, message, make_llama, token_batch):
    model = PreferenceModel(make_llama(), CONFIG).eval()
    preference = torch.tensor(wrong)
    call = {
        "forward": lambda: model(token_batch, preferences=preference),
        "merge": lambda: model.merge(preference),
        "generate": lambda: model.generate(input_ids=token_batch, preferences=preference, max_new_tokens=1),
    }[how]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("rows", [2, 4, 10])
def test_a_wrong_number_of_preference_rows_raises(rows, make_llama, token_batch):
    model = PreferenceModel(make_llama(), CONFIG)
    with pytest.raises(ValueError, match=f"{rows} preferences were given for 5 rows"):
        model(token_batch, preferences=torch.full((rows, 2), 0.5))


def test_a_refused_call_leaves_the_model_usable(make_llama, randomise, five_preferences, token_batch):
    model = randomise(PreferenceModel(make_llama(), CONFIG)).eval()
    expected = model(token_batch, preferences=five_preferences).logits
    with pytest.raises(ValueError, match="3 preferences were given for 5 rows"):
        model(token_batch, preferences=five_preferences[:3])
    with pytest.raises(ValueError, match="preferences are missing"):
        model(token_batch)
    assert torch.equal(model(token_batch, preferences=five_preferences).logits, expected)


class Recorder(nn.Module):
    """A base that takes positional and keyword arguments and returns them with its output."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, y: int, *, flag: str = "no") -> tuple[torch.Tensor, int, str]:
        return self.linear(x), y, flag


def test_arguments_and_outputs_pass_through():
    model = PreferenceModel(Recorder(), CONFIG)
    output, y, flag = model(torch.ones(2, 3), 7, flag="yes", preferences=torch.tensor([0.5, 0.5]))
    assert (output.shape, y, flag) == ((2, 3), 7, "yes")


def test_the_base_is_reachable(make_llama):
    base = make_llama()
    model = PreferenceModel(base, CONFIG)
    assert model.base_model is base
    assert model.base_model.config.hidden_size == 64


# Loading wraps what was trained.


def test_the_saved_layers_are_wrapped_whatever_would_be_selected_today(make_llama, tmp_path):
    model = conditioned(make_llama(), target_modules=("q_proj",), layers=(1,))
    model.save_pretrained(tmp_path)
    change_settings(tmp_path, target_modules=None, layers=None)
    loaded = PreferenceModel.load(make_llama(), tmp_path)
    assert list(loaded.adapters) == list(model.adapters) == ["model.layers.1.self_attn.q_proj"]
    wrapped = [name for name, part in loaded.base_model.named_modules() if hasattr(part, "base_layer")]
    assert wrapped == list(model.adapters)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:linear layers without an adapter")
def test_a_layer_that_is_left_out_today_is_loaded_where_it_was_trained(tmp_path):
    """An adapter on the output projection of a state-space layer, as an earlier release put it there."""
    model = conditioned(tiny_model("mamba2"), target_modules=("in_proj", "out_proj"))
    model.save_pretrained(tmp_path)
    change_settings(tmp_path, target_modules=None)
    loaded = PreferenceModel.load(tiny_model("mamba2"), tmp_path).eval()
    assert loaded.adapters.keys() == model.adapters.keys()
    assert any(name.endswith("out_proj") for name in loaded.adapters)
    expected = logits_of_rows(model, slice(None), preferences=ROW_PREFERENCES)
    assert torch.equal(logits_of_rows(loaded, slice(None), preferences=ROW_PREFERENCES), expected)


def test_rows_lie_where_they_lay_in_training(tmp_path):
    def make():
        torch.manual_seed(0)
        layer = nn.Linear(4, 4)
        return TinyLanguageModel(lambda base, x: base.layers["inner"](x.transpose(0, 1)).transpose(0, 1), inner=layer)

    model = conditioned(make())
    model.save_pretrained(tmp_path)
    loaded = PreferenceModel.load(make(), tmp_path).eval()
    assert loaded.adapters["layers.inner"].layout == "tokens first"
    ids = torch.tensor([[3, 4], [5, 6]])
    preferences = torch.tensor([[1.0, 0.0], [0.2, 0.8]])
    rows = torch.stack([loaded.merge(row)(ids[i : i + 1])[0] for i, row in enumerate(preferences)])
    torch.testing.assert_close(loaded(ids, preferences=preferences), rows)


@torch.no_grad()
def test_forwards_of_several_threads_take_turns(make_llama):
    model = conditioned(make_llama())
    expected = [logits_of_rows(model, slice(None), preferences=row) for row in ROW_PREFERENCES]

    def run(index: int) -> bool:
        with torch.no_grad():
            row = ROW_PREFERENCES[index % 3]
            return torch.equal(logits_of_rows(model, slice(None), preferences=row), expected[index % 3])

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, range(24)))


def test_all_attention_and_mlp_linears_are_adapted_by_default(make_llama, make_gpt2, make_mlp):
    config = SVDLoRAConfig(objectives=("a", "b"))
    parts = ["self_attn." + n for n in ("q_proj", "k_proj", "v_proj", "o_proj")]
    parts += ["mlp." + n for n in ("gate_proj", "up_proj", "down_proj")]
    assert set(PreferenceModel(make_llama(), config).adapters) == {
        f"model.layers.{i}.{p}" for i in (0, 1) for p in parts
    }
    parts = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert set(PreferenceModel(make_gpt2(), config).adapters) == {
        f"transformer.h.{i}.{p}" for i in (0, 1) for p in parts
    }
    assert set(PreferenceModel(make_mlp(), config).adapters) == {"0", "2", "4"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"target_modules": ["q_proj", "v_proj"]},
            {f"model.layers.{i}.self_attn.{p}_proj" for i in (0, 1) for p in "qv"},
        ),
        ({"target_modules": ["model.layers.1.mlp.up_proj"]}, {"model.layers.1.mlp.up_proj"}),
        ({"target_modules": ["down_proj"], "layers": [1]}, {"model.layers.1.mlp.down_proj"}),
        ({"target_modules": ["lm_head"]}, {"lm_head"}),
    ],
)
def test_targets(options, expected, make_llama):
    assert set(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"), **options)).adapters) == expected


def test_layers_restricts_the_adapted_blocks(make_lm):
    adapters = PreferenceModel(make_lm(), SVDLoRAConfig(objectives=("a", "b"), layers=[1])).adapters
    assert adapters
    assert all(".1." in name for name in adapters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_modules": ["no_such_module"]},
            "no linear layer is called 'no_such_module'; those of the model end in",
        ),
        ({"layers": [7]}, "block 7 is to be conditioned, but the model has 2 blocks: 0 … 1"),
        ({"target_modules": ["q_proj", "no_such_module"]}, "no linear layer is called 'no_such_module'"),
    ],
)
def test_targets_that_match_nothing_raise(options, message, make_llama):
    base = make_llama()
    before = [name for name, _ in base.named_modules()]
    with pytest.raises(ValueError, match=message):
        PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b"), **options))
    assert [name for name, _ in base.named_modules()] == before, "a refused configuration must leave the base alone"
    assert all(parameter.requires_grad for parameter in base.parameters())


def test_several_preferences_make_no_single_model(make_mlp, tmp_path, five_preferences):
    model = PreferenceModel(make_mlp(), CONFIG)
    for call in (model.merge, lambda preferences: model.export_lora(tmp_path, preferences)):
        with pytest.raises(ValueError, match="5 preferences were given where one model is made: give a single one"):
            call(five_preferences)


def test_from_pretrained_takes_settings_for_new_adapters_only(make_llama, tmp_path):
    base = make_llama()
    base.save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=r"has no adapter_config\.json, so it is taken for a base model: give an"):
        PreferenceModel.from_pretrained(tmp_path / "base")
    PreferenceModel(base, CONFIG).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="is an adapter with its own settings: leave config out"):
        PreferenceModel.from_pretrained(tmp_path / "adapter", CONFIG)
    with pytest.raises(ValueError, match="does not name its base model: load the base and call Pref"):
        PreferenceModel.from_pretrained(tmp_path / "adapter")


# Companions: trained beside the adapters.


def test_companions_move_train_and_are_kept_with_the_model(make_mlp, five_preferences):
    model = PreferenceModel(make_mlp(), CONFIG)
    assert len(model.companions) == 0
    names = set(model.state_dict())
    model.companions["critic"] = nn.Linear(5, 1)
    assert set(model.state_dict()) - names == {"companions.critic.weight", "companions.critic.bias"}
    assert {name for name in trainable(model) if name.startswith("companions")} == set(model.state_dict()) - names
    model.double().eval()
    assert model.companions["critic"].weight.dtype == torch.float64
    assert not model.companions["critic"].training
    outputs = model(torch.ones(5, 6, dtype=torch.float64), preferences=five_preferences)
    model.companions["critic"](outputs).sum().backward()
    assert model.companions["critic"].weight.grad.abs().max() > 0
    copied = copy.deepcopy(model)
    assert copied.companions["critic"].weight is not model.companions["critic"].weight
    assert all(torch.equal(copied.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_companions_are_no_part_of_a_merged_model(make_mlp):
    model = PreferenceModel(make_mlp(), CONFIG)
    expected = model.merge([0.5, 0.5]).state_dict()
    model.companions["critic"] = nn.Linear(5, 1)
    merged = model.merge([0.5, 0.5]).state_dict()
    assert merged.keys() == expected.keys() == make_mlp().state_dict().keys()
    assert all(torch.equal(merged[name], expected[name]) for name in merged)


def test_a_base_or_settings_of_another_kind_are_told(make_mlp, tmp_path):
    for make in (lambda: PreferenceModel("gpt2", CONFIG), lambda: PreferenceModel.load("gpt2", tmp_path)):
        with pytest.raises(
            TypeError, match=r"base_model is 'gpt2': give the model itself, or use PreferenceModel\.from"
        ):
            make()
    with pytest.raises(TypeError, match=r"config is a dict: give SVDLoRAConfig\(objectives"):
        PreferenceModel(make_mlp(), {"objectives": ("a", "b")})


@torch.no_grad()
def test_decoding_keeps_a_preference_and_a_strength_for_each_row(make_lm, randomise, merge_by_hand, token_batch):
    model = randomise(PreferenceModel(make_lm(), CONFIG)).eval()
    preferences, strengths = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]), [0.0, 0.5, 1.7]
    with model.decoding(preferences, 3, strengths) as base:
        logits = base(token_batch[:3]).logits
        # Once more, from what was kept.
        assert torch.equal(base(token_batch[:3]).logits, logits)
    for row, (preference, strength) in enumerate(zip(preferences, strengths, strict=True)):
        merged = merge_by_hand(make_lm(), model, preference, scaling=strength)
        torch.testing.assert_close(logits[row], merged(token_batch[row : row + 1]).logits[0], atol=1e-4, rtol=1e-4)
    # Neither an older record nor the next forward has a strength.
    full = model(token_batch[:3], preferences=preferences).logits
    with model.decoding(preferences, 3) as base:
        torch.testing.assert_close(base(token_batch[:3]).logits, full)
    assert (full[0] - logits[0]).abs().max() > 0.5


@pytest.mark.parametrize("strengths", [[1.0], [1.0, -0.1], [1.0, math.nan], [1.0, math.inf]])
def test_strengths_that_cannot_be_are_refused(make_llama, strengths):
    model = PreferenceModel(make_llama(), CONFIG)
    with (
        pytest.raises(ValueError, match="for 2 rows: give one finite number ≥ 0 for each"),
        model.decoding([[0.5, 0.5]] * 2, 2, strengths),
    ):
        raise AssertionError("entered")
    with pytest.raises(ValueError, match="3 preferences were given for 2"), model.decoding([[0.5, 0.5]] * 3, 2):
        raise AssertionError("entered")
    assert not model.state.generating
