"""Smooth Tchebycheff scalarization."""

import torch
from torch import Tensor

from mopref.option_checks import Point, checked_positive
from mopref.registry import SCALARIZERS
from mopref.scalarizer import IdealPointScalarizer

from .rays import importance_ray
from .tchebycheff import SMALLEST_WEIGHT

__all__ = ["SmoothTchebycheff"]


@SCALARIZERS.register("smooth-tchebycheff")
class SmoothTchebycheff(IdealPointScalarizer):
    """g(f; λ, z) = μ log Σ_i exp(λ_i (f_i − z_i) / μ).

    A larger λ_i makes loss i weigh more in the maximum, and so smaller. The slope is a mean of the λ_i: at most 1 at a
    corner, and 1/m at the centre.

    Differentiable everywhere, with max ≤ g ≤ max + μ log m: it tends to Tchebycheff as μ → 0. With μ large beside
    λ_i (f_i − z_i) it acts as a weighted sum and loses concave fronts. The default suits losses of about 1; with others
    scale μ along, or wrap it in :class:`Normalized`. A z far below the losses costs more than smoothing does: near the
    corners of the simplex all preferences then share one minimiser (see docs/benchmarks.md).

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        mu: the smoothing μ > 0, in units of the losses.
        margin: distance of a tracked z below the running minimum.

    Raises:
        ValueError: μ that is not positive.

    Source: X. Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization (arXiv 2402.19078).

    Example:
        >>> import torch
        >>> SmoothTchebycheff(ideal=[0, 0], mu=1.0)(torch.tensor([2.0, 2.0]), torch.tensor([0.5, 0.5]))
        tensor(1.6931)
    """

    def __init__(self, ideal: Point | None = None, mu: float = 0.01, margin: float = 0.01) -> None:
        super().__init__(ideal, margin)
        reason = "it is divided by, so it must be > 0 (Tchebycheff itself is the limit at 0)"
        self.mu = checked_positive(mu, "mu", reason)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """μ log Σ_i exp(λ_i (f_i − z_i) / μ): ``(…, m)`` to ``(…)``."""
        return self.mu * torch.logsumexp(preferences * self.above_ideal(losses) / self.mu, dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """1/λ, the limit for μ → 0: ``(…, m)`` to ``(…, m)``."""
        return importance_ray(preferences, SMALLEST_WEIGHT)
