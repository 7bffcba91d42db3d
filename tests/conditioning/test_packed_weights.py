"""Packed weights: generation makes the same tokens with them, the model is left as it was, and no old one is used."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning import packed_weights
from mopref.conditioning.packed_weights import PackedWeights, packed_product
from mopref.llm.policy import Sampling
from mopref.llm.policy.generation import sample_responses

pytestmark = pytest.mark.skipif(not packed_weights._is_available(), reason="this PyTorch has no oneDNN")

CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2, scaling=0.5)
PREFERENCES = torch.tensor([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]])
GREEDY = {"max_new_tokens": 6, "do_sample": False}


@pytest.fixture
def model(make_llama, randomise):
    return randomise(PreferenceModel(make_llama(eos_token_id=None), CONFIG), std=0.4).eval()


@pytest.fixture
def prompts() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 100, (3, 4), generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture
def packed_products(monkeypatch) -> list[tuple[int, ...]]:
    """The shape of each packed weight that was multiplied with, in order."""
    shapes: list[tuple[int, ...]] = []

    def counted(x, packed, bias):
        shapes.append(tuple(packed.shape))
        return packed_product(x, packed, bias)

    monkeypatch.setattr(packed_weights, "packed_product", counted)
    monkeypatch.setattr("mopref.conditioning.svd_lora.packed_product", counted)
    return shapes


def as_it_was(model) -> bool:
    """Whether nothing of packed weights is left at a model."""
    forwards = [module for module in model.modules() if "forward" in vars(module)]
    return forwards == [] and model.state.packed_weights is None and model.state.products == {}


def test_a_packed_product_is_the_plain_one():
    """x Wᵀ + b by hand, for one row, several and none, and for an input with gaps in memory."""
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    layer.requires_grad_(False)
    packed, bias = PackedWeights(layer).of(layer), torch.tensor([0.5, 0.0, -1.0])
    assert packed_product(torch.tensor([1.0, 10.0]), packed, bias).tolist() == [21.5, 43.0, 64.0]
    x = torch.tensor([[[1.0, 7.0, 10.0, 7.0]], [[0.0, 7.0, -1.0, 7.0]]])[..., ::2]
    assert packed_product(x, packed, None).tolist() == [[[21.0, 43.0, 65.0]], [[-2.0, -4.0, -6.0]]]
    assert packed_product(torch.zeros(0, 2), packed, bias).shape == (0, 3)


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 2}, {"do_sample": True, "top_k": 1, "num_return_sequences": 2}], ids=str
)
def test_generation_makes_the_same_tokens(model, prompts, packed_products, options):
    plain = model.generate(**prompts, preferences=PREFERENCES, **{**GREEDY, **options})
    assert packed_products == []
    with model.packed_weights() as same:
        assert same is model
        for _ in range(2):
            assert torch.equal(model.generate(**prompts, preferences=PREFERENCES, **{**GREEDY, **options}), plain)
        # Every layer at every token, the output head too, and each weight is there once.
        assert len(packed_products) == 2 * GREEDY["max_new_tokens"] * (len(model.adapters) + 1)
        copied = sum(layer.base_layer.weight.nbytes for layer in model.adapters.values())
        assert model.state.packed_weights.num_bytes == copied + model.base_model.lm_head.weight.nbytes
    assert as_it_was(model)
    assert torch.equal(model.generate(**prompts, preferences=PREFERENCES, **GREEDY), plain) or options


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_outputs_are_the_same_up_to_rounding(randomise, rows, bias):
    model = randomise(PreferenceModel(nn.Sequential(nn.Linear(33, 17, bias=bias), nn.Tanh(), nn.Linear(17, 5)), CONFIG))
    x = torch.randn(rows, 33, generator=torch.Generator().manual_seed(rows))
    preferences = torch.rand(rows, 2, generator=torch.Generator().manual_seed(1))
    preferences /= preferences.sum(1, keepdim=True)
    with torch.no_grad():
        expected = model(x, preferences=preferences)
        with model.packed_weights(), model.decoding(preferences, rows) as base:
            for _ in range(2):
                torch.testing.assert_close(base(x), expected, atol=1e-5, rtol=1e-5)


def test_log_probabilities_of_the_next_tokens_are_the_same(model, prompts):
    def all_logits():
        options = {"output_logits": True, "return_dict_in_generate": True}
        return torch.stack(model.generate(**prompts, preferences=PREFERENCES, **GREEDY, **options).logits)

    plain = all_logits().log_softmax(-1)
    with model.packed_weights():
        packed = all_logits().log_softmax(-1)
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)


def test_responses_are_sampled_with_them(model, packed_products):
    settings, ids = Sampling(max_new_tokens=4, stop_token_ids=()), [[3, 4, 5], [6, 7, 8]]
    plain = sample_responses(model, ids, PREFERENCES[:2], settings, greedy=True)
    with model.packed_weights():
        assert sample_responses(model, ids, PREFERENCES[:2], settings, greedy=True) == plain
    assert packed_products


def test_only_generation_takes_them(model, token_batch, packed_products):
    """A forward within the block is the one before it, bit for bit, with a gradient and without."""
    with torch.no_grad():
        expected = model(token_batch, preferences=[0.5, 0.5]).logits
        with model.packed_weights():
            assert torch.equal(model(token_batch, preferences=[0.5, 0.5]).logits, expected)
    with model.packed_weights(), model.decoding([0.5, 0.5], len(token_batch)) as base:
        base(token_batch).logits.sum().backward()
    assert all(layer.U.grad is not None for layer in model.adapters.values())
    assert packed_products == []


def changed_in_place(layer):
    with torch.no_grad():
        layer.weight *= -2


def changed_parameter(layer):
    layer.weight = nn.Parameter(-2 * layer.weight, requires_grad=False)


def changed_memory(layer):
    layer.weight.data = -2 * layer.weight.data


def loaded(layer):
    layer.load_state_dict({name: -2 * tensor for name, tensor in layer.state_dict().items()})


def trained(layer):
    layer.requires_grad_(True)
    layer.weight.grad = 3 * layer.weight.detach()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()


@pytest.mark.parametrize("change", [changed_in_place, changed_parameter, changed_memory, loaded, trained])
@pytest.mark.parametrize("part", ["adapted", "head"])
def test_a_weight_that_changes_is_seen_by_the_next_call(model, prompts, change, part):
    layers = (
        [layer.base_layer for layer in model.adapters.values()] if part == "adapted" else [model.base_model.lm_head]
    )
    with model.packed_weights():
        before = model.generate(**prompts, preferences=PREFERENCES, **GREEDY)
        for layer in layers:
            change(layer)
        after = model.generate(**prompts, preferences=PREFERENCES, **GREEDY)
    assert torch.equal(after, model.generate(**prompts, preferences=PREFERENCES, **GREEDY))
    assert not torch.equal(after, before), "the test would be vacuous if the change had no effect"


def test_an_error_leaves_the_model_as_it_was(model, prompts):
    plain = model.generate(**prompts, preferences=PREFERENCES, **GREEDY)

    def fail(ids, scores):
        assert "forward" in vars(model.base_model.lm_head), "the test would be vacuous if nothing were replaced"
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"), model.packed_weights():
        model.generate(**prompts, preferences=PREFERENCES, logits_processor=[fail], **GREEDY)
    assert as_it_was(model)
    assert torch.equal(model.generate(**prompts, preferences=PREFERENCES, **GREEDY), plain)


def test_blocks_within_each_other_share_their_copies(model, prompts):
    with model.packed_weights():
        outer = model.state.packed_weights
        with model.packed_weights():
            assert model.state.packed_weights is outer
        assert model.state.packed_weights is outer
    assert as_it_was(model)


def test_copies_of_the_model_have_none(model, prompts):
    """A copy that is made while a token is chosen, a merged one and a pickled one: each goes by its own weights."""
    made = []

    def copied(ids, scores):
        made[:] = [copy.deepcopy(model)]
        return scores

    with model.packed_weights():
        plain = model.generate(**prompts, preferences=PREFERENCES, logits_processor=[copied], **GREEDY)
        made += [pickle.loads(pickle.dumps(model)), model.merge([0.4, 0.6])]
    with torch.no_grad():
        model.base_model.lm_head.weight *= -2
    for one in made[:2]:
        assert one.state.packed_weights is None
        assert torch.equal(one.generate(**prompts, preferences=PREFERENCES, **GREEDY), plain)
    assert torch.equal(made[2].generate(**prompts, **GREEDY)[1], plain[1])


@pytest.mark.parametrize("kind", ["trained", "half", "another class", "made in inference mode", "a forward of its own"])
def test_other_weights_are_taken_as_they_are(kind, packed_products):
    layer = nn.Linear(4, 3).requires_grad_(False)
    if kind == "trained":
        layer.requires_grad_(True)
    elif kind == "half":
        layer.bfloat16()
    elif kind == "another class":
        layer = type("Own", (nn.Linear,), {})(4, 3).requires_grad_(False)
    elif kind == "made in inference mode":
        with torch.inference_mode():
            layer.weight = nn.Parameter(torch.ones(3, 4), requires_grad=False)
    elif kind == "a forward of its own":
        layer.forward = lambda x: x + 7
    network = nn.Sequential(layer, nn.Linear(3, 2).requires_grad_(False))
    x = torch.ones(2, 4, dtype=layer.weight.dtype)
    packed = PackedWeights(network)
    with torch.no_grad():
        expected = layer(x)
        with packed.in_place():
            assert torch.equal(layer(x), expected)
            assert packed_products == []
            network[1](torch.ones(2, 3))
            assert packed_products == [(2, 3)]


def test_another_input_goes_the_plain_way(packed_products):
    layer = nn.Linear(4, 3).requires_grad_(False)
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    with PackedWeights(layer).in_place():
        layer(x)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert packed_products == []


@pytest.mark.parametrize("reason", ["none to pack", "no oneDNN"])
def test_what_cannot_pack_is_refused_and_left_alone(model, reason, monkeypatch):
    if reason == "no oneDNN":
        monkeypatch.setattr(packed_weights, "_is_available", lambda: False)
    else:
        model.base_model.bfloat16()
    match = "LlamaForCausalLM has no weight to pack" if reason == "none to pack" else "has no oneDNN"
    with pytest.raises(ValueError, match=match), model.packed_weights():
        pass
    assert as_it_was(model)
