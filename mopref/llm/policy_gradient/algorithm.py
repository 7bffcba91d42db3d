"""PolicyGradient: from rewards and KL to the advantage of every token on every objective."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from mopref.registry import Registry
from mopref.setting_types import set_python_values

__all__ = [
    "ALGORITHMS",
    "Advantages",
    "PolicyGradient",
    "RolloutGroups",
    "check_even_minibatches",
    "over_spread",
    "relative_advantages",
    "sums_to_go",
]

# Keeps a group of equal rewards from being divided by 0; far below the spread of any reward that is worth learning.
_EPSILON = 1e-8


class RolloutGroups(NamedTuple):
    """A rollout as an algorithm sees it: G preferences, P prompts each, S samples a prompt, R tokens at most.

    All in float64 on the CPU.

    Attributes:
        scaled_rewards: ``(G, P, S, m)``, to be maximised.
        log_ratios: ``(G, P, S, R)``, log π − log π_ref of the sampled tokens, 0 where padded.
        mask: ``(G, P, S, R)`` bool, true at tokens of the response.
        values: ``(G, P, S, R, m)``, the critic's before each token; ``None`` without a critic.
    """

    scaled_rewards: Tensor
    log_ratios: Tensor
    mask: Tensor
    values: Tensor | None = None


class Advantages(NamedTuple):
    """How much better each token was than expected, on every objective.

    Attributes:
        values: ``(G, P, S, R, m)``, higher is better.
        returns: ``(G, P, S, R, m)``, what the critic should have said; ``None`` without a critic.
    """

    values: Tensor
    returns: Tensor | None = None


@dataclass(frozen=True)
class PolicyGradient(ABC):
    """How advantages are made of rewards, and how often a rollout is used.

    A new algorithm implements :meth:`advantages`. All of them ascend J_i = E r_i − β KL(π‖π_ref): the KL enters as
    the reward −β d, d = log π − log π_ref, of each token, whose policy gradient is that of the KL itself. (The gradient
    of exp(−d) − 1 + d as a loss, common with GRPO, is that of KL(π_ref‖π) instead; and as an estimate of the KL it has
    a heavy tail where π has moved away from π_ref.)

    Args:
        epochs: how often each rollout is used.
        minibatches: optimiser steps an epoch; each has a part of every preference's prompts.
        clip_range: ε of the clipped surrogate, min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) with ρ = π/π_old of a token. At the
            first step after a rollout ρ = 1, up to rounding, and nothing is clipped.

    Raises:
        ValueError: a value out of its range, named.
        TypeError: a value of another type, named.
    """

    epochs: int = 1
    minibatches: int = 1
    clip_range: float = 0.2

    needs_critic: ClassVar[bool] = False
    fewest_samples: ClassVar[int] = 1

    def __post_init__(self) -> None:
        set_python_values(self, int, "epochs", "minibatches")
        set_python_values(self, float, "clip_range")
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if not self.clip_range > 0:
            raise ValueError(f"clip_range is {self.clip_range}: it must be positive.")

    def check_samples(self, samples_per_prompt: int) -> None:
        """Refuse fewer samples of a prompt than the advantages are made from.

        Raises:
            ValueError: too few.
        """
        if samples_per_prompt < self.fewest_samples:
            raise ValueError(
                f"samples_per_prompt is {samples_per_prompt}: {type(self).__name__} needs at least "
                f"{self.fewest_samples}."
            )

    @property
    def updates(self) -> int:
        """Optimiser steps from one rollout."""
        return self.epochs * self.minibatches

    @abstractmethod
    def advantages(self, groups: RolloutGroups, beta: float, normalize: bool) -> Advantages:
        """The advantage of every token on every objective, ``(G, P, S, R, m)``; higher is better.

        Args:
            groups: the rollout.
            beta: β ≥ 0.
            normalize: divide each objective's advantages by their spread within the group.
        """

    def critic_loss(self, values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """What the critic minimises, a scalar: values, old values and returns ``(N, R, m)``, mask ``(N, R)`` bool."""
        raise NotImplementedError(f"{type(self).__name__} has no critic.")


def check_even_minibatches(prompts: int, count: int) -> None:
    """Refuse so many prompts of a preference where they cannot be cut evenly."""
    if prompts % count:
        raise ValueError(
            f"each preference has {prompts} prompts, which cannot be cut into {count} even minibatches: change "
            "batch_size or preferences_per_step, or the algorithm's minibatches."
        )


def over_spread(deviations: Tensor, spread: Tensor) -> Tensor:
    """Deviations over their spread; 0 where there is no spread."""
    return deviations / (spread + _EPSILON)


def relative_advantages(groups: RolloutGroups, beta: float, normalize: bool) -> Tensor:
    """Rewards less β times the KL still to come, each less its mean over the S samples: ``(G, P, S, R, m)``.

    With ``normalize`` the reward part is divided by the standard deviation of the S rewards.
    """
    rewards, to_go = groups.scaled_rewards, sums_to_go(groups.log_ratios)
    deviations = rewards - rewards.mean(dim=2, keepdim=True)
    if normalize:
        deviations = over_spread(deviations, rewards.std(dim=2, keepdim=True))
    penalty = beta * (to_go - to_go.mean(dim=2, keepdim=True))
    return deviations.unsqueeze(-2) - penalty.unsqueeze(-1)


def sums_to_go(values: Tensor) -> Tensor:
    """Σ_{t' ≥ t} of the last dimension: what comes from a token on, since no action changes what was before it.

    Example:
        >>> sums_to_go(Tensor([1.0, 2.0, 3.0]))
        tensor([6., 5., 3.])
    """
    return values.flip(-1).cumsum(-1).flip(-1)


ALGORITHMS: Registry[PolicyGradient] = Registry("algorithm", PolicyGradient, ["mopref.llm.policy_gradient"])
