"""The standard deviation of every reward so far: what keeps a reward on a large scale from drowning the others."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["RunningScale"]

# A mean of equal rewards such as .7 is a hair off them: deviations of that size beside the mean are none.
_ROUNDING = 1e-12


class RunningScale:
    """Running standard deviations of m rewards, over all processes of a run.

    Args:
        num_objectives: m, the number of rewards.

    Example:
        >>> scale = RunningScale(2)
        >>> scale.observe(torch.tensor([[0.0, 5.0], [2.0, 5.0]]).double())
        >>> scale.deviations
        tensor([1.4142, 1.0000], dtype=torch.float64)
    """

    def __init__(self, num_objectives: int) -> None:
        self.count = 0
        self.mean = torch.zeros(num_objectives, dtype=torch.float64)
        self.squares = torch.zeros(num_objectives, dtype=torch.float64)

    @property
    def deviations(self) -> Tensor:
        """Standard deviations ``(m,)``, float64; 1 where nothing has varied yet, but by rounding."""
        spread = (self.squares / max(1, self.count - 1)).sqrt()
        return torch.where(spread > _ROUNDING * self.mean.abs(), spread, torch.ones_like(spread))

    def observe(self, rewards: Tensor) -> None:
        """Take in N rewards ``(N, m)`` of each process.

        Source: T. Chan, G. Golub and R. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances (1979): how counts, means and squared deviations of two parts add up.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares = [torch.zeros_like(rewards) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(shares, rewards)
            rewards = torch.cat(shares)
        mean = rewards.mean(dim=0)
        total, shift = self.count + len(rewards), mean - self.mean
        self.squares = self.squares + (rewards - mean).square().sum(dim=0)
        self.squares = self.squares + shift.square() * self.count * len(rewards) / total
        self.mean = self.mean + shift * len(rewards) / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` holds."""
        self.count, self.mean, self.squares = state["count"], state["mean"], state["squares"]
