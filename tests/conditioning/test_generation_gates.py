"""Generation keeps gates from token to token, and never one of another λ, of other parameters or of other rows."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.preference_state import PreferenceRecord
from mopref.conditioning.svd_lora import SVDLoRALayer

CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2, scaling=0.5)
NEW = 5
GREEDY = {"max_new_tokens": NEW, "do_sample": False}


@pytest.fixture
def model(make_llama, randomise):
    return randomise(PreferenceModel(make_llama(eos_token_id=None), CONFIG), std=0.4).eval()


@pytest.fixture
def prompts() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 100, (3, 4), generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture
def preferences() -> torch.Tensor:
    return torch.tensor([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]])


@torch.no_grad()
def by_forwards(model, prompts, preferences) -> torch.Tensor:
    """Greedy search by one whole forward a token: no gate is kept."""
    tokens = prompts["input_ids"]
    for _ in range(NEW):
        likeliest = model(tokens, preferences=preferences).logits[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, likeliest], dim=1)
    return tokens


@pytest.fixture
def gates_computed(monkeypatch) -> list[SVDLoRALayer]:
    """The layers that computed a gate, in order."""
    layers: list[SVDLoRALayer] = []
    gate = SVDLoRALayer.gate

    def counted(self, preferences):
        layers.append(self)
        return gate(self, preferences)

    monkeypatch.setattr(SVDLoRALayer, "gate", counted)
    return layers


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}], ids=str)
def test_each_layer_computes_its_gate_once_a_call(model, prompts, preferences, gates_computed, options):
    for calls in (1, 2):
        model.generate(**prompts, preferences=preferences, **{**GREEDY, **options})
        assert len(gates_computed) == calls * len(model.adapters)
        assert set(gates_computed) == set(model.adapters.values())
    assert model.state.gates == model.state.products == {}


def double_in_place(layer):
    with torch.no_grad():
        layer.scale *= -2


def double_behind_the_version_counter(layer):
    layer.sigma.data.mul_(-2)


def double_directions(layer):
    with torch.no_grad():
        layer.U *= -2
        layer.V *= 3


def replace_parameter(layer):
    layer.sigma = torch.nn.Parameter(layer.sigma.detach() - 1.5)


def take_optimiser_step(layer):
    layer.scale.grad = torch.ones_like(layer.scale)
    torch.optim.SGD([layer.scale], lr=2.0).step()


def load_another(layer):
    layer.load_state_dict(
        {name: -tensor for name, tensor in layer.state_dict().items() if name[0] in "s"}, strict=False
    )


@pytest.mark.parametrize(
    "change",
    [
        double_in_place,
        double_behind_the_version_counter,
        double_directions,
        replace_parameter,
        take_optimiser_step,
        load_another,
    ],
    ids=lambda change: change.__name__,
)
def test_parameters_that_change_between_calls(model, prompts, preferences, change):
    before = model.generate(**prompts, preferences=preferences, **GREEDY)
    assert torch.equal(before, by_forwards(model, prompts, preferences))
    for layer in model.adapters.values():
        change(layer)
    after = model.generate(**prompts, preferences=preferences, **GREEDY)
    assert torch.equal(after, by_forwards(model, prompts, preferences))
    assert not torch.equal(after, before), "the test would be vacuous if the change had no effect"


def test_preferences_that_change_between_calls(model, prompts, preferences):
    """Also where the caller writes other weights into the same tensor, or had the adapters disabled in between."""
    seen = []
    for _ in range(2):
        output = model.generate(**prompts, preferences=preferences, **GREEDY)
        assert torch.equal(output, by_forwards(model, prompts, preferences.clone()))
        with model.disabled():
            seen.append(model.generate(**prompts, **GREEDY))
        assert torch.equal(model.generate(**prompts, preferences=preferences, **GREEDY), output)
        seen.append(output)
        preferences.copy_(preferences.flip(0))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])


def test_row_counts_that_change_between_calls(model, prompts, preferences):
    """Beams, samples and fewer prompts, in turn on one model: each as on a model that generates for the first time."""

    def all_kinds(select) -> list[torch.Tensor]:
        one = {name: tensor[:1] for name, tensor in prompts.items()}
        return [
            select().generate(**prompts, preferences=preferences, **GREEDY),
            select().generate(**prompts, preferences=preferences, num_beams=3, num_return_sequences=2, **GREEDY),
            select().generate(**one, preferences=preferences[1:2], **GREEDY),
            select().generate(**prompts, preferences=preferences[1], **GREEDY),
            select().generate(**prompts, preferences=preferences, num_beams=2, **GREEDY),
            select().generate(
                **prompts, preferences=preferences, max_new_tokens=NEW, do_sample=True, top_k=1, num_return_sequences=3
            ),
        ]

    for reused, first in zip(all_kinds(lambda: model), all_kinds(lambda: copy.deepcopy(model)), strict=True):
        assert torch.equal(reused, first)


def test_a_preference_set_during_generation_replaces_the_gates(model, preferences):
    layer = next(iter(model.adapters.values()))
    x = torch.randn(3, 1, layer.n_in, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = []
        for in_force in (preferences, preferences.flip(0)):
            model.state.set(PreferenceRecord(in_force))
            expected.append(layer(x))
        assert not torch.allclose(expected[0], expected[1])
        with model.state.generation():
            for in_force, output in zip((preferences, preferences.flip(0)), expected, strict=True):
                model.state.set(PreferenceRecord(in_force))
                first = layer(x)
                torch.testing.assert_close(first, output, atol=1e-6, rtol=1e-6)
                assert torch.equal(layer(x), first)


@torch.no_grad()
def test_row_counts_that_change_during_generation(model, preferences):
    """Each row keeps its own preference, however often it is repeated."""
    layer = next(iter(model.adapters.values()))
    x = torch.randn(3, 2, layer.n_in, generator=torch.Generator().manual_seed(1))
    model.state.set(PreferenceRecord(preferences))
    expected = layer(x)
    with model.state.generation():
        for repeats in (1, 3, 2, 1):
            output = layer(x.repeat_interleave(repeats, dim=0))
            torch.testing.assert_close(output, expected.repeat_interleave(repeats, dim=0), atol=1e-6, rtol=1e-6)


def test_gradients_never_go_through_a_kept_gate(model, preferences):
    layer = next(iter(model.adapters.values()))
    x = torch.randn(3, 1, layer.n_in, generator=torch.Generator().manual_seed(1))
    model.state.set(PreferenceRecord(preferences))
    with model.state.generation():
        with torch.no_grad():
            layer(x)
        layer(x).square().sum().backward()
    assert layer.scale.grad.abs() > 0
    assert (layer.sigma.grad.abs() > 0).all()


def test_a_generation_that_fails_leaves_nothing_behind(model, prompts, preferences, token_batch):
    def fail(ids, scores):
        if ids.shape[1] > 5:
            raise RuntimeError("stop here")
        assert model.state.gates, "the test would be vacuous if no gate were kept"
        return scores

    with pytest.raises(RuntimeError, match="stop here"):
        model.generate(**prompts, preferences=preferences, logits_processor=[fail], num_return_sequences=2, **{
            **GREEDY, "do_sample": True
        })  # fmt: skip
    assert model.state.gates == model.state.products == {}
    with pytest.raises(ValueError, match="rows"):
        model(token_batch[:4], preferences=preferences[:2])
    expected = by_forwards(model, prompts, preferences)
    assert torch.equal(model.generate(**prompts, preferences=preferences, **GREEDY), expected)


def test_no_gate_is_kept_outside_generation(model, token_batch, five_preferences, gates_computed):
    with torch.no_grad():
        for _ in range(2):
            model(token_batch, preferences=five_preferences)
    assert len(gates_computed) == 2 * len(model.adapters)
    assert model.state.gates == model.state.products == {}


def kept_and_plain(layer, x, preferences) -> tuple[torch.Tensor, torch.Tensor, int]:
    """A layer's second output while generating, its output otherwise, and how many products it kept."""
    layer.state.set(PreferenceRecord(preferences))
    with torch.no_grad():
        plain = layer(x)
        with layer.state.generation():
            layer(x)
            return layer(x), plain, len(layer.state.products)


