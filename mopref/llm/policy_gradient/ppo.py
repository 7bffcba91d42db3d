"""PPO: advantages from a vector-valued critic, one value for each objective at every token."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mopref.llm.policy_gradient.algorithm import ALGORITHMS, Advantages, PolicyGradient, RolloutGroups, over_spread
from mopref.setting_types import set_python_values

__all__ = ["PPO", "generalized_advantages", "value_loss"]


@ALGORITHMS.register("ppo")
@dataclass(frozen=True)
class PPO(PolicyGradient):
    """Generalised advantage estimation on every objective, with a critic that says m values a token.

    The reward of a token is −β d, d = log π − log π_ref, and at a response's last token r_i more. With ``normalize``
    the advantages of each objective are shifted and scaled to mean 0 and standard deviation 1 over the tokens of one
    preference's rollouts.

    Args:
        epochs: how often each rollout is used.
        minibatches: optimiser steps an epoch.
        clip_range: ε of the clipped surrogate.
        discount: γ, in (0, 1].
        gae_lambda: λ of the advantage estimation, in [0, 1]; 1 for no bias from the critic.
        value_clip_range: how far a value may move from the one at the rollout before its loss stops falling, in units
            of the rewards; ``None`` for no clipping.
        value_coefficient: the critic's loss counts this much.

    Source: Schulman et al., arXiv 1707.06347, eq. 7; GAE, arXiv 1506.02438, eq. 16; on every objective apart, as
    Panacea, arXiv 2402.02030, trains it with linear scalarization.
    """

    epochs: int = 2
    discount: float = 1.0
    gae_lambda: float = 0.95
    value_clip_range: float | None = 0.5
    value_coefficient: float = 0.5

    needs_critic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        set_python_values(self, float, "discount", "gae_lambda", "value_coefficient")
        if self.value_clip_range is not None:
            set_python_values(self, float, "value_clip_range")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount is {self.discount}: it lies in (0, 1].")
        if not 0 <= self.gae_lambda <= 1:
            raise ValueError(f"gae_lambda is {self.gae_lambda}: it lies in [0, 1].")
        if self.value_clip_range is not None and not self.value_clip_range > 0:
            raise ValueError(f"value_clip_range is {self.value_clip_range}: it must be positive, or None.")
        if not 0 < self.value_coefficient < math.inf:
            raise ValueError(f"value_coefficient is {self.value_coefficient}: it must be positive and finite.")

    def advantages(self, groups: RolloutGroups, beta: float, normalize: bool) -> Advantages:
        """``(G, P, S, R, m)``, and the returns that the critic learns."""
        values, mask = groups.values, groups.mask.unsqueeze(-1)
        assert values is not None, "the critic's values come with every rollout"
        # (G, P, S, 1, m): where each response's last token is; its reward is the response's own, besides −β d.
        last = (groups.mask.sum(dim=-1) - 1)[..., None, None].expand(*values.shape[:3], 1, values.shape[-1])
        rewards = (-beta * groups.log_ratios).unsqueeze(-1).expand(values.shape).clone()
        rewards.scatter_add_(-2, last, groups.scaled_rewards.unsqueeze(-2))
        advantages = generalized_advantages(rewards, values, groups.mask, self.discount, self.gae_lambda)
        returns = advantages + values
        if normalize:
            count = mask.sum(dim=(1, 2, 3), keepdim=True)
            mean = advantages.sum(dim=(1, 2, 3), keepdim=True) / count
            deviations = torch.where(mask, advantages - mean, 0.0)
            spread = (deviations.square().sum(dim=(1, 2, 3), keepdim=True) / count).sqrt()
            advantages = over_spread(deviations, spread)
        return Advantages(advantages, returns)

    def critic_loss(self, values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """The coefficient times :func:`value_loss`."""
        return self.value_coefficient * value_loss(values, old_values, returns, mask, self.value_clip_range)


def generalized_advantages(rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """A_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t, with V = 0 after a response's last token.

    Args:
        rewards: of each token, ``(…, R, m)``.
        values: V_t, before token t is drawn, ``(…, R, m)``.
        mask: which tokens there are, ``(…, R)`` bool.
        discount: γ.
        gae_lambda: λ.

    Returns:
        ``(…, R, m)``, 0 where there is no token.

    Example:
        >>> ones = torch.ones(2, 1)
        >>> generalized_advantages(ones, 0.5 * ones, torch.tensor([True, True]), 1.0, 0.0)
        tensor([[1.0000],
                [0.5000]])
    """
    present = mask.unsqueeze(-1).to(values)
    result = torch.zeros_like(values)
    advantage = following = torch.zeros_like(values[..., 0, :])
    for t in reversed(range(values.shape[-2])):
        delta = rewards[..., t, :] + discount * following - values[..., t, :]
        advantage = present[..., t, :] * (delta + discount * gae_lambda * advantage)
        following = present[..., t, :] * values[..., t, :]
        result[..., t, :] = advantage
    return result


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip_range: float | None) -> Tensor:
    """½ max((V − R)², (V_old + clip(V − V_old, −c, c) − R)²), the mean over tokens and objectives: a scalar.

    Values, old values and returns ``(N, R, m)``, mask ``(N, R)`` bool.
    """
    squares = (values - returns).square()
    if clip_range is not None:
        near = old_values + (values - old_values).clamp(-clip_range, clip_range)
        squares = torch.maximum(squares, (near - returns).square())
    return 0.5 * squares[mask].mean()
