"""Kept activations of frozen blocks give what the whole model gives, and a model that they do not fit is refused."""

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy.frozen_layers import (
    check_frozen_layers,
    first_adapted_block,
    lower_hidden_states,
    skip_lower_layers,
)
from mopref.llm.policy.log_probabilities import collate_sequences, token_log_probabilities
from mopref.objectives import DPO

PROMPTS = [[5, 6, 7, 8, 9], [10, 11]]
RESPONSES = [[20, 21], [22, 23, 24, 25]]


@pytest.fixture
def model(make_llama, randomise):
    config = SVDLoRAConfig(objectives=("a", "b"), layers=(-1, -2))
    return randomise(PreferenceModel(make_llama(num_hidden_layers=4), config))


def test_first_adapted_block(model):
    assert first_adapted_block(model) == 2


def test_same_log_probabilities_and_gradients(model):
    preferences = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    whole = collate_sequences(PROMPTS, RESPONSES)
    kept = collate_sequences(PROMPTS, RESPONSES, lower_hidden_states(model, whole))
    results = []
    for sequences in (whole, kept):
        model.zero_grad()
        values = token_log_probabilities(model, sequences, preferences=preferences)
        values.sum().backward()
        results.append((values.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    for first, second in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(first, second, atol=1e-4, rtol=1e-4)


def test_lower_blocks_are_not_run(model):
    sequences = collate_sequences(PROMPTS, RESPONSES)
    kept = collate_sequences(PROMPTS, RESPONSES, lower_hidden_states(model, sequences))
    ran = []
    for index, block in enumerate(model.base_model.model.layers):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    token_log_probabilities(model, kept, preferences=[0.5, 0.5])
    assert ran == [2, 3]


def test_model_is_whole_again_after_an_error(model):
    with pytest.raises(RuntimeError, match="inside"), skip_lower_layers(model):
        raise RuntimeError("inside")
    assert len(model.base_model.model.layers) == 4


def test_a_model_that_treats_embeddings_its_own_way_is_refused(make_llama):
    model = PreferenceModel(make_llama(num_hidden_layers=3), SVDLoRAConfig(objectives=("a", "b"), layers=(-1,)))
    # As in Gemma, where embeddings are scaled on entry.
    model.base_model.model.register_forward_pre_hook(
        lambda _, args, kwargs: (
            (args, {**kwargs, "inputs_embeds": 2 * kwargs["inputs_embeds"]})
            if kwargs.get("inputs_embeds") is not None
            else (args, kwargs)
        ),
        with_kwargs=True,
    )
    sequences = collate_sequences(PROMPTS, RESPONSES)
    with pytest.raises(ValueError, match="frozen_layers off"):
        check_frozen_layers(model, sequences, lower_hidden_states(model, sequences))
    row = {"prompt_ids": [5, 6], "response_0_ids": [7], "response_1_ids": [8, 9], "labels": [0, 1]}
    with pytest.raises(ValueError, match="frozen_layers off"):
        DPO(("a", "b")).precompute(model, [row], frozen_layers=True)


def test_gpt2_has_no_such_stack(make_gpt2):
    model = PreferenceModel(make_gpt2(), SVDLoRAConfig(objectives=("a", "b"), layers=(-1,)))
    row = {"prompt_ids": [5], "response_0_ids": [6], "response_1_ids": [7], "labels": [0, 1]}
    with pytest.raises(ValueError, match="frozen_layers off"):
        DPO(("a", "b")).precompute(model, [row], frozen_layers=True)


def test_adapters_outside_the_blocks_are_refused(make_llama):
    config = SVDLoRAConfig(objectives=("a",), target_modules=("lm_head", "q_proj"))
    model = PreferenceModel(make_llama(tie_word_embeddings=False), config)
    with pytest.raises(ValueError, match="lm_head"):
        first_adapted_block(model)
