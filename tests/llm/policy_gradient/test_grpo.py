"""GRPO: by hand, and against a plain loop over samples."""

import pytest
import torch
from _tensors import tensor, tolerance
from policy_gradient_inputs import make_groups, one_token_groups

from mopref.llm.policy_gradient import GRPO
from mopref.llm.policy_gradient.algorithm import ALGORITHMS


def test_by_hand():
    """Rewards 1, 2, 6: mean 3, standard deviation √7."""
    values = GRPO().advantages(one_token_groups([1.0, 2.0, 6.0]), beta=1.0, normalize=True).values.flatten()
    torch.testing.assert_close(values, tensor([-2.0, -1.0, 3.0]) / 7**0.5)


@pytest.mark.parametrize("normalize", [False, True])
def test_equals_the_loop(normalize):
    groups, beta = make_groups(), 0.3
    advantages = GRPO().advantages(groups, beta, normalize)
    assert advantages.returns is None
    _, _, samples, m = groups.scaled_rewards.shape
    for g, p, s in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, samples))).tolist():
        rewards, ratios = groups.scaled_rewards[g, p].tolist(), groups.log_ratios[g, p].tolist()
        for i in range(m):
            column = [row[i] for row in rewards]
            average = sum(column) / samples
            spread = (sum((r - average) ** 2 for r in column) / (samples - 1)) ** 0.5
            reward = (column[s] - average) / (spread if normalize else 1.0)
            for t in range(len(ratios[s])):
                mean_to_go = sum(sum(row[t:]) for row in ratios) / samples
                expected = reward - beta * (sum(ratios[s][t:]) - mean_to_go)
                assert advantages.values[g, p, s, t, i].item() == pytest.approx(expected, abs=tolerance(1e-6))


def test_needs_two_samples():
    assert GRPO.fewest_samples == 2
    assert not GRPO.needs_critic


def test_it_is_known_by_its_name():
    assert ALGORITHMS.find("grpo") is GRPO
    assert repr(GRPO()).startswith("GRPO(epochs=")
    assert GRPO() == GRPO()
