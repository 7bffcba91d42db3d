"""The pull to the reference, β KL, as an objective of its own behind the m rewards, whose losses then have no β.

With linear scalarization a preference (λ·(1 − c), c) of the m + 1 objectives is a balance λ and a strength: the loss

    −(1 − c) Σ_i λ_i E r_i + c β KL = (1 − c) (−Σ_i λ_i E r_i + β c/(1 − c) KL)

is 1 − c times that at λ with a penalty of β·c/(1 − c), and so is its gradient on any rollout, since advantages add up
and are clipped by their sign. With a critic that is so where V_i + V_pull·c/(1 − c) are the other critic's values.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from mopref.argument_kinds import checked_kind
from mopref.llm.policy_gradient.algorithm import Advantages, PolicyGradient, RolloutGroups
from mopref.objective_names import checked_names

__all__ = ["advantages_apart", "check_scales", "checked_pull", "objective_values"]


def checked_pull(pull: Any, rewards: Collection[str]) -> str | None:
    """The name of the pull, where there is one.

    Raises:
        ValueError: a name that is a reward's or the KL's own, or none at all.
        TypeError: no text.
    """
    name: str | None = checked_kind(pull, str | None, "pull")
    if name is None:
        return None
    taken = {"": "names nothing", "kl": "fronts call the KL itself"} | dict.fromkeys(rewards, "is the name of a reward")
    if name in taken:
        raise ValueError(f"pull is {name!r}, which {taken[name]}: choose another name.")
    return checked_names((name,), "pull")[0]


def check_scales(normalization: Any, beta: float, pull: str | None) -> None:
    """Refuse a normalisation that is none, and what leaves a weight of the pull without a meaning.

    Raises:
        ValueError: such a value.
    """
    if normalization not in ("running", "group", None):
        raise ValueError(f"unknown normalization {normalization!r}: choose 'running', 'group' or None.")
    if pull is not None and beta == 0:
        raise ValueError(f"beta is 0.0, and pull {pull!r} is β·KL, which would be 0: give beta > 0.")
    if pull is not None and normalization == "group":
        raise ValueError(
            f"normalization is 'group', and pull is {pull!r}: the advantages of rewards would be divided by their "
            "spread within each group, so that a weight of the pull would mean less the more alike samples become; "
            "choose 'running', or none at all."
        )


def objective_values(rewards: Tensor, kl: Tensor, beta: float, pull: str | None) -> Tensor:
    """r_i − β KL of each row, or r_i and behind them −β KL, to be maximised.

    Args:
        rewards: ``(N, m)``, divided by their scales.
        kl: ``(N,)`` in nats.
        beta: β ≥ 0.
        pull: the name of −β KL where it is an objective of its own.

    Returns:
        ``(N, m)``, with a pull ``(N, m + 1)``.

    Example:
        >>> objective_values(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]), 0.5, None)
        tensor([[-0.5000,  0.5000]])
        >>> objective_values(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]), 0.5, "close")
        tensor([[ 1.0000,  2.0000, -1.5000]])
    """
    penalty = beta * kl.unsqueeze(1)
    return torch.cat([rewards, -penalty], dim=1) if pull is not None else rewards - penalty


def advantages_apart(algorithm: PolicyGradient, groups: RolloutGroups, beta: float, normalize: bool) -> Advantages:
    """The advantages of m rewards without a penalty, and behind them those of the penalty without a reward.

    Args:
        algorithm: gives either.
        groups: a rollout with m rewards; where there is a critic, with m + 1 values.
        beta: β > 0.
        normalize: divide each objective's advantages by their spread within the group.

    Returns:
        ``(G, P, S, R, m + 1)``.
    """
    m, values = groups.scaled_rewards.shape[-1], groups.values
    of_rewards, of_pull = groups, groups._replace(scaled_rewards=torch.zeros_like(groups.scaled_rewards[..., :1]))
    if values is not None:
        of_rewards, of_pull = of_rewards._replace(values=values[..., :m]), of_pull._replace(values=values[..., m:])
    parts = (algorithm.advantages(of_rewards, 0.0, normalize), algorithm.advantages(of_pull, beta, normalize))
    returns = [part.returns for part in parts if part.returns is not None]
    together = torch.cat([part.values for part in parts], dim=-1)
    return Advantages(together, torch.cat(returns, dim=-1) if returns else None)
