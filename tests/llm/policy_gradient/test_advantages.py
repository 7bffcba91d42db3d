"""Advantages of RLOO, GRPO and PPO: by hand, against plain loops, and what no algorithm may do."""

import pytest
import torch

from mopref.llm.policy_gradient import ALGORITHMS, GRPO, PPO, RLOO, Experience, PolicyGradient
from mopref.llm.policy_gradient.algorithm import sums_to_go
from mopref.llm.policy_gradient.ppo import generalized_advantages, value_loss


def make_experience(
    groups: int = 2, prompts: int = 3, samples: int = 4, tokens: int = 5, m: int = 2, seed: int = 0
) -> Experience:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, tokens + 1, (groups, prompts, samples), generator=generator)
    mask = torch.arange(tokens) < lengths.unsqueeze(-1)
    return Experience(
        rewards=draw(groups, prompts, samples, m),
        log_ratios=draw(groups, prompts, samples, tokens) * mask,
        mask=mask,
        values=draw(groups, prompts, samples, tokens, m) * mask.unsqueeze(-1),
    )


def test_rloo_by_hand():
    """Rewards 1, 2, 6: the others' means are 4, 3.5, 1.5."""
    experience = Experience(
        rewards=torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1),
        log_ratios=torch.tensor([[0.1, 0.2], [0.3, 0.0], [0.0, 0.4]]).view(1, 1, 3, 2),
        mask=torch.ones(1, 1, 3, 2, dtype=torch.bool),
    )
    found = RLOO().advantages(experience, beta=2.0, normalize=False).values.view(3, 2)
    # To go: (.3, .2), (.3, 0), (.4, .4); others' means at the first token .35, .35, .3, at the second .2, .3, .1.
    expected = [[-3 - 2 * -0.05, -3 - 2 * 0.0], [-1.5 - 2 * -0.05, -1.5 - 2 * -0.3], [4.5 - 2 * 0.1, 4.5 - 2 * 0.3]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_grpo_by_hand():
    """Rewards 1, 2, 6: mean 3, standard deviation √7."""
    experience = Experience(
        rewards=torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64).view(1, 1, 3, 1),
        log_ratios=torch.zeros(1, 1, 3, 1).double(),
        mask=torch.ones(1, 1, 3, 1, dtype=torch.bool),
    )
    found = GRPO().advantages(experience, beta=1.0, normalize=True).values.flatten()
    torch.testing.assert_close(found, torch.tensor([-2.0, -1.0, 3.0]).double() / 7**0.5)


@pytest.mark.parametrize("algorithm", [RLOO(), GRPO()])
@pytest.mark.parametrize("normalize", [False, True])
def test_group_methods_equal_the_loop(algorithm, normalize):
    experience, beta = make_experience(), 0.3
    found = algorithm.advantages(experience, beta, normalize).values
    groups, prompts, samples, m = experience.rewards.shape
    for g in range(groups):
        for p in range(prompts):
            rewards = experience.rewards[g, p].tolist()
            ratios = experience.log_ratios[g, p].tolist()
            for s in range(samples):
                rivals = [o for o in range(samples) if o != s] if isinstance(algorithm, RLOO) else range(samples)
                for i in range(m):
                    column = [row[i] for row in rewards]
                    mean = sum(column[o] for o in rivals) / len(rivals)
                    average = sum(column) / samples
                    spread = (sum((r - average) ** 2 for r in column) / (samples - 1)) ** 0.5
                    reward = (column[s] - mean) / (spread if normalize else 1.0)
                    for t in range(len(ratios[s])):
                        others = sum(sum(ratios[o][t:]) for o in rivals) / len(rivals)
                        expected = reward - beta * (sum(ratios[s][t:]) - others)
                        assert found[g, p, s, t, i].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("algorithm", [RLOO(), GRPO()])
def test_shifting_a_reward_changes_nothing_and_scaling_nothing_that_is_normalised(algorithm):
    experience = make_experience()
    moved = experience._replace(rewards=experience.rewards * torch.tensor([1.0, 100.0]) + torch.tensor([5.0, -3.0]))
    for normalize in (False, True):
        plain = algorithm.advantages(experience, 0.0, normalize).values
        other = algorithm.advantages(moved, 0.0, normalize).values
        torch.testing.assert_close(other, plain * torch.tensor([1.0, 1.0 if normalize else 100.0]))


@pytest.mark.parametrize("algorithm", [RLOO(), GRPO()])
def test_equal_rewards_teach_nothing(algorithm):
    experience = make_experience()
    constant = experience._replace(
        rewards=torch.full_like(experience.rewards, 0.7), log_ratios=torch.zeros_like(experience.log_ratios)
    )
    assert algorithm.advantages(constant, 0.5, True).values.abs().max() < 1e-6


