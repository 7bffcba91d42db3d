"""Kept activations of frozen blocks give what the whole model gives, and a model that they do not fit is refused."""

import pytest
import torch
from _tensors import DEVICE

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy
from mopref.llm.policy.frozen_layers import (
    check_frozen_layers,
    first_adapted_block,
    lower_hidden_states,
    skip_lower_layers,
)
from mopref.objectives import DPO

PROMPTS = [[5, 6, 7, 8, 9], [10, 11]]
RESPONSES = [[20, 21], [22, 23, 24, 25]]


@pytest.fixture
def model(make_llama, randomise):
    config = SVDLoRAConfig(objectives=("a", "b"), layers=(-1, -2))
    return randomise(PreferenceModel(make_llama(num_hidden_layers=4), config)).to(DEVICE)


@pytest.fixture
def sequences():
    return collate_sequences(PROMPTS, RESPONSES).to(DEVICE)


def test_first_adapted_block(model):
    assert first_adapted_block(model) == 2


def test_same_log_probabilities_and_gradients(model, sequences):
    preferences, policy = torch.tensor([[0.3, 0.7], [1.0, 0.0]], device=DEVICE), Policy(model)
    results = []
    for batch in (sequences, policy.with_lower_hidden_states(sequences)):
        model.zero_grad()
        values = policy.token_log_probabilities(batch, preferences)
        values.sum().backward()
        results.append((values.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    for first, second in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(first, second, atol=1e-4, rtol=1e-4)


def test_the_reference_and_what_the_head_sees_are_the_same_too(model, sequences):
    preferences, policy = torch.tensor([[0.3, 0.7], [1.0, 0.0]], device=DEVICE), Policy(model)
    with_states = policy.with_lower_hidden_states(sequences)
    reference = policy.reference_log_probabilities(sequences)
    torch.testing.assert_close(policy.reference_log_probabilities(with_states), reference, atol=1e-5, rtol=1e-5)
    outputs, expected = (policy.token_outputs(batch, preferences, True) for batch in (with_states, sequences))
    mask = sequences.response_mask
    torch.testing.assert_close(outputs.head_inputs[mask], expected.head_inputs[mask], atol=1e-4, rtol=1e-4)


def test_states_are_those_of_each_sequence_alone_and_0_where_padded(model, sequences):
    """One padded tensor; trimmed, each row is what the blocks make of it without padding."""
    states = lower_hidden_states(model, sequences)
    assert states.shape == (2, 9, 64)
    assert not states.requires_grad
    assert (states[sequences.attention_mask == 0] == 0).all()
    trimmed = sequences._replace(lower_hidden_states=states).unpadded_hidden_states()
    blocks = model.base_model.model
    for prompt, response, row in zip(PROMPTS, RESPONSES, trimmed, strict=True):
        seen = []
        handle = blocks.layers[2].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with model.disabled(), torch.no_grad():
            model(torch.tensor([prompt + response], device=DEVICE))
        handle.remove()
        torch.testing.assert_close(row, seen[0][0], atol=1e-5, rtol=1e-5)


def test_states_that_were_trimmed_and_collated_again_are_the_same(model, sequences):
    """As data rows keep them: from other neighbours, with other padding."""
    trimmed = Policy(model).with_lower_hidden_states(sequences).unpadded_hidden_states()
    prompts, responses = [*PROMPTS, [12]], [*RESPONSES, [13] * 8]
    third = Policy(model).with_lower_hidden_states(collate_sequences([[12]], [[13] * 8]).to(DEVICE))
    again = collate_sequences(prompts, responses, [*trimmed, *third.unpadded_hidden_states()]).to(DEVICE)
    expected = lower_hidden_states(model, collate_sequences(prompts, responses).to(DEVICE))
    torch.testing.assert_close(again.lower_hidden_states, expected, atol=1e-5, rtol=1e-5)


def test_lower_blocks_are_not_run(model, sequences):
    with_states = Policy(model).with_lower_hidden_states(sequences)
    ran = []
    for index, block in enumerate(model.base_model.model.layers):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    Policy(model).token_log_probabilities(with_states, torch.tensor([[0.5, 0.5]], device=DEVICE))
    assert ran == [2, 3]


def test_model_is_whole_again_after_an_error(model):
    norm = model.base_model.model.norm
    with pytest.raises(RuntimeError, match="inside"), skip_lower_layers(model):
        raise RuntimeError("inside")
    assert len(model.base_model.model.layers) == 4
    with pytest.raises(IndexError, match="out of range"):
        lower_hidden_states(model, collate_sequences([[999]], [[1]]).to(DEVICE))
    assert len(model.base_model.model.layers) == 4
    assert model.base_model.model.norm is norm


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
        check_frozen_layers(model, Policy(model).with_lower_hidden_states(sequences))
    with pytest.raises(ValueError, match="frozen_layers off"):
        Policy(model).check_frozen_layers(sequences)
    row = {"prompt_ids": [5, 6], "response_0_ids": [7], "response_1_ids": [8, 9], "labels": [0, 1]}
    with pytest.raises(ValueError, match="frozen_layers off"):
        DPO(("a", "b")).precompute(model, [row], frozen_layers=True)


def test_a_model_that_fits_passes(model, sequences):
    model.train()
    Policy(model).check_frozen_layers(sequences)
    assert model.training


@pytest.mark.parametrize("row", [0, 1])
def test_the_longest_sequence_is_compared(row, model):
    """Guards the test above: other states are noticed there, and only there."""
    prompts, responses = [[5, 6], [10, 11, 12]], [[20, 21], [22, 23, 24, 25]]
    if row == 0:
        prompts, responses = prompts[::-1], responses[::-1]
    with_states = Policy(model).with_lower_hidden_states(collate_sequences(prompts, responses).to(DEVICE))
    for changed in (0, 1):
        states = with_states.lower_hidden_states.clone()
        states[changed] = states[changed].flip(0)
        other = with_states._replace(lower_hidden_states=states)
        if changed == row:
            with pytest.raises(ValueError, match="gives other logits from kept activations"):
                check_frozen_layers(model, other)
        else:
            check_frozen_layers(model, other)


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
