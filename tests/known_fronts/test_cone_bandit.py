"""Rewards and the pull as objectives: closed forms, and the bandits of fixed β that are in it."""

import math

import numpy as np
import pytest
import torch

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.known_fronts import ConeBandit, RewardBandit, tiny_llama
from mopref.preferences import uniform_preferences
from mopref.samplers import ConeSampler, cone_preferences
from mopref.scalarizers import Linear


def small(**options):
    return ConeBandit.random(tiny_llama(vocabulary=6, hidden=8), prompts=3, **options)


def test_a_policy_and_its_losses_by_plain_sums():
    """π ∝ π_ref exp(Σ w_i r_i), w = λ / (β λ_3); −E r_i and β KL."""
    bandit = small(beta=0.3, seed=1)
    preference = [0.2, 0.5, 0.3]
    w = [weight / (0.3 * 0.3) for weight in preference[:2]]
    expected = [0.0, 0.0, 0.0]
    for reference, rewards in zip(bandit.reference.exp().tolist(), bandit.rewards.tolist(), strict=True):
        tilted = [p * math.exp(w[0] * r[0] + w[1] * r[1]) for p, r in zip(reference, rewards, strict=True)]
        policy = [value / sum(tilted) for value in tilted]
        for i in range(2):
            expected[i] -= sum(q * r[i] for q, r in zip(policy, rewards, strict=True)) / 3
        expected[2] += 0.3 * sum(q * math.log(q / p) for q, p in zip(policy, reference, strict=True)) / 3
    assert bandit.optimum(preference).values[0].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("strength", [0.25, 1.0, 8.0])
def test_at_each_strength_it_is_the_bandit_of_that_beta(strength):
    bandit = small(beta=0.4, seed=2)
    fixed = RewardBandit(tiny_llama(vocabulary=6, hidden=8), bandit.prompts, bandit.rewards, 0.4 / strength)
    balances = torch.tensor([[0.3, 0.7], [1.0, 0.0]], dtype=torch.float64)
    preferences = cone_preferences(balances, strength, 2)
    torch.testing.assert_close(bandit.optimal_policies(preferences), fixed.optimal_policies(balances))


def test_its_ends_are_the_reference_and_the_best_response():
    bandit = small(seed=3)
    at_reference, at_first = (bandit.optimal_policies(torch.eye(3, dtype=torch.float64)[[i]])[0] for i in (2, 0))
    torch.testing.assert_close(at_reference, bandit.reference)
    best = bandit.rewards[..., 0].argmax(dim=1)
    torch.testing.assert_close(at_first.exp().amax(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(at_first.argmax(dim=1), best)
    assert bandit.corners.isfinite().all()


def test_no_policy_is_better():
    """The regret of random policies, and of optima of other preferences, is ≥ 0."""
    bandit = small(seed=4)
    generator = torch.Generator().manual_seed(0)
    preferences = torch.from_numpy(uniform_preferences(3, 8, np.random.default_rng(0)))
    for scale in (0.01, 0.3, 3.0):
        logits = bandit.optimal_policies(preferences)
        noise = scale * torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        reached = bandit.losses_of((logits + noise).log_softmax(-1))
        regret = bandit.regret(reached, preferences)
        assert regret.min() > -1e-12
        assert regret.max() > 1e-6
    assert bandit.regret(bandit.linear_optima(preferences), preferences).abs().max() < 1e-12


def test_a_reward_called_as_the_pull_is_refused():
    with pytest.raises(ValueError, match="names hold 'reference', which is the pull's"):
        ConeBandit(tiny_llama(vocabulary=5, hidden=8), [[3]], torch.zeros(1, 5, 2), names=("a", "reference"))
    with pytest.raises(ValueError, match="rewards have shape"):
        ConeBandit(tiny_llama(vocabulary=5, hidden=8), [[3], [4]], torch.zeros(1, 5, 2))


def test_one_model_learns_balance_and_strength():
    """After some steps on the cone it is nearer to the exact policies of weak and strong pulls than its base is."""
    base = tiny_llama(seed=0)
    bandit = ConeBandit.random(base, seed=0)
    model = PreferenceModel(base, SVDLoRAConfig(bandit.names))
    config = TrainerConfig(
        steps=100, learning_rate=2e-2, preferences_per_step=8, batch_size=8, log_every=60, progress=False, cpu=True
    )
    ParetoTrainer(model, bandit, Linear(), sampler=ConeSampler(bandit.names), config=config).train()
    balances = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    for strength in (0.5, 4.0):
        preferences = cone_preferences(balances, strength, 2)
        with torch.no_grad():
            reached = bandit.losses(model.eval(), None, preferences)
            with model.disabled():
                untrained = bandit.losses(model, None, preferences)
        regret, before = (bandit.regret(values, preferences).mean() for values in (reached, untrained))
        assert regret < 0.2 * before


def test_a_front_without_a_volume_is_told():
    bandit = small(beta=1e30)
    with pytest.raises(ValueError, match=r"no hypervolume, beta being 1e\+30"):
        bandit.hypervolume_ratio(torch.zeros(1, 3), [[0.25, 0.25, 0.5]])
