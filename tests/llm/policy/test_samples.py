"""What a model said of each token when it drew it is what a forward on the finished sequences says of it."""

import copy
from contextlib import nullcontext

import pytest
import torch
from _tensors import DEVICE
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import Sequences, collate_sequences
from mopref.llm.policy import Policy, Response, Sampling, sample_responses
from mopref.llm.policy.samples import Samples, _TokenRecord, sample_with_outputs, watch_head

SAMPLES = 3
NEW = 7
ENDS = tuple(range(2, 12))
# What the recorded values promise; in float32 the two differ by some 2e-6.
TOLERANCE = {"atol": 1e-4, "rtol": 0}

SAMPLINGS = {
    "some end early": Sampling(max_new_tokens=NEW, stop_token_ids=ENDS),
    "tempered": Sampling(max_new_tokens=NEW, temperature=1.8, stop_token_ids=ENDS),
    "cold": Sampling(max_new_tokens=NEW, temperature=0.6, stop_token_ids=ENDS),
    "no early stop": Sampling(max_new_tokens=NEW, min_new_tokens=3, stop_token_ids=ENDS),
    "tempered, no early stop": Sampling(max_new_tokens=NEW, min_new_tokens=2, temperature=1.8, stop_token_ids=ENDS),
    "never stops early": Sampling(max_new_tokens=4, min_new_tokens=4, stop_token_ids=ENDS),
    "of a part of the vocabulary": Sampling(max_new_tokens=NEW, stop_token_ids=ENDS, vocabulary=(range(0, 60),)),
    "of a vocabulary with gaps": Sampling(
        max_new_tokens=NEW,
        min_new_tokens=2,
        temperature=1.4,
        stop_token_ids=(4, 7),
        vocabulary=(range(3, 9), range(30, 50)),
    ),
    "nothing stops": Sampling(max_new_tokens=4, stop_token_ids=()),
    "one token": Sampling(max_new_tokens=1, stop_token_ids=ENDS),
    # Log-probabilities are those before the tail is cut off.
    "nucleus": Sampling(max_new_tokens=NEW, temperature=1.3, top_p=0.8, stop_token_ids=ENDS),
    # Two of a hundred tokens go on.
    "all end soon": Sampling(max_new_tokens=50, stop_token_ids=tuple(range(98))),
}


@pytest.fixture
def model(model) -> PreferenceModel:
    return model.to(DEVICE)


def draw(model, prompts, preferences, sampling, samples=SAMPLES, with_head_inputs=False, seed=0) -> Samples:
    torch.manual_seed(seed)
    return Policy(model, sampling).sample(prompts, preferences, samples, with_head_inputs=with_head_inputs)


def finished_sequences(prompts, samples: Samples, count=SAMPLES) -> Sequences:
    repeated = [prompt for prompt in prompts for _ in range(count)]
    return collate_sequences(repeated, [response.ids for response in samples.responses]).to(DEVICE)


def assert_recorded(model, prompts, preferences, sampling, samples: Samples, count=SAMPLES, **tolerance) -> Sequences:
    """Each value equals that of a forward under the row's own preference; 0 after a response's end."""
    sequences = finished_sequences(prompts, samples, count)
    row_preferences = None if preferences is None else preferences.repeat_interleave(count, dim=0)
    with torch.no_grad():
        expected = Policy(model, sampling).token_log_probabilities(sequences, row_preferences)
    values = samples.outputs.log_probabilities
    torch.testing.assert_close(values, expected, check_dtype=False, **(tolerance or TOLERANCE))
    assert (values[~sequences.response_mask] == 0).all()
    assert (values[sequences.response_mask] < 0).all()
    assert not values.requires_grad
    return sequences


@pytest.mark.parametrize("name", SAMPLINGS)
def test_recorded_log_probabilities_are_those_of_a_forward(name, model, prompts, five_preferences):
    """λ of its own in every row, prompts padded on the left, several samples a prompt."""
    sampling, preferences = SAMPLINGS[name], five_preferences.to(DEVICE)
    samples = draw(model, prompts, preferences, sampling)
    assert len(samples.responses) == len(prompts) * SAMPLES
    sequences = assert_recorded(model, prompts, preferences, sampling, samples)
    assert samples.outputs.head_inputs is None
    lengths = {len(response.ids) for response in samples.responses}
    assert samples.outputs.log_probabilities.shape == (15, max(lengths))
    if name in ("some end early", "no early stop", "nucleus"):
        assert len(lengths) > 2, "some end early"
        assert NEW in lengths, "and some do not"
        assert not all(response.finished for response in samples.responses)
    if name == "all end soon":
        assert all(response.finished for response in samples.responses)
        assert max(lengths) < 50
    if sampling.vocabulary is not None:
        tokens = {token for response in samples.responses for token in response.ids}
        assert not tokens & {*sampling.absent_tokens(100)}
    if sampling.temperature != 1.0 or sampling.min_new_tokens or sampling.vocabulary is not None:
        with torch.no_grad():
            rows = preferences.repeat_interleave(SAMPLES, dim=0)
            plain = Policy(model).token_log_probabilities(sequences, rows)
        assert (plain - samples.outputs.log_probabilities).abs().max() > 0.01, "the settings matter"


