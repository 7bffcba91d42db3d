"""An experience: a rollout judged by an algorithm, and cut into minibatches that miss nothing."""

import pytest
import torch
from policy_gradient_inputs import make_rollout

from mopref.llm.policy_gradient import GRPO, PPO, RLOO, Advantages, PolicyGradient
from mopref.llm.policy_gradient.experience import judge

SCALES = torch.tensor([2.0, 0.5], dtype=torch.float64)


class Probe(PolicyGradient):
    """Keeps what it is asked about; its advantages name the group, prompt, sample and token."""

    def advantages(self, groups, beta, normalize):
        object.__setattr__(self, "asked", (groups, beta, normalize))
        g, p, s, r = groups.mask.shape
        numbers = torch.arange(g * p * s * r, dtype=torch.float64).view(g, p, s, r, 1)
        return Advantages(numbers.expand(-1, -1, -1, -1, 2), -numbers.expand(-1, -1, -1, -1, 2))


def judged(rollout, algorithm, groups=2, beta=0.3, normalize=False, scales=SCALES, samples=3):
    return judge(
        rollout,
        algorithm,
        groups=groups,
        samples_per_prompt=samples,
        reward_scales=scales,
        beta=beta,
        normalize=normalize,
    )


def test_an_algorithm_sees_groups_of_scaled_rewards_in_float64():
    rollout, probe = make_rollout(values=True), Probe()
    judged(rollout, probe, normalize=True)
    groups, beta, normalize = probe.asked
    assert (beta, normalize) == (0.3, True)
    assert groups.scaled_rewards.shape == (2, 2, 3, 2)
    assert groups.values.shape == (2, 2, 3, 4, 2)
    for row in range(12):
        place = (row // 6, row // 3 % 2, row % 3)
        torch.testing.assert_close(groups.scaled_rewards[place], rollout.rewards[row] / SCALES)
        ratios = (rollout.log_probabilities - rollout.reference_log_probabilities)[row].double()
        torch.testing.assert_close(groups.log_ratios[place], ratios)
        assert torch.equal(groups.mask[place], rollout.sequences.response_mask[row])
        assert torch.equal(groups.values[place], rollout.values[row].double())
    assert {part.dtype for part in (groups.scaled_rewards, groups.log_ratios, groups.values)} == {torch.float64}


def test_advantages_and_returns_come_back_row_by_row():
    experience = judged(make_rollout(), Probe())
    expected = torch.arange(48.0).view(12, 4, 1).expand(-1, -1, 2)
    assert torch.equal(experience.advantages, expected)
    assert torch.equal(experience.returns, -expected)
    assert experience.advantages.dtype == torch.float32, "as the log-probabilities"
    assert judged(make_rollout(), RLOO()).returns is None


def test_estimates_are_the_means_of_scaled_rewards_less_beta_kl():
    rollout = make_rollout()
    experience = judged(rollout, GRPO())
    kl = (rollout.log_probabilities - rollout.reference_log_probabilities).double().sum(dim=1)
    for group in range(2):
        rows = slice(6 * group, 6 * group + 6)
        for i in range(2):
            expected = (rollout.rewards[rows, i] / SCALES[i] - 0.3 * kl[rows]).mean()
            assert experience.estimates[group, i].item() == pytest.approx(expected.item(), rel=1e-6)


def test_without_a_reference_the_kl_is_0():
    rollout = make_rollout()._replace(reference_log_probabilities=None)
    same = rollout._replace(reference_log_probabilities=rollout.log_probabilities)
    for part, expected in zip(judged(rollout, RLOO())[1:], judged(same, RLOO())[1:], strict=True):
        assert (part is expected) or torch.equal(part, expected)


def test_one_minibatch_is_the_whole():
    experience = judged(make_rollout(), RLOO())
    (part,) = experience.minibatches(1, samples_per_prompt=3)
    assert part is experience


@pytest.mark.parametrize("count", [2, 4])
def test_minibatches_have_prompts_of_every_preference_and_each_response_once(count):
    rollout = make_rollout(prompts=4, values=True)
    experience = judged(rollout, PPO())
    parts = experience.minibatches(count, samples_per_prompt=3)
    assert len(parts) == count
    rows = torch.arange(24).view(2, 4, 3)
    for number, part in enumerate(parts):
        prompts = slice(number * 4 // count, (number + 1) * 4 // count)
        indices = rows[:, prompts].reshape(-1)
        assert torch.equal(part.advantages, experience.advantages[indices])
        assert torch.equal(part.returns, experience.returns[indices])
        assert torch.equal(part.rollout.rewards, rollout.rewards[indices])
        assert torch.equal(part.rollout.values, rollout.values[indices])
        assert torch.equal(part.rollout.sequences.input_ids, rollout.sequences.input_ids[indices])
        assert torch.equal(part.rollout.log_probabilities, rollout.log_probabilities[indices])
        assert torch.equal(part.estimates, experience.estimates), "of the whole rollout"


def test_minibatches_that_cannot_be_even():
    experience = judged(make_rollout(), RLOO())
    with pytest.raises(ValueError, match="each preference has 2 prompts, which cannot be cut into 3 even minibatches"):
        experience.minibatches(3, samples_per_prompt=3)


def test_rows_without_returns():
    experience = judged(make_rollout(), RLOO()).rows(torch.tensor([5, 1]))
    assert experience.returns is None
    assert experience.rollout.values is None
    assert experience.advantages.shape == (2, 4, 2)


def test_advantages_of_an_engines_tokens_are_weighted_and_returns_are_not():
    rollout = make_rollout(values=True)
    shift = torch.linspace(-1, 1, 4).expand_as(rollout.log_probabilities)
    weighted = judge_with(rollout._replace(engine_log_probabilities=rollout.log_probabilities - shift))
    plain = judge_with(rollout)
    weights = shift.exp().clamp(max=1.5).unsqueeze(-1)
    torch.testing.assert_close(weighted.advantages, weights * plain.advantages)
    assert torch.equal(weighted.returns, plain.returns)
    assert torch.equal(weighted.estimates, plain.estimates)


def judge_with(rollout):
    options = {"groups": 2, "samples_per_prompt": 3, "reward_scales": SCALES, "beta": 0.3, "normalize": False}
    return judge(rollout, Probe(), **options, importance_limit=1.5)
