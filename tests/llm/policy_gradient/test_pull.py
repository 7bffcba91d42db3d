"""The pull as an objective of its own: a weight of it is a β, its values and advantages by themselves, refusals."""

import pytest
import torch
from _tensors import tensor
from policy_gradient_inputs import make_groups, make_rollout

from mopref.llm.policy_gradient import GRPO, PPO, RLOO
from mopref.llm.policy_gradient.experience import judge
from mopref.llm.policy_gradient.pull import advantages_apart, check_scales, checked_pull, objective_values
from mopref.llm.policy_gradient.surrogate import policy_losses

SCALES = torch.tensor([2.0, 0.5], dtype=torch.float64)
BALANCES = torch.tensor([[0.3, 0.7], [1.0, 0.0]])


def judged(rollout, algorithm, beta=0.3, **options):
    """An experience of two preferences, two prompts for each and three samples for each prompt."""
    shape = {"groups": 2, "samples_per_prompt": 3, "reward_scales": SCALES}
    return judge(rollout, algorithm, **shape, beta=beta, normalize=False, **options)


def loss_and_gradient(experience, weights):
    """Σ_i w_i loss_i, and its gradient in log π of a policy that has moved, so that some tokens are clipped."""
    rollout = experience.rollout
    moved = rollout.log_probabilities + torch.linspace(-0.8, 0.8, 4)
    log_probabilities = moved.requires_grad_()
    mask = rollout.sequences.response_mask
    judged_by = (rollout.log_probabilities, experience.advantages, mask, experience.estimates, 0.2)
    loss = (weights * policy_losses(log_probabilities, *judged_by)).sum(dim=1)
    loss.sum().backward()
    return loss.detach(), log_probabilities.grad


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("algorithm", [RLOO(), GRPO(), PPO(), PPO(gae_lambda=0.5, discount=0.9)])
def test_a_weight_of_the_pull_is_a_beta(algorithm, share):
    """At (λ·(1 − c), c): 1 − c times the loss and gradient without a pull at λ and β·c/(1 − c), on scaled rewards.

    The other critic's values are those of the reward and, c/(1 − c) times, those of the pull.
    """
    ratio = share / (1 - share)
    rollout = make_rollout(m=2, values=True)._replace(values=make_rollout(m=3, values=True).values)
    rewards, pull = rollout.values.split([2, 1], dim=-1)
    rollout = rollout._replace(engine_log_probabilities=rollout.log_probabilities - torch.linspace(-1, 1, 4))
    options = {"importance_limit": 1.5}
    cone = judged(rollout, algorithm, pull="close", **options)
    plain = judged(rollout._replace(values=rewards + ratio * pull), algorithm, beta=0.3 * ratio, **options)
    assert cone.advantages.shape == (12, 4, 3)
    weights = torch.cat([BALANCES * (1 - share), torch.full((2, 1), share)], dim=1)
    loss, gradient = loss_and_gradient(cone, weights)
    expected_loss, expected_gradient = loss_and_gradient(plain, BALANCES)
    torch.testing.assert_close(loss, (1 - share) * expected_loss, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient, (1 - share) * expected_gradient, atol=1e-6, rtol=1e-5)
    tokens = rollout.sequences.response_mask
    assert 0 < (gradient[tokens] == 0).sum() < tokens.sum(), "some tokens are clipped and some are not"


@pytest.mark.parametrize("algorithm", [RLOO(), GRPO(), PPO()])
def test_only_the_last_objective_knows_the_reference(algorithm):
    """The others' advantages are those without a penalty, whatever β; the last's grow with β and know no reward."""
    rollout = make_rollout(m=2, values=True)._replace(values=torch.zeros(12, 4, 3))
    weak, strong = (judged(rollout, algorithm, beta=beta, pull="close") for beta in (0.3, 3.0))
    alone = judged(rollout._replace(values=torch.zeros(12, 4, 2)), algorithm, beta=0.0)
    for part, expected in ((weak, alone), (strong, alone)):
        assert torch.equal(part.advantages[..., :2], expected.advantages)
        assert torch.equal(part.estimates[:, :2], expected.estimates)
    torch.testing.assert_close(strong.advantages[..., 2], 10 * weak.advantages[..., 2])
    torch.testing.assert_close(strong.estimates[:, 2], 10 * weak.estimates[:, 2])
    assert weak.advantages[..., 2].abs().max() > 0.01
    other = judged(rollout._replace(rewards=rollout.rewards.flip(0)), algorithm, beta=0.3, pull="close")
    assert torch.equal(other.advantages[..., 2], weak.advantages[..., 2])
    assert not torch.equal(other.advantages[..., :2], weak.advantages[..., :2])
    if algorithm.needs_critic:
        assert weak.returns.shape == (12, 4, 3)
        assert torch.equal(weak.returns[..., :2], alone.returns)


