"""Policy: the naive log-probability whatever the padding and the neighbours, the reference, and what it unwraps."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from _tensors import DEVICE
from policy_inputs import naive_log_probability
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


class Wrapped(nn.Module):
    """As accelerate wraps a model for a distributed run: the model is its ``module``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments, **options):
        return self.module(*arguments, **options)


@pytest.fixture
def base(make_lm) -> nn.Module:
    return make_lm().to(DEVICE)


@pytest.fixture
def model(model) -> PreferenceModel:
    return model.to(DEVICE)


@pytest.fixture
def preferences(five_preferences) -> torch.Tensor:
    return five_preferences.to(DEVICE)


def collated(prompts, responses):
    return collate_sequences(prompts, responses).to(DEVICE)


def naive_values(model, prompts, responses, **options) -> torch.Tensor:
    pairs = zip(prompts, responses, strict=True)
    return torch.stack([naive_log_probability(model, prompt, response, **options) for prompt, response in pairs])


# Log-probabilities of a model without preferences.


@torch.no_grad()
def test_equals_the_naive_computation(base, prompts, responses):
    policy, sequences = Policy(base), collated(prompts, responses)
    values = policy.sequence_log_probabilities(sequences)
    assert values.shape == (5,)
    torch.testing.assert_close(values, naive_values(base, prompts, responses), **TOLERANCE)
    assert (values < -1).all()
    tokens = policy.token_log_probabilities(sequences)
    assert tokens.shape == sequences.response_mask.shape
    torch.testing.assert_close(tokens.sum(dim=1), values)
    assert (tokens[~sequences.response_mask] == 0).all()
    assert (tokens[sequences.response_mask] < 0).all()


@torch.no_grad()
def test_float64(base, prompts, responses):
    values = Policy(base.double()).sequence_log_probabilities(collated(prompts, responses))
    assert values.dtype == torch.float64
    torch.testing.assert_close(values, naive_values(base, prompts, responses), atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_neighbours_do_not_matter(base, prompts, responses):
    policy = Policy(base)
    together = policy.sequence_log_probabilities(collated(prompts, responses))
    for i in range(5):
        alone = policy.sequence_log_probabilities(collated(prompts[i : i + 1], responses[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, **TOLERANCE)
    order = [3, 0, 4, 2, 1]
    permuted = collated([prompts[i] for i in order], [responses[i] for i in order])
    torch.testing.assert_close(policy.sequence_log_probabilities(permuted), together[order], **TOLERANCE)


@torch.no_grad()
def test_padding_tokens_do_not_matter(base, prompts, responses):
    policy, sequences = Policy(base), collated(prompts, responses)
    expected = policy.sequence_log_probabilities(sequences)
    ids = torch.where(sequences.attention_mask.bool(), sequences.input_ids, 57)
    assert not torch.equal(ids, sequences.input_ids)
    values = policy.sequence_log_probabilities(sequences._replace(input_ids=ids))
    torch.testing.assert_close(values, expected, **TOLERANCE)


@torch.no_grad()
def test_prompt_tokens_are_not_counted(base, prompts, responses):
    """Moving tokens from the response to the prompt takes their log-probability away, and nothing else."""
    prompt, response = prompts[2], responses[2]
    sequences = collated([prompt, prompt + response[:3]], [response, response[3:]])
    all_tokens, tail = Policy(base).sequence_log_probabilities(sequences)
    head = naive_log_probability(base, prompt, response[:3])
    torch.testing.assert_close(all_tokens - tail, head, **TOLERANCE)


@torch.no_grad()
def test_the_distribution_over_one_token_responses_sums_to_one(base):
    values = Policy(base).sequence_log_probabilities(collated([[5, 6, 7]] * 100, [[t] for t in range(100)]))
    assert values.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_gradient_equals_the_naive_one(base, prompts, responses):
    weights = torch.linspace(-1, 1, 5, device=DEVICE)
    (weights * Policy(base).sequence_log_probabilities(collated(prompts, responses))).sum().backward()
    actual = {name: parameter.grad.clone() for name, parameter in base.named_parameters()}
    base.zero_grad()
    (weights * naive_values(base, prompts, responses)).sum().backward()
    scale = max(parameter.grad.abs().max().item() for parameter in base.parameters())
    for name, parameter in base.named_parameters():
        torch.testing.assert_close(actual[name], parameter.grad, atol=1e-5 * scale, rtol=1e-4)


def test_no_logits_for_prompt_tokens(base):
    """The head sees R + 1 columns however long the prompts are: no full-vocabulary tensor for them."""
    seen = []
    base.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[:2])))
    Policy(base).sequence_log_probabilities(collated([[5] * 30, [6] * 3], [[7, 8, 9, 10], [11]]))
    assert seen == [(2, 5)]


