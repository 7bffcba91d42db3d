"""RLOO: by hand, and against a plain loop over samples."""

import pytest
import torch
from _tensors import tensor, tolerance
from policy_gradient_inputs import make_groups

from mopref.llm.policy_gradient import RLOO, RolloutGroups
from mopref.llm.policy_gradient.algorithm import ALGORITHMS


def test_by_hand():
    """Rewards 1, 2, 6: the others' means are 4, 3.5, 1.5."""
    groups = RolloutGroups(
        scaled_rewards=tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1),
        log_ratios=tensor([[0.1, 0.2], [0.3, 0.0], [0.0, 0.4]]).view(1, 1, 3, 2),
        mask=tensor([[True] * 2] * 3, torch.bool).view(1, 1, 3, 2),
    )
    values = RLOO().advantages(groups, beta=2.0, normalize=False).values.view(3, 2)
    # To go: (.3, .2), (.3, 0), (.4, .4); others' means at the first token .35, .35, .3, at the second .2, .3, .1.
    expected = [[-3 - 2 * -0.05, -3 - 2 * 0.0], [-1.5 - 2 * -0.05, -1.5 - 2 * -0.3], [4.5 - 2 * 0.1, 4.5 - 2 * 0.3]]
    torch.testing.assert_close(values, tensor(expected))


@pytest.mark.parametrize("normalize", [False, True])
def test_equals_the_loop(normalize):
    groups, beta = make_groups(), 0.3
    advantages = RLOO().advantages(groups, beta, normalize)
    assert advantages.returns is None
    _, _, samples, m = groups.scaled_rewards.shape
    for g, p, s in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, samples))).tolist():
        rewards, ratios = groups.scaled_rewards[g, p].tolist(), groups.log_ratios[g, p].tolist()
        rivals = [other for other in range(samples) if other != s]
        for i in range(m):
            column = [row[i] for row in rewards]
            mean, average = sum(column[other] for other in rivals) / len(rivals), sum(column) / samples
            spread = (sum((r - average) ** 2 for r in column) / (samples - 1)) ** 0.5
            reward = (column[s] - mean) / (spread if normalize else 1.0)
            for t in range(len(ratios[s])):
                others = sum(sum(ratios[other][t:]) for other in rivals) / len(rivals)
                expected = reward - beta * (sum(ratios[s][t:]) - others)
                assert advantages.values[g, p, s, t, i].item() == pytest.approx(expected, abs=tolerance(1e-6))


def test_needs_two_samples():
    assert RLOO.fewest_samples == 2
    assert not RLOO.needs_critic


def test_it_is_known_by_its_name():
    assert ALGORITHMS.find("rloo") is RLOO
    assert repr(RLOO()).startswith("RLOO(epochs=")
    assert RLOO() == RLOO()