@pytest.mark.parametrize("rows", [1, 5, 31, 32, 80])
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_while_generating_are_those_of_a_forward(rows, tokens, single, bias, randomise):
    """Of few rows and many, which are multiplied in another order; products are kept for single tokens only."""
    layer = randomise(PreferenceModel(nn.Sequential(nn.Linear(6, 4, bias=bias)), CONFIG)).adapters["0"]
    x = torch.randn(rows, 2, tokens, 6, generator=torch.Generator().manual_seed(0)).transpose(1, 2)[..., 0, :]
    preferences = torch.rand(rows, 2, generator=torch.Generator().manual_seed(1))
    preferences = (preferences / preferences.sum(1, keepdim=True))[: 1 if single else None]
    kept, plain, count = kept_and_plain(layer, x, preferences)
    torch.testing.assert_close(kept, plain, atol=1e-5, rtol=1e-5)
    assert count == (tokens == 1)
    for row in range(rows):
        own, _, _ = kept_and_plain(layer, x[row : row + 1], preferences[0 if single else row][None])
        torch.testing.assert_close(kept[row], own[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reason", ["hook", "every module's hook", "autocast", "disabled", "another type", "gradient"])
def test_layers_that_need_more_than_products_keep_none(reason, model, preferences):
    layer = next(iter(model.adapters.values()))
    x = torch.randn(3, 1, layer.n_in, generator=torch.Generator().manual_seed(1))
    model.state.set(PreferenceRecord(preferences, enabled=reason != "disabled"))
    calls = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(model.state.generation())
        stack.enter_context(torch.set_grad_enabled(reason == "gradient"))
        if reason == "hook":
            stack.callback(layer.base_layer.register_forward_hook(lambda *_: calls.append(1)).remove)
        elif reason == "every module's hook":
            hook = nn.modules.module.register_module_forward_hook(lambda module, *_: calls.append(module))
            stack.callback(hook.remove)
        elif reason == "autocast":
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        elif reason == "another type":
            layer.base_layer.bfloat16()
            x = x.bfloat16()
        first, again = layer(x), layer(x)
        assert model.state.products == {}
    assert torch.equal(first, again)
    assert len(calls) == {"hook": 2, "every module's hook": 4}.get(reason, 0)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True, "top_k": 1}])
def test_a_cache_of_fixed_size_gives_the_same_tokens(model, prompts, preferences, options):
    growing = model.generate(**prompts, preferences=preferences, **{**GREEDY, **options})
    fixed = model.generate(**prompts, preferences=preferences, cache_implementation="static", **{**GREEDY, **options})
    assert torch.equal(fixed, growing)
