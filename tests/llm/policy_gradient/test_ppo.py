"""PPO: advantages against a plain loop over tokens, normalised over real ones, and the critic's loss by hand."""

import math

import pytest
import torch
from _tensors import tensor, tolerance
from policy_gradient_inputs import make_groups

from mopref.llm.policy_gradient import PPO
from mopref.llm.policy_gradient.algorithm import ALGORITHMS, sums_to_go
from mopref.llm.policy_gradient.ppo import generalized_advantages, value_loss


def test_equals_the_loop():
    groups, beta, discount, decay = make_groups(), 0.3, 0.9, 0.7
    advantages = PPO(discount=discount, gae_lambda=decay).advantages(groups, beta, normalize=False)
    close = tolerance(1e-9)
    for g, p, s, i in torch.cartesian_prod(*(torch.arange(n) for n in groups.scaled_rewards.shape)).tolist():
        length = int(groups.mask[g, p, s].sum())
        values = [*groups.values[g, p, s, :length, i].tolist(), 0.0]
        rewards = [-beta * d for d in groups.log_ratios[g, p, s, :length].tolist()]
        rewards[-1] += groups.scaled_rewards[g, p, s, i].item()
        deltas = [rewards[t] + discount * values[t + 1] - values[t] for t in range(length)]
        for t in range(groups.mask.shape[-1]):
            expected = sum((discount * decay) ** (u - t) * deltas[u] for u in range(t, length))
            assert advantages.values[g, p, s, t, i].item() == pytest.approx(expected, abs=close)
            if t < length:
                assert advantages.returns[g, p, s, t, i].item() == pytest.approx(expected + values[t], abs=close)


def test_a_lambda_of_one_gives_return_minus_value():
    groups = make_groups()
    advantages = PPO(gae_lambda=1.0).advantages(groups, 0.3, normalize=False)
    to_go = groups.scaled_rewards.unsqueeze(-2) - 0.3 * sums_to_go(groups.log_ratios).unsqueeze(-1)
    expected = (to_go - groups.values) * groups.mask.unsqueeze(-1)
    torch.testing.assert_close(advantages.values, expected, atol=tolerance(1e-9), rtol=tolerance(1e-9))


def test_values_of_padding_do_not_matter():
    """The critic says something there too."""
    groups = make_groups()
    padded = groups._replace(values=torch.where(groups.mask.unsqueeze(-1), groups.values, 1e3))
    for normalize in (False, True):
        expected = PPO().advantages(groups, 0.3, normalize)
        advantages = PPO().advantages(padded, 0.3, normalize)
        torch.testing.assert_close(advantages.values, expected.values)
        torch.testing.assert_close(advantages.returns[groups.mask], expected.returns[groups.mask])


def test_normalised_advantages_have_mean_0_and_deviation_1_over_real_tokens():
    groups = make_groups(samples=1, prompts=6)
    advantages = PPO().advantages(groups, 0.3, normalize=True)
    for g in range(2):
        tokens = advantages.values[g][groups.mask[g]]
        zeros, ones = tensor([0.0, 0.0]), tensor([1.0, 1.0])
        torch.testing.assert_close(tokens.mean(dim=0), zeros, atol=tolerance(1e-9), rtol=0)
        torch.testing.assert_close(tokens.std(dim=0, unbiased=False), ones, atol=tolerance(1e-6), rtol=0)
        assert (advantages.values[g][~groups.mask[g]] == 0).all()
    plain = PPO().advantages(groups, 0.3, normalize=False)
    torch.testing.assert_close(advantages.returns, plain.returns)


def test_a_response_of_one_token():
    """Nothing follows it: its reward minus its value."""
    advantages = generalized_advantages(tensor([[3.0]]), tensor([[1.0]]), tensor([True], torch.bool), 0.9, 0.8)
    assert advantages.tolist() == [[2.0]]


def test_generalized_advantages_leave_their_inputs_alone():
    groups = make_groups()
    rewards, values = groups.values.clone(), groups.values.clone()
    generalized_advantages(rewards, values, groups.mask, 1.0, 0.9)
    assert torch.equal(rewards, groups.values)
    assert torch.equal(values, groups.values)


