"""What every algorithm shares, and what none may do."""

import pytest
import torch
from _tensors import tensor, tolerance
from policy_gradient_inputs import make_groups

from mopref.llm.policy_gradient import ALGORITHMS, GRPO, PPO, RLOO, Advantages, PolicyGradient
from mopref.llm.policy_gradient.algorithm import over_spread, relative_advantages, sums_to_go

RELATIVE = [RLOO(), GRPO()]
ALL = [*RELATIVE, PPO()]


def test_sums_to_go():
    values = tensor([[1.0, 2.0, 3.0], [0.5, -0.5, 0.0]])
    torch.testing.assert_close(sums_to_go(values), tensor([[6.0, 5.0, 3.0], [0.0, -0.5, 0.0]]))


def test_deviations_over_their_spread():
    centred, spread = tensor([[-3.0, 0.0], [3.0, 0.0]]), tensor([[2.0, 0.0]])
    torch.testing.assert_close(over_spread(centred, spread), tensor([[-1.5, 0.0], [1.5, 0.0]]))


@pytest.mark.parametrize("normalize", [False, True])
def test_relative_advantages_equal_the_loop(normalize):
    groups, beta = make_groups(), 0.3
    values = relative_advantages(groups, beta, normalize)
    assert values.shape == (2, 3, 4, 5, 2)
    for g, p, s, t, i in torch.cartesian_prod(*(torch.arange(n) for n in values.shape)).tolist():
        rewards = groups.scaled_rewards[g, p, :, i]
        reward = (rewards[s] - rewards.mean()) / (rewards.std() if normalize else 1.0)
        to_go = groups.log_ratios[g, p, :, t:].sum(dim=1)
        expected = reward - beta * (to_go[s] - to_go.mean())
        assert values[g, p, s, t, i].item() == pytest.approx(expected.item(), abs=tolerance(1e-6))


@pytest.mark.parametrize("algorithm", RELATIVE)
def test_shifting_a_reward_changes_nothing_and_scaling_nothing_that_is_normalised(algorithm):
    groups = make_groups()
    moved = groups._replace(scaled_rewards=groups.scaled_rewards * tensor([1.0, 100.0]) + tensor([5.0, -3.0]))
    for normalize in (False, True):
        plain = algorithm.advantages(groups, 0.0, normalize).values
        other = algorithm.advantages(moved, 0.0, normalize).values
        torch.testing.assert_close(
            other, plain * tensor([1.0, 1.0 if normalize else 100.0]), atol=tolerance(1e-6), rtol=tolerance(1e-6)
        )


@pytest.mark.parametrize("algorithm", RELATIVE)
def test_equal_rewards_teach_nothing(algorithm):
    groups = make_groups()
    constant = groups._replace(
        scaled_rewards=torch.full_like(groups.scaled_rewards, 0.7), log_ratios=torch.zeros_like(groups.log_ratios)
    )
    assert algorithm.advantages(constant, 0.5, False).values.abs().max() < 1e-6
    if groups.scaled_rewards.dtype == torch.float64:
        assert algorithm.advantages(constant, 0.5, True).values.abs().max() < 1e-6


@pytest.mark.parametrize("algorithm", ALL)
def test_preferences_do_not_look_at_each_other(algorithm):
    """Changing what one preference's rollouts earned leaves the other preference's advantages alone."""
    groups = make_groups()
    rewards = groups.scaled_rewards.clone()
    rewards[1] += make_groups(seed=3).scaled_rewards[1]
    changed = groups._replace(scaled_rewards=rewards)
    for normalize in (False, True):
        before = algorithm.advantages(groups, 0.2, normalize).values
        after = algorithm.advantages(changed, 0.2, normalize).values
        torch.testing.assert_close(after[0], before[0])
        assert (after[1] - before[1]).abs().max() > 0.1


@pytest.mark.parametrize("algorithm", RELATIVE)
def test_prompts_do_not_look_at_each_other(algorithm):
    groups = make_groups()
    alone = algorithm.advantages(groups._replace(**{n: v[:, 1:2] for n, v in groups._asdict().items()}), 0.2, True)
    together = algorithm.advantages(groups, 0.2, True)
    torch.testing.assert_close(alone.values, together.values[:, 1:2])


@pytest.mark.parametrize("algorithm", ALL)
def test_objectives_do_not_look_at_each_other(algorithm):
    """Objective i's advantages with the others there are those without: a permutation and a part of them."""
    groups, order = make_groups(m=3), [2, 0]
    parts = groups._replace(scaled_rewards=groups.scaled_rewards[..., order], values=groups.values[..., order])
    for normalize in (False, True):
        expected = algorithm.advantages(groups, 0.2, normalize).values[..., order]
        torch.testing.assert_close(algorithm.advantages(parts, 0.2, normalize).values, expected)


@pytest.mark.parametrize("algorithm", ALL)
def test_inputs_stay_as_they_are(algorithm):
    groups = make_groups()
    before = [part.clone() for part in groups]
    algorithm.advantages(groups, 0.1, True)
    for part, copied in zip(groups, before, strict=True):
        assert torch.equal(part, copied)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RLOO(epochs=0), "epochs is 0: it must be at least 1"),
        (lambda: GRPO(minibatches=0), "minibatches is 0: it must be at least 1"),
        (lambda: GRPO(clip_range=0.0), r"clip_range is 0\.0: it must be positive"),
        (lambda: RLOO(clip_range=float("nan")), "clip_range is nan: it must be positive"),
    ],
)
def test_settings_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_updates_count_epochs_and_minibatches():
    assert PPO(epochs=3, minibatches=2).updates == 6
    assert RLOO().updates == 1


def test_algorithms_by_name():
    assert set(ALGORITHMS) == {"rloo", "grpo", "ppo"}
    assert all(issubclass(algorithm, PolicyGradient) for algorithm in ALGORITHMS.values())
    assert ALGORITHMS.make("grpo", epochs=3) == GRPO(epochs=3)
    own = PPO(epochs=7)
    assert ALGORITHMS.make(own) is own
    with pytest.raises(ValueError, match="unknown algorithm 'reinforce': choose one of grpo, ppo, rloo"):
        ALGORITHMS.make("reinforce")


def test_a_new_algorithm_implements_advantages_only():
    class Rewards(PolicyGradient):
        def advantages(self, groups, beta, normalize):
            return Advantages(groups.scaled_rewards.unsqueeze(-2).expand(*groups.mask.shape, -1))

    assert Rewards(minibatches=2).updates == 2
    assert not Rewards.needs_critic
    assert Rewards().advantages(make_groups(), 0.1, False).values.shape == (2, 3, 4, 5, 2)
    with pytest.raises(NotImplementedError, match="Rewards has no critic"):
        Rewards().critic_loss(*[torch.zeros(1, 1, 1)] * 3, torch.ones(1, 1, dtype=torch.bool))
