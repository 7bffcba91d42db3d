"""The critic: m values at every token, from what the language model has in mind there and the preference."""

from typing import cast

import torch
from torch import Tensor, nn

from mopref.llm.policy.policy import Policy

__all__ = ["Critic", "add_critic", "critic_of"]


class Critic(nn.Module):
    """V(x, y_<t; λ), one value for each objective: a small network on the model's last hidden states and λ.

    The hidden states are those of the policy itself, so they are conditioned on λ too; no gradient flows back into
    them, and a step needs no second language model. The output layer starts at 0: so does every value.

    Args:
        hidden_size: H, of the language model.
        num_objectives: m.
        width: of the hidden layer.
        seed: seeds the initialisation.
    """

    def __init__(self, hidden_size: int, num_objectives: int, width: int = 256, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
            self.hidden = nn.Linear(hidden_size + num_objectives, width)
            self.output = nn.Linear(width, num_objectives)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, hidden_states: Tensor, preferences: Tensor) -> Tensor:
        """Hidden states ``(N, R, H)`` and preferences ``(N, m)`` to values ``(N, R, m)``."""
        states = self.norm(hidden_states.detach().to(self.hidden.weight))
        token_preferences = preferences.to(states).unsqueeze(1).expand(-1, states.shape[1], -1)
        values: Tensor = self.output(nn.functional.gelu(self.hidden(torch.cat([states, token_preferences], dim=-1))))
        return values


def add_critic(policy: Policy, num_objectives: int, seed: int) -> None:
    """Put a new critic beside the policy's adapters, unless there is one."""
    if policy.companion("critic") is None:
        policy.add_companion("critic", Critic(policy.hidden_size, num_objectives, seed=seed))


def critic_of(policy: Policy) -> Critic:
    """The critic beside the policy's adapters.

    Raises:
        ValueError: there is none.
    """
    critic = policy.companion("critic")
    if critic is None:
        raise ValueError("the model has no critic yet: call prepare_model(model) first, as ParetoTrainer does.")
    return cast(Critic, critic)
