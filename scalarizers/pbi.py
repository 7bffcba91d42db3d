"""Penalty-based boundary intersection."""

import torch
from torch import Tensor

from mopref.option_checks import Convention, Point, checked_non_negative
from mopref.registry import SCALARIZERS
from mopref.scalarizer import IdealPointScalarizer

from .rays import RayScalarizer, importance_ray

__all__ = ["PBI"]


@SCALARIZERS.register("pbi")
class PBI(RayScalarizer, IdealPointScalarizer):
    """g(f; λ, z) = d1 + θ d2, with w ∝ 1/max(λ, ε) of length 1, d1 = ⟨f − z, w⟩ and d2 = ‖f − z − d1 w‖.

    As a "ray", w = λ/‖λ‖. d1 is the distance along the ray from the ideal point, d2 the distance from that ray.

    A larger λ_i makes loss i smaller: the minimiser lies on the ray f − z ∝ 1/max(λ, ε), and the corner e_1 asks for
    (ε, 1, …, 1). As a "ray", as the literature writes it, **a larger λ_i makes loss i larger**: the minimiser lies on
    f − z ∝ λ, and e_1 asks for the largest f_1.

    The minimiser may fail to be Pareto optimal: with a large θ staying on the ray is worth more than a smaller loss.
    Near a corner it leaves the ray where loss i costs more than about θ of the others. The gradient has the length
    √(1 + θ²) for every λ, and 1 on the ray itself, so corners weigh as much as the centre.

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        theta: θ ≥ 0, the price of leaving the ray.
        margin: distance of a tracked z below the running minimum.
        epsilon: ε > 0; smaller weights count as ε. A "ray" divides by no weight, and has no use for it.
        convention: "importance", or "ray" for the literature's formula.

    Raises:
        ValueError: a negative θ, ε that is not positive, or an unknown convention.

    Source: Q. Zhang and H. Li, MOEA/D (2007).

    Example:
        >>> import torch
        >>> f, corner = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])
        >>> PBI(ideal=[0, 0], theta=5.0, epsilon=1e-6)(f, corner).round(decimals=3)  # 4 + 5 · 3
        tensor(19.)
        >>> PBI(ideal=[0, 0], theta=5.0, convention="ray")(f, corner)  # 3 + 5 · 4
        tensor(23.)
    """

    def __init__(
        self,
        ideal: Point | None = None,
        theta: float = 5.0,
        margin: float = 0.01,
        *,
        epsilon: float = 1e-3,
        convention: Convention = "importance",
    ) -> None:
        IdealPointScalarizer.__init__(self, ideal, margin)
        RayScalarizer.__init__(self, epsilon, convention)
        self.theta = checked_non_negative(theta, "theta", "it is the price of the distance from the ray")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """d1 + θ d2: ``(…, m)`` to ``(…)``."""
        above = self.above_ideal(losses)
        direction = self.target_direction(preferences)
        ray = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        along = (above * ray).sum(dim=-1)
        # The norm's gradient at 0 is 0 in PyTorch, so a point on the ray itself is safe.
        return along + self.theta * torch.linalg.vector_norm(above - along.unsqueeze(-1) * ray, dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """1/max(λ, ε), or λ as a "ray"; exact where θ keeps the minimiser on its ray: ``(…, m)`` to ``(…, m)``."""
        return preferences if self.convention == "ray" else importance_ray(preferences, self.epsilon)