def test_value_loss_by_hand():
    """Unclipped (1 − 3)² = 4; clipped value .5 + .2 = .7, (.7 − 3)² = 5.29; towards the return, so the clip binds."""
    values = tensor([[[1.0]], [[0.6]]])
    old, returns = tensor([[[0.5]], [[0.5]]]), tensor([[[3.0]], [[3.0]]])
    mask = tensor([[True], [True]], torch.bool)
    close = tolerance(1e-6)
    assert value_loss(values, old, returns, mask, 0.2).item() == pytest.approx(0.5 * (5.29 + 2.4**2) / 2, rel=close)
    assert value_loss(values, old, returns, mask, None).item() == pytest.approx(0.5 * (4 + 2.4**2) / 2, rel=close)
    first = tensor([[True], [False]], torch.bool)
    assert value_loss(values, old, returns, first, None).item() == pytest.approx(2.0, rel=close)
    assert PPO(value_clip_range=0.2, value_coefficient=3.0).critic_loss(
        values, old, returns, mask
    ).item() == pytest.approx(3 * 0.5 * (5.29 + 2.4**2) / 2, rel=close)


def test_a_clipped_value_has_no_gradient():
    values = tensor([[[1.0]]]).requires_grad_()
    loss = value_loss(values, tensor([[[0.5]]]), tensor([[[3.0]]]), tensor([[True]], torch.bool), 0.2)
    loss.backward()
    assert values.grad.item() == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0: it must be at least 1"),
        ({"discount": 0.0}, r"discount is 0\.0: it lies in \(0, 1\]"),
        ({"discount": 1.1}, r"discount is 1\.1"),
        ({"gae_lambda": 1.5}, r"gae_lambda is 1\.5: it lies in \[0, 1\]"),
        ({"discount": -0.5}, r"discount is -0\.5"),
        ({"gae_lambda": -0.5}, r"gae_lambda is -0\.5"),
        ({"value_clip_range": -1.0}, r"value_clip_range is -1\.0: it must be positive, or None"),
        ({"value_clip_range": 0.0}, r"value_clip_range is 0\.0"),
        ({"value_coefficient": 0.0}, r"value_coefficient is 0\.0: it must be positive"),
        ({"value_coefficient": -0.5}, r"value_coefficient is -0\.5"),
        ({"value_coefficient": math.inf}, "value_coefficient is inf: it must be positive and finite"),
        ({"value_coefficient": math.nan}, "value_coefficient is nan"),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PPO(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"discount": 1.0, "gae_lambda": 1.0},
        {"discount": 1e-3, "gae_lambda": 0.0},
        {"value_clip_range": 1e-3, "value_coefficient": 1e-3},
        {"value_clip_range": math.inf, "value_coefficient": 100.0},
    ],
    ids=str,
)
def test_settings_at_the_ends_of_their_ranges_are_taken(options):
    made = PPO(**options)
    assert {name: getattr(made, name) for name in options} == options


@pytest.mark.parametrize("name", ["discount", "gae_lambda", "value_coefficient", "value_clip_range"])
def test_settings_of_another_type_are_named(name):
    with pytest.raises(TypeError, match=f"{name} is 'x'"):
        PPO(**{name: "x"})
    assert type(getattr(PPO(**{name: 1}), name)) is float


def test_the_defaults_stay():
    """Runs of recipes that leave them out depend on them."""
    expected = PPO(
        epochs=2, minibatches=1, clip_range=0.2, discount=1.0, gae_lambda=0.95, value_clip_range=0.5,
        value_coefficient=0.5,
    )  # fmt: skip
    assert PPO() == expected


def test_a_value_moved_either_way_is_clipped_at_its_range():
    """Away from the return the further value counts: of V_old 0, V −1 and R 2, (−1 − 2)² and not (−0.2 − 2)²."""
    old, mask = tensor([[[0.0]]]), tensor([[True]], torch.bool)
    for sign in (-1.0, 1.0):
        away = value_loss(tensor([[[-sign]]]), old, tensor([[[2 * sign]]]), mask, 0.2)
        assert away.item() == pytest.approx(0.5 * 9, rel=tolerance(1e-6))
        towards = value_loss(tensor([[[sign]]]), old, tensor([[[2 * sign]]]), mask, 0.2)
        assert towards.item() == pytest.approx(0.5 * 1.8**2, rel=tolerance(1e-6))


def test_needs_a_critic_and_one_sample():
    assert PPO.needs_critic
    assert PPO.fewest_samples == 1
    assert PPO().epochs == 2


def test_it_is_known_by_its_name():
    assert ALGORITHMS.find("ppo") is PPO
    assert repr(PPO()).startswith("PPO(epochs=")
    assert PPO() == PPO()
