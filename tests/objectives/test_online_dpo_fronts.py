"""Trained on its own pairs, one model raises each reward at that reward's corner.

Rewards that pull apart: the share of a response's tokens from the low end of the vocabulary, and from the high end.
"""

import pytest
import torch

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.evaluation import reward_front
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.rewards import token_reward
from mopref.objectives import OnlineDPO
from mopref.scalarizers import Linear

VOCABULARY = 24
PROMPTS = [{"prompt_ids": ids} for ids in ([3, 9], [17], [20, 5, 11], [14, 8])]
CORNERS = torch.eye(2)


@token_reward
def low(prompt_ids, response_ids):
    return [sum(token < 10 for token in ids) / len(ids) for ids in response_ids]


@token_reward
def high(prompt_ids, response_ids):
    return [sum(token >= 14 for token in ids) / len(ids) for ids in response_ids]


def assert_each_reward_is_best_at_its_corner(make_llama, seed: int) -> None:
    """Against the untrained model and against the other corner; in between, one reward is given up for the other."""
    base = make_llama(vocab_size=VOCABULARY, num_hidden_layers=1, seed=seed)
    model = PreferenceModel(base, SVDLoRAConfig(objectives=("low", "high")))
    sampling = Sampling(max_new_tokens=3, stop_token_ids=())
    objective = OnlineDPO({"low": low, "high": high}, sampling=sampling, beta=0.1, seed=seed)
    before = evaluate_rewards(model, objective.settings, PROMPTS, None, samples_per_prompt=200, seed=seed).rewards[0]
    config = TrainerConfig(
        steps=60,
        batch_size=32,
        preferences_per_step=4,
        learning_rate=5e-3,
        log_every=20,
        progress=False,
        seed=seed,
        cpu=True,
    )
    history = ParetoTrainer(model, objective, Linear(), train_data=PROMPTS * 8, config=config).train()
    assert all(0 < entry["labelled/low"] <= 1 for entry in history)
    preferences = torch.cat([CORNERS, torch.tensor([[0.5, 0.5]])])
    front = reward_front(model, objective.settings, PROMPTS, preferences, samples_per_prompt=200)
    at_corners = torch.as_tensor(front.values)[:2]
    own, other = at_corners.diag(), at_corners.flip(0).diag()
    assert (own > before + 0.15).all(), f"{before} to {at_corners}"
    assert (own > other + 0.3).all(), f"{at_corners}"
    middle = torch.as_tensor(front.values)[2]
    assert ((middle > other - 0.05) & (middle < own + 0.05)).all(), f"{middle} between {at_corners}"


def test_each_reward_is_best_at_its_corner(make_llama):
    assert_each_reward_is_best_at_its_corner(make_llama, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_reward_is_best_at_its_corner_whatever_the_seed(seed, make_llama):
    assert_each_reward_is_best_at_its_corner(make_llama, seed)