# Preferences, and the distribution that is sampled from.


@torch.no_grad()
def test_every_row_is_under_its_own_preference(model, prompts, responses, preferences):
    policy, sequences = Policy(model), collated(prompts, responses)
    values = policy.sequence_log_probabilities(sequences, preferences)
    triples = zip(prompts, responses, preferences, strict=True)
    expected = [naive_log_probability(model, prompt, response, preferences=row) for prompt, response, row in triples]
    torch.testing.assert_close(values, torch.stack(expected), **TOLERANCE)
    assert (policy.sequence_log_probabilities(sequences, preferences.flip(0)) - values).abs().max() > 0.1
    one = policy.sequence_log_probabilities(sequences, preferences[1:2])
    torch.testing.assert_close(one, naive_values(model, prompts, responses, preferences=preferences[1]), **TOLERANCE)


def test_a_preference_is_needed(model, prompts, responses):
    with pytest.raises(ValueError, match="preferences are missing"):
        Policy(model).token_log_probabilities(collated(prompts, responses))


@torch.no_grad()
def test_temperature_and_forbidden_stop_tokens_by_the_loop(model, prompts, responses, preferences):
    """Softmax of logits over the temperature, in the first two places without the stop tokens."""
    sampling = Sampling(max_new_tokens=8, min_new_tokens=2, temperature=1.7, stop_token_ids=(5, 60))
    responses = [[token + 1 if token in (5, 60) else token for token in response] for response in responses]
    responses[2][2:4] = [5, 60]
    values = Policy(model, sampling).token_log_probabilities(collated(prompts, responses), preferences)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        tokens = torch.tensor([prompt + response], device=DEVICE)
        logits = model(tokens, preferences=preferences[row]).logits[0, len(prompt) - 1 : -1] / 1.7
        logits[:2, [5, 60]] = -torch.inf
        expected = logits.log_softmax(-1)[range(len(response)), response]
        torch.testing.assert_close(values[row, : len(response)], expected, **TOLERANCE)
    plain = Policy(model).token_log_probabilities(collated(prompts, responses), preferences)
    assert (plain - values).abs().max() > 0.1


@torch.no_grad()
def test_head_inputs_are_what_the_head_sees_where_it_predicts(model, prompts, responses, preferences):
    sequences = collated(prompts, responses)
    outputs = Policy(model).token_outputs(sequences, preferences, with_head_inputs=True)
    assert outputs.head_inputs.shape == (*sequences.response_mask.shape, 64)
    logits = model.base_model.get_output_embeddings()(outputs.head_inputs)
    values = logits.log_softmax(-1).gather(-1, sequences.targets.unsqueeze(-1)).squeeze(-1)
    expected = torch.where(sequences.response_mask, values, 0.0)
    torch.testing.assert_close(outputs.log_probabilities, expected, **TOLERANCE)
    assert Policy(model).token_outputs(sequences, preferences).head_inputs is None


def test_head_inputs_need_a_named_head(prompts, responses):
    class Headless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, input_ids):
            raise AssertionError("it is refused before it runs")

    with pytest.raises(ValueError, match="Headless does not name its output head"):
        Policy(Headless()).token_outputs(collate_sequences(prompts, responses), None, with_head_inputs=True)


