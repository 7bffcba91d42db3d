"""RewardWarnings: spreads of unlike size and outliers are told once, and what is ordinary is not."""

import warnings

import pytest
import torch

from mopref.llm.policy_gradient.reward_warnings import RewardWarnings
from mopref.llm.rewards.running_scale import RunningScale


def rollouts(*factors: float, count: int = 30, rows: int = 16, seed: int = 0) -> list[torch.Tensor]:
    """Normal rewards with these standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor(factors, dtype=torch.float64)
    return [torch.randn(rows, len(factors), generator=generator, dtype=torch.float64) * scale for _ in range(count)]


def said(rewards: list[torch.Tensor], running: bool) -> list[str]:
    """What is said of rollouts, with or without the running scale."""
    m = rewards[0].shape[1]
    watch, scale = RewardWarnings([f"r{i}" for i in range(m)]), RunningScale(m)
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        for values in rewards:
            if running:
                scale.observe(values)
            watch.see(values, scale.deviations, "running" if running else None)
    return [str(record.message) for record in records]


@pytest.mark.parametrize(
    ("factors", "high", "low"),
    [((1000.0, 1.0), "r0", "r1"), ((1.0, 0.004), "r0", "r1"), ((1.0, 5.0, 800.0), "r2", "r0")],
)
def test_a_reward_that_drowns_another_is_told_once(factors, high, low):
    (message,) = said(rollouts(*factors), running=False)
    assert message.startswith(f"the reward {high!r} varies ")
    assert f"times as much as {low!r}" in message
    assert "normalization='running'" in message


@pytest.mark.parametrize("factors", [(1.0, 1.0), (20.0, 1.0), (1.0,), (3.0, 40.0, 1.0)])
@pytest.mark.parametrize("running", [False, True])
def test_ordinary_spreads_are_not(factors, running):
    assert not said(rollouts(*factors), running)


def test_a_running_scale_cures_it():
    assert not said(rollouts(1000.0, 1.0), running=True)


def test_an_outlier_that_sets_the_scale_is_told_once():
    rewards = rollouts(1.0, 1.0)
    rewards[0][3, 0] = 1e6
    (message,) = said(rewards, running=True)
    assert message.startswith("the reward 'r0' is divided by ")
    assert "an outlier has flattened it" in message


def test_an_outlier_in_a_single_reward_too():
    rewards = rollouts(1.0)
    rewards[2][0, 0] = -1e6
    assert len(said(rewards, running=True)) == 1


def test_outliers_of_an_ordinary_size_are_not():
    rewards = rollouts(1.0, 1.0)
    rewards[0][3, 0] = 50.0
    assert not said(rewards, running=True)


def test_rewards_that_never_vary_have_another_warning():
    assert not said(rollouts(0.0, 1.0), running=False)
    assert not said(rollouts(0.0, 0.0), running=True)


def test_rare_rewards_are_not_taken_for_small_ones():
    """A reward of 1 in one response of 100 has no spread in most rollouts."""
    rewards = rollouts(1.0, 1.0, count=60)
    for number, values in enumerate(rewards):
        values[:, 1] = 0.0
        if number % 6 == 0:
            values[0, 1] = 1.0
    assert not said(rewards, running=True)
    assert not said(rewards, running=False)


def test_single_responses_say_nothing():
    assert not said(rollouts(1000.0, 1.0, rows=1), running=False)


def test_nothing_is_said_before_there_is_enough_to_go_by():
    assert not said(rollouts(1000.0, 1.0, count=7), running=False)
    assert said(rollouts(1000.0, 1.0, count=8), running=False)
