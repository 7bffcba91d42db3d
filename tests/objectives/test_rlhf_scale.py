"""RLHF with one reward a hundred times as large: normalised, every preference keeps its place on the front.

Measured by the exact expected rewards, in their original units, of a bandit's trained policy.
"""

from functools import cache

import pytest
import torch
from rlhf_problems import RewardProblem, bandit, expected_rewards

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.scalarizers import Linear

FIVE = simplex_lattice(2, 5).float()
SCALE = 100.0


def make_bandit_model(make_llama) -> PreferenceModel:
    return PreferenceModel(make_llama(vocab_size=24, num_hidden_layers=1), SVDLoRAConfig(objectives=("a", "b")))


def exact_rewards(problem: RewardProblem, model: PreferenceModel) -> torch.Tensor:
    """E r_i at five λ, the mean over prompts: ``(5, 2)``."""
    with torch.no_grad():
        policies = torch.stack([problem.log_probabilities(model, preference) for preference in FIVE])
    return expected_rewards(policies, problem.rewards).mean(1)


@pytest.fixture(scope="module")
def untrained_rewards(make_llama):
    return exact_rewards(bandit(), make_bandit_model(make_llama))


@pytest.fixture(scope="module")
def trained_rewards(make_llama):
    """E r_i ``(5, 2)`` in original units after a short training; each is run once, whoever asks."""

    @cache
    def train(scales: tuple[float, float], normalization: str | None) -> torch.Tensor:
        problem, model = bandit(), make_bandit_model(make_llama)
        config = TrainerConfig(
            steps=40, batch_size=8, preferences_per_step=4, learning_rate=1e-2, log_every=40, progress=False
        )
        rlhf = problem.objective(scales=scales, normalization=normalization, samples_per_prompt=16)
        ParetoTrainer(model, rlhf, Linear(), train_data=problem.rows(), config=config).train()
        return exact_rewards(problem, model)

    return train


@pytest.mark.parametrize("normalization", ["group", "running"])
def test_normalised_rewards_keep_every_preference_in_its_place(normalization, trained_rewards):
    """Same seed, same samples: normalised advantages differ by rounding only, unless rounding flips a draw.

    The tolerance leaves room for a few flipped draws; it is a tenth of what λ moves here, and a thirtieth of what the
    scale moves without normalisation.
    """
    plain, scaled = trained_rewards((1.0, 1.0), normalization), trained_rewards((SCALE, 1.0), normalization)
    assert (plain[-1] - plain[0]).abs().min() > 0.1, "λ has moved the policy"
    torch.testing.assert_close(scaled, plain, atol=0.01, rtol=0)


def test_without_normalisation_the_large_reward_takes_over(trained_rewards):
    """λ = ½ then stands for weights 100 : 1, and lands at the vertex of a."""
    plain, scaled = trained_rewards((1.0, 1.0), None), trained_rewards((SCALE, 1.0), None)
    vertex, middle = FIVE[:, 0].argmax(), 2
    assert plain[vertex, 0] - plain[middle, 0] > 0.05
    assert scaled[middle, 0] >= scaled[vertex, 0] - 0.01
    assert (scaled[middle] - plain[middle]).abs().max() > 0.2


def test_rewards_are_maximised(trained_rewards, untrained_rewards):
    """At its own vertex each expected reward has grown, by more than at the other's."""
    trained = trained_rewards((1.0, 1.0), None)
    grown = trained - untrained_rewards
    assert grown[0, 1] > 0.05 + grown[-1, 1]
    assert grown[-1, 0] > 0.05 + grown[0, 0]
    assert min(grown[0, 1], grown[-1, 0]) > 0.05
