"""Penalty-based boundary intersection."""

import torch
from torch import Tensor

from mopref.option_checks import Point, checked_non_negative
from mopref.registry import SCALARIZERS
from mopref.scalarizer import IdealPointScalarizer

__all__ = ["PBI"]


@SCALARIZERS.register("pbi")
class PBI(IdealPointScalarizer):
    """g(f; λ, z) = d1 + θ d2, with w = λ/‖λ‖, d1 = ⟨f − z, w⟩ and d2 = ‖f − z − d1 w‖.

    d1 is the distance along the preference's ray from the ideal point, d2 the distance from that ray. Its minimiser
    may fail to be Pareto optimal: with a large θ staying on the ray is worth more than a smaller loss.

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        theta: θ ≥ 0, the price of leaving the ray.
        margin: distance of a tracked z below the running minimum.

    Raises:
        ValueError: a negative θ.

    Source: Q. Zhang and H. Li, MOEA/D (2007).

    Example:
        >>> import torch
        >>> PBI(ideal=[0, 0], theta=5.0)(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]))
        tensor(23.)
    """

    def __init__(self, ideal: Point | None = None, theta: float = 5.0, margin: float = 0.01) -> None:
        super().__init__(ideal, margin)
        self.theta = checked_non_negative(theta, "theta", "it is the price of the distance from the ray")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """d1 + θ d2: ``(…, m)`` to ``(…)``."""
        above = self.above_ideal(losses)
        ray = preferences / torch.linalg.vector_norm(preferences, dim=-1, keepdim=True)
        along = (above * ray).sum(dim=-1)
        # The norm's gradient at 0 is 0 in PyTorch, so a point on the ray itself is safe.
        return along + self.theta * torch.linalg.vector_norm(above - along.unsqueeze(-1) * ray, dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """λ, exact for θ large enough that the minimiser stays on its ray: ``(…, m)`` to ``(…, m)``."""
        return preferences