def test_the_pulls_estimate_is_minus_beta_kl():
    rollout = make_rollout()
    estimates = judged(rollout, GRPO(), pull="close").estimates
    kl = (rollout.log_probabilities - rollout.reference_log_probabilities).double().sum(dim=1)
    expected = -0.3 * kl.view(2, 6).mean(dim=1)
    torch.testing.assert_close(estimates[:, 2].double(), expected, atol=1e-6, rtol=1e-6)


# The parts.


@pytest.mark.parametrize("pull", [None, "close"])
def test_values_of_a_row(pull):
    rewards, kl = tensor([[1.0, -2.0], [0.5, 3.0]]), tensor([0.4, -0.1])
    expected = [[1.0 - 0.2, -2.0 - 0.2], [0.5 + 0.05, 3.0 + 0.05]] if pull is None else [[1, -2, -0.2], [0.5, 3, 0.05]]
    torch.testing.assert_close(objective_values(rewards, kl, 0.5, pull), tensor(expected))


@pytest.mark.parametrize("normalize", [False, True])
def test_advantages_are_those_of_two_calls(normalize):
    """Normalised, too, as an algorithm of one's own may be; no group is changed."""
    groups = make_groups(m=2)
    apart = advantages_apart(RLOO(), groups._replace(values=None), 0.3, normalize)
    assert apart.returns is None
    assert apart.values.shape == (2, 3, 4, 5, 3)
    alone = RLOO().advantages(groups, 0.0, normalize).values
    torch.testing.assert_close(apart.values[..., :2], alone)
    both = RLOO().advantages(groups, 0.3, normalize).values
    torch.testing.assert_close(apart.values[..., :2] + apart.values[..., 2:], both)
    assert groups.scaled_rewards.shape[-1] == 2


@pytest.mark.parametrize("pull", [None, "close", "near to the base"])
def test_names_that_can_be(pull):
    assert checked_pull(pull, {"length": None, "even": None}) == pull


@pytest.mark.parametrize(
    ("pull", "error", "message"),
    [
        ("even", ValueError, "pull is 'even', which is the name of a reward: choose another name"),
        ("kl", ValueError, "pull is 'kl', which fronts call the KL itself: choose another name"),
        ("", ValueError, "pull is '', which names nothing"),
        ("a\x1b", ValueError, "pull hold .* which has control characters"),
        (3, TypeError, "pull is 3"),
        (True, TypeError, "pull is True"),
    ],
)
def test_names_that_cannot_be(pull, error, message):
    with pytest.raises(error, match=message):
        checked_pull(pull, ("length", "even"))


@pytest.mark.parametrize(("normalization", "beta"), [("running", 0.1), (None, 0.1)])
def test_scales_that_can_be(normalization, beta):
    check_scales(normalization, beta, "close")
    check_scales("group", 0.0, None)


@pytest.mark.parametrize(
    ("normalization", "beta", "pull", "message"),
    [
        ("batch", 0.1, None, "unknown normalization 'batch': choose 'running', 'group' or None"),
        ("running", 0.0, "close", r"beta is 0\.0, and pull 'close' is β·KL, which would be 0: give beta > 0"),
        ("group", 0.1, "close", "normalization is 'group', and pull is 'close': .* choose 'running', or none"),
    ],
)
def test_scales_that_cannot_be(normalization, beta, pull, message):
    with pytest.raises(ValueError, match=message):
        check_scales(normalization, beta, pull)
