"""Gradient checkpointing: activations are recomputed in the backward pass, each under its own forward's preference."""

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from conditioned_networks import IDS, ROW_PREFERENCES, conditioned, logits_of_rows
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.film import FiLMModel
from mopref.gradients import gramians

CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


def assert_same_gradients(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    scale = max(g.abs().max().item() for g in expected.values())
    assert scale > 0
    for name, gradient in expected.items():
        assert (actual[name] - gradient).abs().max().item() <= 1e-6 * scale, name


@pytest.fixture
def checkpointed(make_lm, randomise):
    """The same adapted model without and with gradient checkpointing, in training mode."""
    plain = randomise(PreferenceModel(make_lm(), CONFIG)).train()
    other = copy.deepcopy(plain)
    other.gradient_checkpointing_enable()
    return plain, other


def test_checkpointing_recomputes_and_can_be_switched_off(checkpointed, five_preferences, token_batch):
    """Guards the tests below: without a second run of the adapted layers they would compare nothing."""
    _, model = checkpointed
    calls = []
    layer = next(module for name, module in model.base_model.named_modules() if name.endswith("mlp"))
    # Not a forward hook: recomputation stops as soon as it has the last tensor it needs, inside the block.
    handle = layer.register_forward_pre_hook(lambda *_: calls.append(1))
    model(token_batch, preferences=five_preferences).logits.square().mean().backward()
    assert len(calls) == 2
    calls.clear()
    model.gradient_checkpointing_disable()
    model(token_batch, preferences=five_preferences).logits.square().mean().backward()
    assert len(calls) == 1
    handle.remove()


def test_checkpointed_gradients_agree(checkpointed, five_preferences, token_batch):
    for model in checkpointed:
        model(token_batch, preferences=five_preferences).logits.square().mean().backward()
    plain, other = checkpointed
    assert_same_gradients(gradients(other), gradients(plain))


@pytest.mark.parametrize("between", ["another λ", "disabled", "no grad", "generate", "refused"])
def test_checkpointed_gradients_survive_a_forward_in_between(checkpointed, between, five_preferences, token_batch):
    for model in checkpointed:
        loss = model(token_batch, preferences=five_preferences).logits.square().mean()
        if between == "another λ":
            model(token_batch[:2], preferences=torch.tensor([0.25, 0.75]))
        elif between == "disabled":
            with model.disabled(), torch.no_grad():
                model(token_batch)
        elif between == "no grad":
            with torch.no_grad():
                model(token_batch.flip(0), preferences=five_preferences.flip(0))
        elif between == "generate":
            model.eval()
            model.generate(input_ids=token_batch[:1], preferences=five_preferences[:1], max_new_tokens=1)
            model.train()
        else:
            with pytest.raises(ValueError, match=r"sums to 1\.1"):
                model(token_batch, preferences=torch.tensor([0.5, 0.6]))
        loss.backward()
    plain, other = checkpointed
    assert_same_gradients(gradients(other), gradients(plain))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_checkpointed_graphs_with_their_own_preferences(checkpointed, order, five_preferences, token_batch):
    """Two forwards at different λ, then both backwards, in either order."""
    for model in checkpointed:
        losses = [
            model(token_batch, preferences=five_preferences).logits.square().mean(),
            model(token_batch[:3], preferences=torch.tensor([0.3, 0.7])).logits.square().mean(),
        ]
        for index in order:
            losses[index].backward()
    plain, other = checkpointed
    assert_same_gradients(gradients(other), gradients(plain))


def test_checkpointed_backward_inside_disabled(checkpointed, five_preferences, token_batch):
    """Being disabled is a property of a forward, not of the backward of an earlier one."""
    for model in checkpointed:
        loss = model(token_batch, preferences=five_preferences).logits.square().mean()
        with model.disabled():
            loss.backward()
    plain, other = checkpointed
    assert_same_gradients(gradients(other), gradients(plain))


def test_checkpointing_switched_on_at_the_base(checkpointed, five_preferences, token_batch):
    """transformers' own switch must not bypass the protection; nor must a deep copy lose it."""
    plain, other = checkpointed
    switched = copy.deepcopy(plain)
    switched.base_model.gradient_checkpointing_enable()
    copied = copy.deepcopy(other)
    for model in (plain, switched, copied):
        loss = model(token_batch, preferences=five_preferences).logits.square().mean()
        with torch.no_grad():
            model(token_batch, preferences=five_preferences.flip(0))
            other(token_batch, preferences=torch.tensor([0.5, 0.5]))
        loss.backward()
    assert_same_gradients(gradients(switched), gradients(plain))
    assert_same_gradients(gradients(copied), gradients(plain))


def test_checkpoints_serve_several_backward_passes(checkpointed, five_preferences, token_batch):
    """Gradient weightings take the gradient of every loss from one graph, and then that of their weighted sum."""
    products = []
    for model in checkpointed:
        rows = model(token_batch, preferences=five_preferences).logits.square().mean(dim=(1, 2))
        products.append(gramians(rows[:4].view(2, 2), model.parameters()))
        rows.sum().backward()
    torch.testing.assert_close(products[1], products[0])
    assert_same_gradients(*map(gradients, checkpointed))


def test_checkpointed_gradients_do_not_read_a_changed_preference_tensor(checkpointed, five_preferences, token_batch):
    """A caller may reuse its λ buffer between forward and backward."""
    for model in checkpointed:
        preferences = five_preferences.clone()
        loss = model(token_batch, preferences=preferences).logits.square().mean()
        preferences.copy_(torch.tensor([0.5, 0.5]).expand(5, 2))
        loss.backward()
    plain, other = checkpointed
    fresh = copy.deepcopy(plain)
    fresh.zero_grad()
    fresh(token_batch, preferences=five_preferences).logits.square().mean().backward()
    for model in (plain, other):
        assert_same_gradients(gradients(model), gradients(fresh))


# Other threads.


def gradient_at(model: nn.Module, preferences: torch.Tensor) -> torch.Tensor:
    """The gradient of one loss, all in one vector."""
    loss = model(input_ids=IDS, preferences=preferences, use_cache=False).logits.square().mean()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)])


