"""Mean rewards on fresh samples: repeatable, per prompt, of the base too, and what they cost."""

import inspect
import warnings

import pytest
import torch
from policy_gradient_inputs import PREFERENCES, ROWS, make_settings

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Sampling
from mopref.llm.policy.forward_traits import forward_traits
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards, reward_statistics, reward_table
from mopref.llm.rewards import token_reward


def first_token(offset: float):
    """A reward that is the prompt's first token and an offset, whatever the response."""
    return token_reward(lambda prompt_ids, response_ids: [ids[0] + offset for ids in prompt_ids])


def test_means_and_standard_errors_are_over_prompts(model):
    """Rewards that only the prompt decides: 41, 50, 60, 70; their mean and s / √4."""
    settings = make_settings(reward_functions={"length": first_token(0.0), "even": first_token(-50.0)})
    statistics = evaluate_rewards(model, settings, ROWS, PREFERENCES, batch_size=3)
    values = torch.tensor([41.0, 50.0, 60.0, 70.0], dtype=torch.float64)
    expected = torch.stack([values.mean(), values.mean() - 50]).expand(2, -1)
    torch.testing.assert_close(statistics.rewards, expected)
    torch.testing.assert_close(statistics.standard_errors, torch.full((2, 2), values.std().item() / 2).double())
    assert statistics.kl.shape == statistics.lengths.shape == statistics.truncated.shape == (2,)


