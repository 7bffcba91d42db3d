"""COSMOS: a weighted sum and the angle between losses and preference."""

import torch
from torch import Tensor

from mopref.option_checks import checked_non_negative
from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer

__all__ = ["COSMOS"]


@SCALARIZERS.register("cosmos")
class COSMOS(Scalarizer):
    """g(f; λ) = Σ_i λ_i f_i − μ cos(f, λ), with cos(f, λ) = ⟨f, λ⟩ / (‖f‖ ‖λ‖), and 0 at f = 0.

    The cosine draws the losses towards the ray f ∝ λ. g is not monotone: a larger loss may bring f closer to the ray,
    so the minimiser may fail to be Pareto optimal. Angles are measured from the origin: the losses should be ≥ 0 with
    their smallest values near 0, and of like size. Wrap it in :class:`Normalized` where they are not.

    With μ small beside the losses it is a weighted sum, and loses concave fronts. The default suits losses of about 1
    (see docs/benchmarks.md).

    Args:
        mu: μ ≥ 0, the price of leaving the ray, in units of the losses.

    Raises:
        ValueError: a negative μ.

    Source: M. Ruchte and J. Grabocka, Scalable Pareto Front Approximation for Deep Multi-Objective Learning
    (arXiv 2103.13392).

    Example:
        >>> import torch
        >>> COSMOS(mu=1.0)(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]))
        tensor(2.4000)
    """

    def __init__(self, mu: float = 8.0) -> None:
        self.mu = checked_non_negative(mu, "mu", "it is the price of leaving the preference's ray")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """Σ_i λ_i f_i − μ cos(f, λ): ``(…, m)`` to ``(…)``."""
        ray = preferences / torch.linalg.vector_norm(preferences, dim=-1, keepdim=True)
        size = torch.linalg.vector_norm(losses, dim=-1, keepdim=True)
        direction = losses / size.where(size > 0, 1)
        return (preferences * losses).sum(dim=-1) - self.mu * (direction * ray).sum(dim=-1)
