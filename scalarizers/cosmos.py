"""COSMOS: a weighted sum and the angle between losses and preference."""

import torch
from torch import Tensor

from mopref.option_checks import Convention, checked_non_negative
from mopref.registry import SCALARIZERS

from .rays import RayScalarizer, importance_ray

__all__ = ["COSMOS"]


@SCALARIZERS.register("cosmos")
class COSMOS(RayScalarizer):
    """g(f; λ) = Σ_i λ_i f_i − μ cos(f, w), with w ∝ 1/max(λ, ε), cos(f, w) = ⟨f, w⟩ / (‖f‖ ‖w‖), and 0 at f = 0.

    As a "ray", w = λ. The cosine draws the losses towards the ray f ∝ w.

    A larger λ_i makes loss i smaller: it weighs more in the sum, and the ray 1/max(λ, ε) turns away from it. As a
    "ray", as the literature writes it, the cosine has it the other way round: **a larger λ_i makes loss i larger**
    where μ is large beside the losses.

    g is not monotone: a larger loss may bring f closer to the ray, so the minimiser may fail to be Pareto optimal. The
    slope of the sum is 1, and the gradient of the cosine has a length of at most μ/‖f‖, both for every λ; corners are
    further off, so that their slope is up to about four times the centre's. Angles are measured from the origin: the
    losses should be ≥ 0 with their smallest values near 0, and of like size. Wrap it in :class:`Normalized` where they
    are not.

    With μ small beside the losses it is a weighted sum, and loses concave fronts. The default suits losses of about 1
    (see docs/benchmarks.md).

    Args:
        mu: μ ≥ 0, the price of leaving the ray, in units of the losses.
        epsilon: ε > 0; smaller weights count as ε. A "ray" divides by no weight, and has no use for it.
        convention: "importance", or "ray" for the literature's formula.

    Raises:
        ValueError: a negative μ, ε that is not positive, or an unknown convention.

    Source: M. Ruchte and J. Grabocka, Scalable Pareto Front Approximation for Deep Multi-Objective Learning
    (arXiv 2103.13392).

    Example:
        >>> import torch
        >>> f, corner = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])
        >>> COSMOS(mu=1.0, epsilon=1e-6)(f, corner)  # 3 − 4/5
        tensor(2.2000)
        >>> COSMOS(mu=1.0, convention="ray")(f, corner)  # 3 − 3/5
        tensor(2.4000)
    """

    def __init__(self, mu: float = 8.0, *, epsilon: float = 1e-3, convention: Convention = "importance") -> None:
        super().__init__(epsilon, convention)
        self.mu = checked_non_negative(mu, "mu", "it is the price of leaving the preference's ray")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """Σ_i λ_i f_i − μ cos(f, w): ``(…, m)`` to ``(…)``."""
        ray = preferences if self.convention == "ray" else importance_ray(preferences, self.epsilon)
        ray = ray / torch.linalg.vector_norm(ray, dim=-1, keepdim=True)
        size = torch.linalg.vector_norm(losses, dim=-1, keepdim=True)
        direction = losses / size.where(size > 0, 1)
        return (preferences * losses).sum(dim=-1) - self.mu * (direction * ray).sum(dim=-1)