def test_one_prompt_has_no_standard_error(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics = evaluate_rewards(model, make_settings(), ROWS[:1], PREFERENCES)
    assert statistics.standard_errors.shape == (2, 2)
    assert statistics.standard_errors.isnan().all()
    assert statistics.rewards.isfinite().all()


def test_statistics_of_a_table_by_hand():
    """Two prompts: means, and s / √2 = |difference| / 2; then KL, length and cut in their columns."""
    table = torch.tensor([[[1.0, 5.0, 0.5, 10.0, 0.0], [3.0, -1.0, 1.5, 20.0, 1.0]]], dtype=torch.float64)
    statistics = reward_statistics(table)
    assert statistics.rewards.tolist() == [[2.0, 2.0]]
    torch.testing.assert_close(statistics.standard_errors, torch.tensor([[1.0, 3.0]]).double())
    assert (statistics.kl.item(), statistics.lengths.item(), statistics.truncated.item()) == (1.0, 15.0, 0.5)
    for m in (1, 3, 5):
        numbered = torch.arange(m + 3.0).expand(2, 4, m + 3)
        statistics = reward_statistics(numbered)
        assert statistics.rewards.tolist() == [list(range(m))] * 2
        assert torch.stack(statistics[2:]).tolist() == [[m] * 2, [m + 1] * 2, [m + 2] * 2]


def test_the_defaults_stay_and_are_those_of_the_table():
    """Figures that were published with a seed depend on them."""
    expected = {"batch_size": 16, "samples_per_prompt": None, "with_kl": True, "seed": 0, "progress": False}
    for function in (evaluate_rewards, reward_table):
        parameters = inspect.signature(function).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        assert defaults == expected


def test_nothing_to_evaluate_on_is_refused(model):
    with pytest.raises(ValueError, match="there is nothing to evaluate on: give data with at least one prompt"):
        evaluate_rewards(model, make_settings(), [], PREFERENCES)


def test_the_same_seed_gives_the_same_and_the_random_state_stays(model):
    state = torch.get_rng_state()
    first = evaluate_rewards(model, make_settings(), ROWS, PREFERENCES, batch_size=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    again = evaluate_rewards(model, make_settings(), ROWS, PREFERENCES, batch_size=3)
    other = evaluate_rewards(model, make_settings(), ROWS, PREFERENCES, batch_size=3, seed=1)
    for part, expected in zip(again, first, strict=True):
        assert torch.equal(part, expected)
    assert not torch.equal(first.rewards, other.rewards)


def test_lengths_and_truncation(model):
    settings = make_settings(sampling=Sampling(max_new_tokens=2, stop_token_ids=()))
    statistics = evaluate_rewards(model, settings, ROWS, PREFERENCES)
    assert statistics.lengths.tolist() == [2.0, 2.0]
    assert statistics.truncated.tolist() == [0.0, 0.0]
    cut = make_settings(sampling=Sampling(max_new_tokens=2, min_new_tokens=2, stop_token_ids=(2,)))
    assert evaluate_rewards(model, cut, ROWS, PREFERENCES).truncated.tolist() == [1.0, 1.0]


def test_the_truncation_penalty_plays_no_part(model):
    plain = evaluate_rewards(model, make_settings(), ROWS, PREFERENCES)
    penalised = evaluate_rewards(model, make_settings(truncation_penalty=10.0), ROWS, PREFERENCES)
    assert plain.truncated.max() > 0
    assert torch.equal(penalised.rewards, plain.rewards)
    sampling = Sampling(max_new_tokens=2, min_new_tokens=2, stop_token_ids=(2,))
    functions = {"length": first_token(0.0), "even": first_token(-50.0)}
    cut = evaluate_rewards(model, make_settings(sampling=sampling, reward_functions=functions), ROWS, PREFERENCES)
    assert cut.truncated.tolist() == [1.0, 1.0]
    assert cut.rewards.tolist() == [[55.25, 5.25]] * 2, "means of the prompts' first tokens, as they are"


def test_every_preference_is_under_its_own_adapters(make_llama, randomise):
    """The order of preferences, and each one alone: batches of like length mix them."""
    model = randomise(PreferenceModel(make_llama(std=0.4), SVDLoRAConfig(objectives=("length", "even"))), std=0.4)
    settings, corners = make_settings(samples_per_prompt=200), torch.eye(2)
    together = evaluate_rewards(model, settings, ROWS, corners, batch_size=3)
    for index, corner in enumerate(corners):
        alone = evaluate_rewards(model, settings, ROWS, corner.view(1, -1), batch_size=3)
        torch.testing.assert_close(together.rewards[index], alone.rewards[0], atol=0.15, rtol=0)
    assert (together.rewards[0] - together.rewards[1]).abs().max() > 0.3, "preferences differ, or it tests nothing"


def test_the_base_model_is_evaluated_without_adapters(model, make_llama):
    settings = make_settings(samples_per_prompt=200)
    base = evaluate_rewards(model, settings, ROWS, None)
    assert base.rewards.shape == (1, 2)
    assert base.kl.item() == 0
    plain = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    expected = evaluate_rewards(plain, settings, ROWS, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(base.rewards, expected.rewards)
    assert expected.kl.item() == pytest.approx(0, abs=1e-9)


def test_the_kl_is_that_of_one_precision(make_llama):
    """Accelerate wraps the forward of a model that trains in mixed precision, not its generation.

    Of an untrained model both policies are the same, and so is their rounding.
    """
    plain = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    forward = plain.forward

    def in_bfloat16(*arguments, **options):
        with torch.autocast("cpu", torch.bfloat16):
            return forward(*arguments, **options)

    plain.forward = in_bfloat16
    statistics = evaluate_rewards(plain, make_settings(samples_per_prompt=50), ROWS, torch.tensor([[0.5, 0.5]]))
    assert statistics.kl.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("with_kl", "forwards"), [(True, 6), (False, 4)])
def test_the_kl_costs_two_forwards_more(with_kl, forwards, model):
    settings, calls = make_settings(sampling=Sampling(max_new_tokens=4, stop_token_ids=())), []
    forward_traits(model)  # Tried once a model, on a few tokens.
    model.base_model.register_forward_hook(lambda *_: calls.append(1))
    statistics = evaluate_rewards(model, settings, ROWS, PREFERENCES[:1], with_kl=with_kl)
    assert len(calls) == forwards
    assert (statistics.kl == 0).all() == (not with_kl)


@pytest.mark.parametrize(("count", "rows"), [(None, 12), (5, 20), (1, 4)])
def test_samples_per_prompt(count, rows, model):
    """The settings' own number by default; all the others stay."""
    seen = []

    @token_reward
    def tell(prompt_ids, response_ids):
        seen.append(len(response_ids))
        return [0.0] * len(response_ids)

    settings = make_settings(reward_functions={"length": tell, "even": tell})
    evaluate_rewards(model, settings, ROWS, PREFERENCES[:1], samples_per_prompt=count)
    assert seen == [rows, rows]
    assert settings.samples_per_prompt == 3


def test_no_sample_is_refused(model):
    with pytest.raises(ValueError, match="samples_per_prompt is 0: it must be at least 1"):
        evaluate_rewards(model, make_settings(), ROWS, PREFERENCES, samples_per_prompt=0)


def test_the_mode_is_restored(model):
    model.train()
    evaluate_rewards(model, make_settings(), ROWS, PREFERENCES[:1], samples_per_prompt=1)
    assert model.training


@pytest.mark.parametrize("seed", [10**30, -(2**64)])
def test_seeds_that_no_generator_takes_are_refused(model, seed):
    with pytest.raises(ValueError, match=f"seed is {seed}: it must be at least"):
        evaluate_rewards(model, make_settings(), ROWS, PREFERENCES, batch_size=3, seed=seed)