def test_all_responses_may_end_at_once(model, prompts, five_preferences):
    """Every token stops: one column, of which only the responses tell which token was drawn."""
    sampling = Sampling(max_new_tokens=NEW, stop_token_ids=tuple(range(100)))
    samples = draw(model, prompts, five_preferences.to(DEVICE), sampling)
    assert samples.outputs.log_probabilities.shape == (15, 1)
    assert all(response.finished and len(response.ids) == 1 for response in samples.responses)
    assert_recorded(model, prompts, five_preferences.to(DEVICE), sampling, samples)


@pytest.mark.parametrize("count", [1, 4])
def test_one_preference_for_all_and_any_number_of_samples(count, model, prompts):
    sampling, preference = SAMPLINGS["tempered, no early stop"], torch.tensor([[0.3, 0.7]], device=DEVICE)
    samples = draw(model, prompts, preference, sampling, count)
    assert len(samples.responses) == 5 * count
    assert_recorded(model, prompts, preference.expand(5, -1), sampling, samples, count)


def test_the_order_of_preferences_and_samples_matters(model, prompts, five_preferences):
    """Guards the tests above: the preferences of other rows, or in the order of repeat, give other values."""
    preferences, sampling = five_preferences.to(DEVICE), SAMPLINGS["some end early"]
    samples = draw(model, prompts, preferences, sampling)
    sequences, values = finished_sequences(prompts, samples), samples.outputs.log_probabilities
    with torch.no_grad():
        for wrong in (preferences.flip(0).repeat_interleave(SAMPLES, 0), preferences.repeat(SAMPLES, 1)):
            other = Policy(model, sampling).token_log_probabilities(sequences, wrong)
            assert (other - values).abs().max() > 0.1


def test_recording_changes_nothing_of_what_is_drawn(model, prompts, five_preferences):
    preferences = five_preferences.to(DEVICE)
    for name in ("some end early", "nucleus"):
        samples = draw(model, prompts, preferences, SAMPLINGS[name], with_head_inputs=True)
        torch.manual_seed(0)
        expected = sample_responses(model, prompts, preferences, SAMPLINGS[name], SAMPLES)
        assert samples.responses == expected


def test_within_the_reference(model, prompts):
    """Adapters disabled, no preference: the base model's own log-probabilities."""
    sampling = SAMPLINGS["tempered"]
    torch.manual_seed(0)
    with Policy(model, sampling).reference() as reference:
        samples = reference.sample(prompts, None, SAMPLES)
    expected = Policy(model, sampling).reference_log_probabilities(finished_sequences(prompts, samples))
    torch.testing.assert_close(samples.outputs.log_probabilities, expected, **TOLERANCE)


@pytest.mark.parametrize("name", ["some end early", "tempered, no early stop", "one token", "all end soon"])
def test_head_inputs_are_those_of_a_forward(name, model, prompts, five_preferences):
    sampling, preferences = SAMPLINGS[name], five_preferences.to(DEVICE)
    samples = draw(model, prompts, preferences, sampling, with_head_inputs=True)
    sequences = assert_recorded(model, prompts, preferences, sampling, samples)
    with torch.no_grad():
        rows = preferences.repeat_interleave(SAMPLES, dim=0)
        expected = Policy(model, sampling).token_outputs(sequences, rows, with_head_inputs=True).head_inputs
    states = samples.outputs.head_inputs
    assert states.shape == expected.shape
    assert not states.requires_grad
    mask = sequences.response_mask
    torch.testing.assert_close(states[mask], expected[mask], **TOLERANCE)
    assert expected[mask].abs().max() > 0.5, "the tolerance would hide all of it"


