"""Rollouts: responses and rewards that belong together, what was said of them when they were drawn, and refusals."""

import math

import pytest
import torch
from policy_gradient_inputs import PREFERENCES, ROWS, STOPS, even, length, make_rollout, make_settings
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy.forward_traits import forward_traits
from mopref.llm.policy_gradient.critic import Critic
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.llm.rewards.reward import NotFiniteRewardError, token_reward

ROW_PREFERENCES = PREFERENCES.repeat_interleave(2, dim=0)


def roll_out(model, settings, critic=None, seed=0):
    torch.manual_seed(seed)
    return settings.roll_out(Policy(model, settings.sampling), settings.collate(ROWS), ROW_PREFERENCES, critic)


@pytest.fixture
def tokenizer():
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(97))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


# Rolling out.


def test_every_response_follows_its_prompt_and_has_its_own_rewards(model):
    settings = make_settings()
    rollouts = (roll_out(model, settings, seed=seed) for seed in range(10))
    # Some are cut and some are not.
    rollout = next(rollout for rollout in rollouts if 0 < rollout.truncated.sum() < 12)
    assert rollout.rewards.shape == (12, 2)
    assert rollout.rewards.dtype == torch.float64
    sequences = rollout.sequences
    for row in range(12):
        mask, response_mask = sequences.attention_mask[row].bool(), sequences.response_mask[row]
        response = sequences.targets[row][response_mask].tolist()
        assert sequences.input_ids[row][mask].tolist() == ROWS[row // 3]["prompt_ids"] + response
        content = [token for token in response if token not in STOPS]
        assert rollout.lengths[row] == len(content)
        assert rollout.rewards[row].tolist() == [*length([], [content]), *even([], [content])]
        assert rollout.truncated[row] == (len(content) == len(response) == 4)


def test_a_reward_that_fails_says_for_which_prompt(model):
    @token_reward
    def bad(prompt_ids, response_ids):
        return [math.nan if ids == ROWS[2]["prompt_ids"] else 0.0 for ids in prompt_ids]

    with pytest.raises(NotFiniteRewardError, match="reward 'even' returned nan for row 6") as caught:
        roll_out(model, make_settings(reward_functions={"length": length, "even": bad}))
    assert caught.value.prompt == 2


def test_log_probabilities_are_those_of_a_forward(model):
    settings = make_settings()
    rollout = roll_out(model, settings)
    rows = ROW_PREFERENCES.repeat_interleave(3, dim=0)
    with torch.no_grad():
        expected = Policy(model, settings.sampling).token_log_probabilities(rollout.sequences, rows)
    torch.testing.assert_close(rollout.log_probabilities, expected, atol=1e-4, rtol=0)
    assert rollout.reference_log_probabilities is None
    assert rollout.values is None


def test_no_forward_but_generation_is_run(model):
    """As many forwards as tokens, none on finished sequences."""
    calls, options = [], Sampling(max_new_tokens=4, stop_token_ids=())
    forward_traits(model)  # Tried once a model, on a few tokens.
    model.base_model.register_forward_hook(lambda *_: calls.append(1))
    roll_out(model, make_settings(sampling=options), Critic(64, 2))
    assert len(calls) == 4


def test_the_critics_values_are_those_of_a_forward(model):
    critic, settings = Critic(64, 2), make_settings()
    torch.nn.init.normal_(critic.output.weight, generator=torch.Generator().manual_seed(0))
    rollout = roll_out(model, settings, critic)
    rows = ROW_PREFERENCES.repeat_interleave(3, dim=0)
    with torch.no_grad():
        outputs = Policy(model, settings.sampling).token_outputs(rollout.sequences, rows, with_head_inputs=True)
        expected = critic(outputs.head_inputs, rows)
    mask = rollout.sequences.response_mask
    assert rollout.values.shape == (*mask.shape, 2)
    torch.testing.assert_close(rollout.values[mask], expected[mask], atol=1e-3, rtol=1e-3)
    assert expected[mask].std() > 0.1
    assert not rollout.values.requires_grad


def test_truncation_penalty(model):
    plain, penalised = (roll_out(model, make_settings(truncation_penalty=penalty)) for penalty in (0.0, 10.0))
    assert torch.equal(penalised.truncated, plain.truncated)
    torch.testing.assert_close(penalised.rewards, plain.rewards - 10 * plain.truncated.double().unsqueeze(1))


def test_without_stop_tokens_nothing_is_truncated(model):
    rollout = roll_out(model, make_settings(sampling=Sampling(max_new_tokens=2, stop_token_ids=())))
    assert not rollout.truncated.any()
    assert (rollout.lengths == 2).all()


def test_rewards_that_read_text(model, tokenizer):
    seen = []

    def words(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [len(response.split()) for response in responses]

    # Special tokens are no words, should one be drawn.
    no_specials = token_reward(lambda _, ids: [sum(token > 2 for token in row) for row in ids])
    settings = make_settings(
        reward_functions={"words": words, "length": no_specials},
        sampling=Sampling(max_new_tokens=3, stop_token_ids=(2,)),
        samples_per_prompt=2,
        tokenizer=tokenizer,
    )
    assert settings.reads_text
    rows = [{"prompt_ids": [4, 5], "prompt": "w1 w2"}, {"prompt_ids": [6], "prompt": "w3"}]
    torch.manual_seed(0)
    preferences = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    rollout = settings.roll_out(Policy(model, settings.sampling), settings.collate(rows), preferences)
    assert [prompt for prompt, _ in seen] == ["w1 w2", "w1 w2", "w3", "w3"]
    assert torch.equal(rollout.rewards[:, 0], rollout.rewards[:, 1])
    for (_, text), sequence, mask in zip(seen, rollout.sequences.targets, rollout.sequences.response_mask, strict=True):
        assert text == " ".join(f"w{token - 3}" for token in sequence[mask].tolist() if token > 2)


# Batches of prompts.


def test_collate():
    batch = make_settings().collate(ROWS)
    assert batch.prompt_ids == [row["prompt_ids"] for row in ROWS]
    assert batch.prompts is None
    batch.prompt_ids[0].append(9)
    assert ROWS[0]["prompt_ids"] == [41, 42]


def test_rows_without_what_is_needed_are_named(tokenizer):
    with pytest.raises(ValueError, match="row 1 has prompt, but no prompt_ids: use tokenize_prompts"):
        make_settings().collate([{"prompt_ids": [3]}, {"prompt": "a"}])
    text = make_settings(reward_functions={"words": lambda prompts, responses: [0.0]}, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="row 0 has prompt_ids, but no prompt: use tokenize_prompts"):
        text.collate([{"prompt_ids": [3]}])


# Rollouts as records.


def test_log_ratios():
    rollout = make_rollout()
    expected = (rollout.log_probabilities - rollout.reference_log_probabilities).double()
    assert torch.equal(rollout.log_ratios, expected)
    without = rollout._replace(reference_log_probabilities=None).log_ratios
    assert without.shape == expected.shape
    assert without.dtype == torch.float64
    assert (without == 0).all()


@pytest.mark.parametrize("values", [False, True])
def test_rows_of_a_rollout(values):
    rollout, indices = make_rollout(values=values), torch.tensor([7, 0])
    rows = rollout.rows(indices)
    assert type(rows) is type(rollout)
    assert torch.equal(rows.sequences.input_ids, rollout.sequences.input_ids[indices])
    for part, selection in zip(rollout[1:], rows[1:], strict=True):
        assert (selection is None) if part is None else torch.equal(selection, part[indices])
    assert (rows.values is None) == (not values)


# Settings.


def test_settings(tokenizer):
    settings = make_settings()
    assert settings.names == ("length", "even")
    assert not settings.reads_text
    with_tokenizer = make_settings(sampling=Sampling(temperature=0.5), tokenizer=tokenizer)
    expected = Sampling(temperature=0.5, stop_token_ids=(2,), vocabulary=(range(100),), model_stops=True)
    assert with_tokenizer.sampling == expected, "the tokenizer's stop tokens and vocabulary, and the model's ends"


def test_a_pull_is_the_last_objective():
    settings = make_settings(pull="close")
    assert settings.names == ("length", "even", "close")
    assert list(settings.options()["rewards"]) == ["length", "even"]
    assert settings.options()["pull"] == "close"
    assert "pull" not in make_settings().options()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pull": "even"}, "pull is 'even', which is the name of a reward"),
        ({"reward_functions": {}}, r"rewards are \{\}: give a dict of at least one name and reward"),
        ({"reward_functions": [length]}, r"rewards are \[.*\]: give a dict"),
        ({"samples_per_prompt": 0}, "samples_per_prompt is 0: it must be at least 1"),
        ({"truncation_penalty": -1.0}, r"truncation_penalty is -1\.0: it is taken from the rewards, so give ≥ 0"),
        ({"sampling": Sampling()}, r"without a tokenizer, say what ends a response: sampling=Sampling\(stop_token_ids"),
        ({"reward_functions": {"a": lambda prompts, responses: [0.0]}}, "the rewards read text, so the tokenizer"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_settings(**options)


def test_preferences_of_another_number_of_objectives_are_refused_before_anything_is_sampled(model):
    """As for a model of other objectives, or where the pull is left out."""
    settings = make_settings(pull="close")
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"preferences have shape \(4, 2\): .* each of length, even, close"):
        settings.roll_out(Policy(model, settings.sampling), settings.collate(ROWS), torch.full((4, 2), 0.5))
    assert torch.equal(torch.get_rng_state(), state)


def test_settings_do_not_change():
    with pytest.raises(AttributeError, match="samples_per_prompt"):
        make_settings().samples_per_prompt = 7
    assert isinstance(make_settings(), RolloutSettings)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reward_functions": {"a": 3}}, TypeError, r"rewards\['a'\] is 3: give a function of prompts and responses"),
        ({"reward_functions": {3: print}}, ValueError, "the names of rewards is .*: give a sequence of distinct texts"),
        ({"sampling": {"max_new_tokens": 3}}, TypeError, r"sampling is a dict: give Sampling\("),
        ({"tokenizer": "gpt2"}, TypeError, "tokenizer is 'gpt2', of type str: give the tokenizer itself"),
        ({"samples_per_prompt": 2.0}, TypeError, r"samples_per_prompt is 2\.0"),
        ({"truncation_penalty": "1"}, TypeError, "truncation_penalty is '1'"),
        ({"truncation_penalty": float("inf")}, ValueError, "truncation_penalty is inf"),
    ],
)
def test_settings_of_another_type_are_named(options, error, message):
    settings = {"reward_functions": {"a": print}, "sampling": Sampling(), "samples_per_prompt": 2}
    with pytest.raises(error, match=message):
        RolloutSettings(**(settings | options))
