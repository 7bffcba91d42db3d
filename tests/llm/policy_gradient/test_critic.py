"""The critic: 0 at the start, sees the preference, sends nothing back into the model."""

import pytest
import torch
from torch import nn

from mopref.llm.policy import Policy
from mopref.llm.policy_gradient.critic import Critic, add_critic, critic_of

STATES = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
CORNERS = torch.eye(2)


def trained_critic() -> Critic:
    critic = Critic(hidden_size=8, num_objectives=2)
    nn.init.normal_(critic.output.weight, generator=torch.Generator().manual_seed(1))
    return critic


def test_every_value_is_0_at_the_start():
    values = Critic(hidden_size=8, num_objectives=2)(STATES, CORNERS)
    assert values.shape == (2, 3, 2)
    assert (values == 0).all()


def test_it_sees_the_preference():
    critic = trained_critic()
    one, other = critic(STATES, CORNERS[:1].expand(2, -1)), critic(STATES, CORNERS[1:].expand(2, -1))
    assert one.shape == (2, 3, 2)
    assert (one - other).abs().max() > 1e-3


def test_rows_and_places_are_independent():
    critic = trained_critic()
    together = critic(STATES, CORNERS)
    torch.testing.assert_close(critic(STATES[1:], CORNERS[1:]), together[1:])
    torch.testing.assert_close(critic(STATES[:, 2:], CORNERS), together[:, 2:])


def test_no_gradient_flows_back_into_the_states():
    states = STATES.clone().requires_grad_()
    critic = trained_critic()
    critic(states, CORNERS).sum().backward()
    assert states.grad is None
    assert critic.hidden.weight.grad.abs().max() > 0


def test_states_and_preferences_of_other_types():
    values = trained_critic()(STATES.bfloat16(), CORNERS.double())
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, trained_critic()(STATES, CORNERS), atol=0.05, rtol=0.05)


def test_the_seed_says_all_and_the_global_generator_stays():
    state = torch.get_rng_state()
    first, again, other = Critic(8, 2, seed=3), Critic(8, 2, seed=3), Critic(8, 2, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.hidden.weight, again.hidden.weight)
    assert not torch.equal(first.hidden.weight, other.hidden.weight)


def test_it_stands_beside_the_adapters_once(model):
    policy = Policy(model)
    with pytest.raises(ValueError, match=r"no critic yet: call prepare_model\(model\) first, as ParetoTrainer does"):
        critic_of(policy)
    add_critic(policy, 2, seed=0)
    critic = critic_of(policy)
    assert model.companions["critic"] is critic
    assert critic.hidden.in_features == 64 + 2
    add_critic(policy, 2, seed=1)
    assert critic_of(policy) is critic, "a trained critic stays"