# The reference.


@torch.no_grad()
def test_the_reference_is_the_base_model(model, base, prompts, responses, preferences):
    sequences = collated(prompts, responses)
    sampling = Sampling(temperature=0.7, stop_token_ids=())
    for settings in (None, sampling):
        values = Policy(model, settings).reference_log_probabilities(sequences)
        torch.testing.assert_close(values, Policy(base, settings).token_log_probabilities(sequences), **TOLERANCE)
        assert (Policy(model, settings).token_log_probabilities(sequences, preferences) - values).abs().max() > 0.1


def test_the_reference_drops_nothing_keeps_no_graph_and_leaves_the_model_as_it_was(make_gpt2, prompts, responses):
    base = make_gpt2(resid_pdrop=0.4, embd_pdrop=0.4).train()
    model = PreferenceModel(copy.deepcopy(base), SVDLoRAConfig(objectives=("a", "b"))).train()
    sequences = collate_sequences(prompts, responses)
    values = Policy(model).reference_log_probabilities(sequences)
    assert not values.requires_grad
    torch.testing.assert_close(values, Policy(base.eval()).token_log_probabilities(sequences), **TOLERANCE)
    assert model.training
    assert model.base_model.training
    assert model.state.enabled


def test_within_reference_the_policy_needs_no_preference(model, prompts, responses, preferences):
    policy, sequences = Policy(model, Sampling(temperature=2.0, stop_token_ids=())), collated(prompts, responses)
    with policy.reference() as reference:
        values = reference.token_log_probabilities(sequences)
        assert reference.sampling == policy.sampling
    torch.testing.assert_close(values, policy.reference_log_probabilities(sequences))
    with pytest.raises(RuntimeError, match="inside"), policy.reference():
        raise RuntimeError("inside")
    assert policy.token_log_probabilities(sequences, preferences).requires_grad, "the adapters are in force again"


# What is wrapped, and what is refused.


@torch.no_grad()
def test_a_wrapped_model_is_run_whole_and_unwrapped_for_the_rest(model, prompts, responses, preferences):
    sequences = collated(prompts, responses)
    wrapped = Wrapped(Wrapped(model))
    policy, calls = Policy(wrapped), []
    wrapped.register_forward_pre_hook(lambda *_: calls.append(1))
    values = policy.token_log_probabilities(sequences, preferences)
    assert calls == [1], "the forward that gradients come from goes through the wrapper"
    torch.testing.assert_close(values, Policy(model).token_log_probabilities(sequences, preferences))
    reference = Policy(model).reference_log_probabilities(sequences)
    torch.testing.assert_close(policy.reference_log_probabilities(sequences), reference)
    assert calls == [1], "the reference does without it"
    assert policy.conditioned is model
    assert policy.hidden_size == 64
    assert policy.device.type == DEVICE.type


@torch.no_grad()
def test_a_compiled_model_is_found_and_run_as_it_is(make_llama, randomise, prompts, responses, preferences):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b")))).eval()
    sequences, preferences = collate_sequences(prompts, responses), preferences.cpu()
    expected = Policy(model).token_log_probabilities(sequences, preferences)
    reference = Policy(model).reference_log_probabilities(sequences)
    compiled = torch.compile(model, backend="eager")
    for wrapped in (compiled, Wrapped(compiled), torch.compile(Wrapped(model), backend="eager")):
        policy = Policy(wrapped)
        assert policy.conditioned is model
        assert policy.model is wrapped
        torch.testing.assert_close(policy.reference_log_probabilities(sequences), reference)
    torch.testing.assert_close(Policy(compiled).token_log_probabilities(sequences, preferences), expected)


def test_in_a_compiled_plain_model_there_is_no_preference_model(make_llama):
    with pytest.raises(TypeError, match="need a PreferenceModel"):
        _ = Policy(torch.compile(make_llama(), backend="eager")).conditioned


