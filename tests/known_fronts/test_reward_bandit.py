"""The KL-regularised bandit against sums in plain Python."""

import math

import pytest
import torch

from mopref.known_fronts import RewardBandit, tiny_llama
from mopref.known_fronts.reward_bandit import expected_rewards, kl_losses, kl_optimum


def softmax(values):
    total = sum(map(math.exp, values))
    return [math.exp(value) / total for value in values]


def test_losses_and_optimum_by_plain_sums():
    bandit = RewardBandit.random(tiny_llama(vocabulary=5, hidden=8), num_objectives=2, prompts=2, beta=0.3, seed=1)
    reference, rewards = bandit.reference.exp().tolist(), bandit.rewards.tolist()
    preference = [0.3, 0.7]
    expected = [0.0, 0.0]
    for of_prompt, of_tokens in zip(reference, rewards, strict=True):
        tilted = [
            math.log(p) + sum(w * r for w, r in zip(preference, row, strict=True)) / 0.3
            for p, row in zip(of_prompt, of_tokens, strict=True)
        ]
        policy = softmax(tilted)
        divergence = sum(q * math.log(q / p) for q, p in zip(policy, of_prompt, strict=True))
        for i in range(2):
            reward = sum(q * row[i] for q, row in zip(policy, of_tokens, strict=True))
            expected[i] -= (reward - 0.3 * divergence) / 2
    assert bandit.optimum(preference).values[0].tolist() == pytest.approx(expected, abs=1e-12)
    policies = bandit.optimal_policies(torch.tensor([preference], dtype=torch.float64))
    assert bandit.losses_of(policies)[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_functions_take_any_leading_dimensions():
    rewards, reference = torch.rand(3, 4, 2).double(), torch.randn(3, 4).double().log_softmax(-1)
    policies = torch.randn(5, 6, 3, 4).double().log_softmax(-1)
    assert expected_rewards(policies, rewards).shape == (5, 6, 3, 2)
    losses = kl_losses(policies, reference, rewards, 0.1)
    torch.testing.assert_close(losses[2, 3], kl_losses(policies[2, 3], reference, rewards, 0.1))
    assert kl_optimum(reference, rewards, 0.1, torch.eye(2)).shape == (2, 3, 4)


def test_the_same_seed_makes_the_same_bandit_whatever_was_drawn_before():
    first = RewardBandit.random(tiny_llama(seed=2), 3, seed=4)
    torch.rand(3)
    state = torch.random.get_rng_state()
    second = RewardBandit.random(tiny_llama(seed=2), 3, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.rewards, second.rewards)
    assert torch.equal(first.reference, second.reference)
    assert not torch.equal(first.rewards, RewardBandit.random(tiny_llama(seed=2), 3, seed=5).rewards)


@pytest.mark.parametrize("rewards", [torch.zeros(1, 5, 2), torch.zeros(2, 4, 2), torch.full((2, 5, 2), torch.nan)])
def test_rewards_that_do_not_go_with_the_policy_are_refused(rewards):
    with pytest.raises(ValueError, match="rewards have shape"):
        RewardBandit(tiny_llama(vocabulary=5, hidden=8), [[3], [4]], rewards)


def test_another_number_of_names_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 5, 3\)"):
        RewardBandit(tiny_llama(vocabulary=5, hidden=8), [[3], [4]], torch.zeros(2, 5, 2), names=("a", "b", "c"))