def test_a_head_that_sees_the_whole_prompt(prompts, five_preferences, make_llama, randomise):
    """Not every model makes logits for the last column only: the column that predicts is the last one all the same."""
    base = make_llama()
    plain_forward = base.forward

    def forward(*arguments, **options):
        options.pop("logits_to_keep", None)
        return plain_forward(*arguments, **options)

    model = randomise(PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b")))).eval()
    expected = draw(model, prompts, five_preferences, SAMPLINGS["some end early"], with_head_inputs=True)
    base.forward = forward
    seen = []
    base.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    samples = draw(model, prompts, five_preferences, SAMPLINGS["some end early"], with_head_inputs=True)
    assert seen[0] == 9, "the head sees the prompt, or this test says nothing"
    torch.testing.assert_close(samples.outputs.head_inputs, expected.outputs.head_inputs)
    torch.testing.assert_close(samples.outputs.log_probabilities, expected.outputs.log_probabilities)


def test_generation_may_run_on_after_the_last_token():
    """Processes may wait for each other, and a stop be noticed a step late: what is drawn there is dropped."""
    generator = torch.Generator().manual_seed(0)
    logits, tokens = torch.randn(5, 2, 9, generator=generator), torch.randint(9, (2, 5), generator=generator)
    responses = [Response(tokens[0, :3].tolist(), False), Response(tokens[1, :2].tolist(), True)]
    expected = logits.log_softmax(-1).gather(-1, tokens.T.unsqueeze(-1)).squeeze(-1).T[:, :3]
    for calls in (3, 4, 5):
        record = _TokenRecord(temperature=1.0)
        for call in range(calls):
            scores = record(tokens[:, :call] if call else torch.zeros(2, 1, dtype=torch.int64), logits[call])
            assert torch.equal(scores, logits[call])
        values = record.log_probabilities(responses)
        torch.testing.assert_close(values, expected * torch.tensor([[1, 1, 1], [1, 1, 0]]))


def test_float64_models(model, prompts, five_preferences):
    """Generation brings logits to float32, so the values are float32's."""
    sampling, preferences = SAMPLINGS["tempered, no early stop"], five_preferences.double().to(DEVICE)
    samples = draw(model.double(), prompts, preferences, sampling, with_head_inputs=True)
    assert_recorded(model, prompts, preferences, sampling, samples, atol=2e-6, rtol=0)
    assert samples.outputs.head_inputs.dtype == torch.float64


def test_mixed_precision(model, prompts, five_preferences):
    """Under autocast both ways are rounded to bfloat16, each in its own places: about 2⁻⁸ of logits of some units."""
    sampling, preferences = SAMPLINGS["tempered, no early stop"], five_preferences.to(DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        samples = draw(model, prompts, preferences, sampling)
        sequences = assert_recorded(model, prompts, preferences, sampling, samples, atol=0.15, rtol=0)
        with torch.no_grad():
            rows = preferences.repeat_interleave(SAMPLES, dim=0)
            values = Policy(model, sampling).token_log_probabilities(sequences, rows)
    assert samples.outputs.log_probabilities.dtype == torch.float32
    errors = (samples.outputs.log_probabilities - values)[sequences.response_mask]
    assert errors.abs().mean() < 0.03
    assert errors.mean().abs() < 0.01, "rounding, not a shift"


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_weights(autocast, model, prompts, five_preferences):
    sampling, preferences = SAMPLINGS["some end early"], five_preferences.to(DEVICE)
    for parameter in model.base_model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    with torch.autocast(DEVICE.type, torch.bfloat16) if autocast else nullcontext():
        samples = draw(model, prompts, preferences, sampling)
        assert_recorded(model, prompts, preferences, sampling, samples, atol=0.15, rtol=0)
    assert samples.outputs.log_probabilities.dtype == torch.float32


def test_dropout_is_off_and_the_mode_comes_back(make_gpt2, randomise, prompts, five_preferences):
    base = make_gpt2(resid_pdrop=0.4, embd_pdrop=0.4)
    model = randomise(PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b")))).train()
    samples = draw(model, prompts, five_preferences, SAMPLINGS["some end early"])
    assert model.training
    assert_recorded(copy.deepcopy(model).eval(), prompts, five_preferences, SAMPLINGS["some end early"], samples)


def test_what_cannot_be_sampled_is_refused(model, prompts, five_preferences):
    with pytest.raises(ValueError, match="stop_token_ids is None"):
        sample_with_outputs(model, prompts, five_preferences, Sampling())
    with pytest.raises(ValueError, match="5 prompts and 2 preferences"):
        sample_with_outputs(model, prompts, five_preferences[:2], SAMPLINGS["one token"])


def test_watch_head_looks_on_only_within_its_block(model):
    head, inputs = model.base_model.get_output_embeddings(), []
    states = torch.randn(2, 3, 64, device=DEVICE)
    with watch_head(model.base_model, inputs):
        head(states)
    head(states)
    assert len(inputs) == 1
    assert torch.equal(inputs[0], states)
    with pytest.raises(RuntimeError, match="inside"), watch_head(model.base_model, inputs):
        raise RuntimeError("inside")
    head(states)
    assert len(inputs) == 1
    with pytest.raises(ValueError, match=r"Linear does not name its output head \(get_output_embeddings\)"):
        watch_head(nn.Linear(2, 2), inputs).__enter__()


def test_ends_of_the_models_own_configuration_are_those_of_the_policy(model, prompts, five_preferences):
    """They end responses, and do not come in the first places, of sampling and of the forward alike."""
    model.base_model.generation_config.eos_token_id = [*ENDS]
    sampling = Sampling(max_new_tokens=NEW, min_new_tokens=3, stop_token_ids=(2,), model_stops=True)
    samples = draw(model, prompts, five_preferences.to(DEVICE), sampling)
    assert_recorded(model, prompts, five_preferences.to(DEVICE), sampling, samples)
    ends = {response.ids[-1] for response in samples.responses if response.finished}
    assert len(ends) > 1
    assert ends <= {*ENDS}
    assert not any({*response.content} & {*ENDS} for response in samples.responses)


@pytest.mark.parametrize("count", [0, -1, 2.5, "2"])
def test_samples_are_counted_from_one(count):
    model = torch.nn.Linear(1, 1)
    with pytest.raises((ValueError, TypeError), match="samples_per_prompt is"):
        sample_with_outputs(model, [[3]], [0.5, 0.5], Sampling(stop_token_ids=(2,)), samples_per_prompt=count)