@pytest.mark.parametrize("algorithm", [RLOO(), GRPO(), PPO()])
def test_preferences_do_not_look_at_each_other(algorithm):
    """Changing what one preference's rollouts earned leaves the other preference's advantages alone."""
    experience = make_experience()
    rewards = experience.rewards.clone()
    rewards[1] += torch.randn(rewards[1].shape, generator=torch.Generator().manual_seed(3), dtype=rewards.dtype)
    changed = experience._replace(rewards=rewards)
    for normalize in (False, True):
        before = algorithm.advantages(experience, 0.2, normalize).values
        after = algorithm.advantages(changed, 0.2, normalize).values
        torch.testing.assert_close(after[0], before[0])
        assert (after[1] - before[1]).abs().max() > 0.1


def test_ppo_equals_the_loop():
    experience, beta, discount, decay = make_experience(), 0.3, 0.9, 0.7
    found = PPO(discount=discount, gae_lambda=decay).advantages(experience, beta, normalize=False)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in experience.rewards.shape)).tolist():
        g, p, s, i = index
        length = int(experience.mask[g, p, s].sum())
        values = [*experience.values[g, p, s, :length, i].tolist(), 0.0]
        rewards = [-beta * d for d in experience.log_ratios[g, p, s, :length].tolist()]
        rewards[-1] += experience.rewards[g, p, s, i].item()
        deltas = [rewards[t] + discount * values[t + 1] - values[t] for t in range(length)]
        for t in range(experience.mask.shape[-1]):
            expected = sum((discount * decay) ** (u - t) * deltas[u] for u in range(t, length))
            assert found.values[g, p, s, t, i].item() == pytest.approx(expected, abs=1e-9)
            if t < length:
                assert found.returns[g, p, s, t, i].item() == pytest.approx(expected + values[t], abs=1e-9)


def test_a_lambda_of_one_gives_return_minus_value():
    experience = make_experience()
    found = PPO(gae_lambda=1.0).advantages(experience, 0.3, normalize=False)
    to_go = experience.rewards.unsqueeze(-2) - 0.3 * sums_to_go(experience.log_ratios).unsqueeze(-1)
    expected = (to_go - experience.values) * experience.mask.unsqueeze(-1)
    torch.testing.assert_close(found.values, expected)


def test_normalised_ppo_advantages_have_mean_0_and_deviation_1_over_real_tokens():
    experience = make_experience(samples=1, prompts=6)
    found = PPO().advantages(experience, 0.3, normalize=True)
    for g in range(2):
        tokens = found.values[g][experience.mask[g]]
        torch.testing.assert_close(tokens.mean(dim=0), torch.zeros(2).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(tokens.std(dim=0, unbiased=False), torch.ones(2).double(), atol=1e-6, rtol=0)
        assert (found.values[g][~experience.mask[g]] == 0).all()
    plain = PPO().advantages(experience, 0.3, normalize=False)
    torch.testing.assert_close(found.returns, plain.returns)


def test_value_loss_by_hand():
    """Unclipped (1 − 3)² = 4; clipped value .5 + .2 = .7, (.7 − 3)² = 5.29; towards the return, so the clip binds."""
    values = torch.tensor([[[1.0]], [[0.6]]])
    old, returns = torch.tensor([[[0.5]], [[0.5]]]), torch.tensor([[[3.0]], [[3.0]]])
    mask = torch.ones(2, 1, dtype=torch.bool)
    assert value_loss(values, old, returns, mask, 0.2).item() == pytest.approx(0.5 * (5.29 + 2.4**2) / 2)
    assert value_loss(values, old, returns, mask, None).item() == pytest.approx(0.5 * (4 + 2.4**2) / 2)
    first = torch.tensor([[True], [False]])
    assert value_loss(values, old, returns, first, None).item() == pytest.approx(2.0)


def test_a_clipped_value_has_no_gradient():
    values = torch.tensor([[[1.0]]], requires_grad=True)
    loss = value_loss(values, torch.tensor([[[0.5]]]), torch.tensor([[[3.0]]]), torch.tensor([[True]]), 0.2)
    loss.backward()
    assert values.grad.item() == 0.0


def test_gae_leaves_its_inputs_alone():
    experience = make_experience()
    before = [part.clone() for part in experience]
    for algorithm in (RLOO(), GRPO(), PPO()):
        algorithm.advantages(experience, 0.1, True)
    for part, kept in zip(experience, before, strict=True):
        assert torch.equal(part, kept)
    rewards = experience.values.clone()
    generalized_advantages(rewards, experience.values, experience.mask, 1.0, 0.9)
    assert torch.equal(rewards, experience.values)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: RLOO(epochs=0), "epochs"),
        (lambda: GRPO(minibatches=0), "minibatches"),
        (lambda: GRPO(clip_range=0.0), "clip_range"),
        (lambda: PPO(discount=0.0), "discount"),
        (lambda: PPO(gae_lambda=1.5), "gae_lambda"),
        (lambda: PPO(value_clip_range=-1.0), "value_clip_range"),
        (lambda: PPO(value_coefficient=0.0), "value_coefficient"),
    ],
)
def test_settings_out_of_range_are_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_updates_count_epochs_and_minibatches():
    assert PPO(epochs=3, minibatches=2).updates == 6
    assert all(issubclass(algorithm, PolicyGradient) for algorithm in ALGORITHMS.values())