@pytest.fixture
def recomputing(make_llama):
    """An adapted model in training mode that recomputes its activations."""
    model = conditioned(make_llama()).train()
    model.gradient_checkpointing_enable()
    return model


def test_backward_passes_of_several_threads(recomputing):
    expected = [gradient_at(recomputing, row) for row in ROW_PREFERENCES]
    assert not torch.allclose(expected[0], expected[2], atol=0.1 * expected[0].abs().max())
    with ThreadPoolExecutor(3) as threads:
        gradients = list(threads.map(partial(gradient_at, recomputing), ROW_PREFERENCES.repeat(8, 1)))
    for index, gradient in enumerate(gradients):
        torch.testing.assert_close(gradient, expected[index % 3])


def test_forwards_of_other_threads_beside_backward_passes(recomputing):
    row = ROW_PREFERENCES[1]

    @torch.no_grad()
    def read(_: int) -> torch.Tensor:
        return logits_of_rows(recomputing, slice(None), preferences=row)

    @torch.no_grad()
    def read_base(_: int) -> torch.Tensor:
        with recomputing.disabled():
            return logits_of_rows(recomputing, slice(None))

    calls = (lambda _: gradient_at(recomputing, ROW_PREFERENCES[0]), read, read_base)
    expected = [call(0) for call in calls]
    with ThreadPoolExecutor(3) as threads:
        results = [list(results) for results in [threads.map(call, range(24)) for call in calls]]
    for own, of_call in zip(expected, results, strict=True):
        for result in of_call:
            torch.testing.assert_close(result, own)
    torch.testing.assert_close(read(0), expected[1])


# FiLM.


def test_film_recomputes_under_the_preferences_of_each_forward(make_llama):
    plain = FiLMModel(make_llama(), 2, train_base=False).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in plain.layers.values():
            for parameter in layer.conditioner.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    other = copy.deepcopy(plain)
    other.base_model.gradient_checkpointing_enable()
    for model in (plain, other):
        losses = [logits_of_rows(model, slice(None), preferences=row).square().mean() for row in ROW_PREFERENCES]
        sum(losses).backward()
    assert_same_gradients(gradients(other), gradients(plain))