@pytest.mark.parametrize(
    "use",
    [
        lambda policy, sequences: policy.reference_log_probabilities(sequences),
        lambda policy, sequences: policy.sample([[3]], None, 1),
        lambda policy, sequences: policy.with_lower_hidden_states(sequences),
        lambda policy, sequences: policy.check_frozen_layers(sequences),
        lambda policy, sequences: policy.companion("critic"),
        lambda policy, sequences: policy.hidden_size,
        lambda policy, sequences: policy.without_dropout().__enter__(),
    ],
    ids=["reference", "sample", "lower states", "check", "companion", "hidden size", "dropout"],
)
def test_a_plain_model_gives_log_probabilities_and_nothing_else(use, base, prompts, responses):
    sequences = collated(prompts, responses)
    assert Policy(base).sequence_log_probabilities(sequences).shape == (5,)
    with pytest.raises(TypeError, match=rf"need a PreferenceModel.*a {type(base).__name__}: wrap it as Pref"):
        use(Policy(base), sequences)


# Dropout, and parts that are trained with the model.


def test_without_dropout(make_gpt2, prompts, responses, preferences):
    base = make_gpt2(resid_pdrop=0.4)
    model = PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b"))).train()
    policy, sequences = Policy(model), collate_sequences(prompts, responses)
    preferences = preferences.cpu()
    with policy.without_dropout():
        first, second = (policy.token_log_probabilities(sequences, preferences) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
    assert not torch.equal(policy.token_log_probabilities(sequences, preferences), first)


def test_where_activations_are_checkpointed_the_mode_stays(make_llama):
    """Transformers recomputes activations in training mode only."""
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))).train()
    model.gradient_checkpointing_enable()
    with Policy(model).without_dropout():
        assert model.base_model.training


def test_companions_are_trained_moved_and_checkpointed_with_the_model(model):
    policy = Policy(Wrapped(model))
    assert policy.companion("critic") is None
    before = len(list(model.parameters()))
    part = nn.Linear(3, 2)
    policy.add_companion("critic", part)
    assert policy.companion("critic") is part
    assert Policy(model).companion("critic") is part
    assert part.weight.device.type == DEVICE.type
    assert len(list(model.parameters())) == before + 2
    assert "companions.critic.weight" in model.state_dict()
    assert policy.companion("value") is None


def test_what_is_put_into_the_model_for_one_thread_is_not_seen_by_another(make_llama, randomise):
    """Kept activations, the watched head, sampling settings and the reference, side by side in four threads."""
    config = SVDLoRAConfig(objectives=("a", "b"), layers=(-1,))
    model = randomise(PreferenceModel(make_llama(num_hidden_layers=2), config))
    policy, preferences = Policy(model, Sampling(max_new_tokens=3, stop_token_ids=())), torch.tensor([[0.3, 0.7]])
    sequences = collate_sequences([[5, 6, 7], [10, 11]], [[20, 21], [22, 23]])
    kept = policy.with_lower_hidden_states(collate_sequences([[9, 8, 7], [4]], [[20, 21], [22, 23]]))

    def rolled_out() -> torch.Tensor:
        responses = policy.sample([[5, 6], [7]], preferences, 1, with_head_inputs=True)
        assert responses.outputs.head_inputs.shape[:2] == (2, 3)
        return torch.tensor(0)

    calls = [
        lambda: policy.token_log_probabilities(kept, preferences),
        lambda: policy.token_log_probabilities(sequences, preferences),
        lambda: policy.token_outputs(sequences, preferences, with_head_inputs=True).head_inputs,
        lambda: policy.reference_log_probabilities(sequences),
        rolled_out,
    ]
    with torch.no_grad():
        expected = [call() for call in calls]

        def differs(index: int) -> bool:
            with torch.no_grad():
                return not torch.allclose(calls[index % 5](), expected[index % 5], atol=1e-5)

        with ThreadPoolExecutor(4) as threads:
            assert not any(threads.map(differs, range(100)))
    assert model.training
