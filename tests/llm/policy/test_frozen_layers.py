"""Kept activations of frozen blocks give what the whole model gives, and a model that they do not fit is refused."""

import pytest
import torch
from _tensors import DEVICE
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MptConfig,
    MptForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy
from mopref.llm.policy.frozen_layers import (
    check_frozen_layers,
    first_adapted_block,
    lower_hidden_states,
    skip_lower_layers,
)
from mopref.mixed_precision import autocast
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
    Policy(model).token_log_probabilities(with_states, torch.tensor([[0.5, 0.5]], device=DEVICE))
    ran = []
    for index, block in enumerate(model.base_model.model.layers):
        block.self_attn.register_forward_hook(lambda *_, index=index: ran.append(index))
    Policy(model).token_log_probabilities(with_states, torch.tensor([[0.5, 0.5]], device=DEVICE))
    assert ran == [2, 3]


def test_model_is_whole_again_after_an_error(model, sequences):
    preferences = torch.tensor([[0.5, 0.5]], device=DEVICE)
    expected = Policy(model).token_log_probabilities(sequences, preferences)
    states = lower_hidden_states(model, sequences)
    with pytest.raises(RuntimeError, match="inside"), skip_lower_layers(model, states):
        raise RuntimeError("inside")
    with pytest.raises(IndexError, match="out of range"):
        lower_hidden_states(model, collate_sequences([[999]], [[1]]).to(DEVICE))
    assert all("forward" not in vars(block) for block in model.base_model.model.layers)
    assert torch.equal(Policy(model).token_log_probabilities(sequences, preferences), expected)


def _mixed_attention():
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "full_attention"]
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, **heads, use_sliding_window=True, sliding_window=8, layer_types=kinds))


def _scaled_embeddings():
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 8}
    return Gemma2ForCausalLM(Gemma2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, sliding_window=8))


def _learned_positions():
    return GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=32, n_layer=4, n_head=4, n_positions=64))


def _blocks_that_return_tuples():
    return MptForCausalLM(MptConfig(vocab_size=97, d_model=32, n_layers=4, n_heads=4, max_seq_len=64))


@pytest.mark.parametrize(
    "make",
    [_mixed_attention, _scaled_embeddings, _learned_positions, _blocks_that_return_tuples],
    ids=lambda f: f.__name__,
)
def test_what_a_model_does_around_its_blocks_stays_in_use(make):
    """Also on rows longer than a sliding window, where the mask of another block would show."""
    torch.manual_seed(0)
    base = make().eval()
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(3)
    model = PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b"), layers=(-2, -1)))
    generator = torch.Generator().manual_seed(0)
    sizes = [(3, 2, 2), (20, 12, 9)]
    draws = [[torch.randint(3, 97, (size,), generator=generator).tolist() for size in row] for row in sizes]
    rows = [dict(zip(("prompt_ids", "response_0_ids", "response_1_ids"), draw, strict=True)) for draw in draws]
    rows = [{**row, "labels": [0, 1]} for row in rows]
    objective = DPO(("a", "b"))
    for batch_size in (1, 2):
        kept, plain = (objective.precompute(model, rows, batch_size, frozen_layers=frozen) for frozen in (True, False))
        for first, second in zip(kept, plain, strict=True):
            pair = [torch.tensor(row["reference_log_probabilities"]) for row in (first, second)]
            torch.testing.assert_close(pair[0], pair[1], atol=1e-3, rtol=1e-5)
    batches = [objective.collate(data) for data in (kept, plain)]
    preferences = torch.tensor([[0.3, 0.7]]).expand(2, -1)
    margins = [objective.margins(model, batch, preferences) for batch in batches]
    torch.testing.assert_close(margins[0], margins[1], atol=1e-3, rtol=1e-4)


def test_upper_blocks_that_need_more_of_the_lower_ones_are_refused(model, sequences):
    """As where upper blocks read keys and values that lower ones computed."""
    layers = model.base_model.model.layers
    layers[0].register_forward_hook(lambda block, *_: setattr(layers[3], "seen", vars(block).get("forward") is None))

    def need(block, _):
        if not block.seen:
            raise KeyError("keys of block 0")

    layers[3].register_forward_pre_hook(need)
    with pytest.raises(
        ValueError, match=r"LlamaForCausalLM cannot be computed apart: its upper blocks .*frozen_layers off"
    ):
        Policy(model).check_frozen_layers(sequences)


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_rounding_in_mixed_precision_is_no_reason_to_refuse(model, sequences, mixed_precision):
    """Also where the outputs come in float32, as from a forward that accelerate prepared."""
    kept = Policy(model).with_lower_hidden_states(sequences)
    kept = kept._replace(lower_hidden_states=kept.lower_hidden_states * (1 + 2**-8))
    model.base_model.register_forward_hook(
        lambda module, inputs, output: setattr(output, "logits", output.logits.float())
    )
    with autocast(DEVICE, mixed_precision):
        if mixed_precision is None:
            with pytest.raises(ValueError, match="it gives other logits from kept activations"):
                check_frozen_layers(model, kept)
        else:
            check_frozen_layers(model, kept)


def test_without_frozen_blocks_there_is_nothing_to_keep(make_llama, sequences):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))).to(DEVICE)
    with pytest.raises(ValueError, match="the first block is adapted, so there is nothing below it to keep"):
        lower_hidden_states(model, sequences)


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


def test_adapters_outside_the_blocks_are_refused(make_llama):
    config = SVDLoRAConfig(objectives=("a",), target_modules=("lm_head", "q_proj"))
    model = PreferenceModel(make_llama(tie_word_embeddings=False), config)
    with pytest.raises(ValueError, match="lm_head"):
        first_adapted_block(model)
