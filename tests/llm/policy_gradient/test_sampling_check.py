"""What was recorded while sampling is what a forward says, or the model is refused."""

import pytest
import torch
from policy_gradient_inputs import PREFERENCES, ROWS, make_settings

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy_gradient.sampling_check import check_log_probabilities

ROW_PREFERENCES = PREFERENCES.repeat_interleave(2, dim=0)


def roll_out(model, **sampling):
    settings = make_settings(sampling=Sampling(**{"max_new_tokens": 6, "stop_token_ids": (3, 4, 5), **sampling}))
    torch.manual_seed(0)
    policy = Policy(model, settings.sampling)
    return policy, settings.roll_out(policy, settings.collate(ROWS), ROW_PREFERENCES)


@pytest.mark.parametrize(
    "sampling",
    [{}, {"temperature": 0.3}, {"temperature": 2.0}, {"top_p": 0.5}, {"min_new_tokens": 4}, {"stop_token_ids": ()}],
    ids=str,
)
def test_no_sampling_setting_is_an_alarm(sampling, model):
    policy, rollout = roll_out(model, **sampling)
    check_log_probabilities(policy, rollout, ROW_PREFERENCES)


def test_a_single_preference_is_for_all(model):
    settings = make_settings()
    policy = Policy(model, settings.sampling)
    rollout = settings.roll_out(policy, settings.collate(ROWS[:1]), PREFERENCES[:1])
    check_log_probabilities(policy, rollout, PREFERENCES[:1])


@pytest.mark.parametrize("gap", [0.02, -0.3, float("nan")])
def test_other_log_probabilities_are_refused_with_the_number(gap, model):
    policy, rollout = roll_out(model)
    other = rollout._replace(log_probabilities=rollout.log_probabilities + gap)
    message = rf"LlamaForCausalLM samples .* differ by {abs(gap):.3g} nats .* less than 0.01\. .*use another base model"
    with pytest.raises(ValueError, match=message):
        check_log_probabilities(policy, other, ROW_PREFERENCES)


@pytest.mark.parametrize("row", range(4))
def test_each_row_is_compared_under_its_own_preference(row, model):
    policy, rollout = roll_out(model)
    preferences = ROW_PREFERENCES.clone()
    preferences[row] = preferences[row].flip(0)
    with pytest.raises(ValueError, match="samples from another distribution"):
        check_log_probabilities(policy, rollout, preferences)


@pytest.mark.parametrize("half", ["weights", "autocast"])
def test_half_precision_may_round(half, make_llama, randomise):
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2)
    model = randomise(PreferenceModel(make_llama(), config), std=0.15)
    model = model.to(torch.bfloat16) if half == "weights" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast"):
        policy, rollout = roll_out(model)
        check_log_probabilities(policy, rollout, ROW_PREFERENCES)
        check_log_probabilities(
            policy, rollout._replace(log_probabilities=rollout.log_probabilities + 0.3), ROW_PREFERENCES
        )
        other = rollout._replace(log_probabilities=rollout.log_probabilities + 0.8)
        with pytest.raises(ValueError, match=r"nats a token on average, where rounding would be less than 0\.5"):
            check_log_probabilities(policy, other, ROW_PREFERENCES)


def test_padding_after_a_response_does_not_count(model):
    """Responses of other lengths: a mean over padding would hide what is wrong."""
    policy, rollout = roll_out(model, stop_token_ids=tuple(range(3, 60)))
    mask = rollout.sequences.response_mask
    assert not mask.all()
    noise = rollout.log_probabilities + torch.where(mask, 0.0, 5.0)
    check_log_probabilities(policy, rollout._replace(log_probabilities=noise), ROW_PREFERENCES)
