"""Tchebycheff scalarization and its modified and augmented forms."""

from torch import Tensor

from mopref.option_checks import Convention, Point, checked_non_negative
from mopref.registry import SCALARIZERS
from mopref.scalarizer import IdealPointScalarizer

from .rays import RayScalarizer, importance_ray

__all__ = ["SMALLEST_WEIGHT", "AugmentedTchebycheff", "ModifiedTchebycheff", "Tchebycheff"]

# Smaller weights count as this much in a direction 1/λ, so that it is finite; the formulas take them as they are.
SMALLEST_WEIGHT = 1e-12


@SCALARIZERS.register("tchebycheff")
class Tchebycheff(IdealPointScalarizer):
    """g(f; λ, z) = max_i λ_i (f_i − z_i).

    A larger λ_i makes loss i weigh more in the maximum, and so smaller. The slope is the λ_i of the largest term: 1 at
    a corner, and 1/m at the centre.

    Reaches every Pareto-optimal point, also on concave fronts; its minimiser lies on the ray f − z ∝ 1/λ. Some
    minimisers are only weakly Pareto optimal (see :class:`AugmentedTchebycheff`).

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        margin: distance of a tracked z below the running minimum.

    Source: V. Bowman (1976); used as "Tche" by Panacea (arXiv 2402.02030).

    Example:
        >>> import torch
        >>> Tchebycheff(ideal=[0, 0])(torch.tensor([2.0, 4.0]), torch.tensor([0.75, 0.25]))
        tensor(1.5000)
    """

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i λ_i (f_i − z_i): ``(…, m)`` to ``(…)``."""
        return (preferences * self.above_ideal(losses)).amax(dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """1/λ, finite also where a weight is 0: ``(…, m)`` to ``(…, m)``."""
        return importance_ray(preferences, SMALLEST_WEIGHT)


@SCALARIZERS.register("modified-tchebycheff")
class ModifiedTchebycheff(RayScalarizer, IdealPointScalarizer):
    """g(f; λ, z) = max_i max(λ_i, ε) (f_i − z_i); as a "ray", max_i (f_i − z_i) / max(λ_i, ε).

    A larger λ_i makes loss i smaller: the minimiser lies on the ray f − z ∝ 1/max(λ, ε), where that ray meets the
    front. It is :class:`Tchebycheff` with weights that are cut off below at ε, so that no loss is ever left out. The
    slope is the weight of the largest term: 1 at a corner, where ε (f_j − z_j) is smaller than f_i − z_i for the
    others, and 1/m at the centre.

    As a "ray", as the literature writes it, **a larger λ_i makes loss i larger**: the minimiser lies on f − z ∝ λ, and
    preferences that are evenly spread give evenly spread points. The slope is then up to 1/ε at a corner, m at the
    centre.

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        epsilon: ε > 0; smaller weights count as ε.
        margin: distance of a tracked z below the running minimum.
        convention: "importance", or "ray" for the literature's formula.

    Raises:
        ValueError: ε that is not positive, or an unknown convention.

    Source: X. Ma et al., On Tchebycheff Decomposition Approaches for Multiobjective Evolutionary Optimization (2018).

    Example:
        >>> import torch
        >>> f, preference = torch.tensor([2.0, 4.0]), torch.tensor([0.75, 0.25])
        >>> ModifiedTchebycheff(ideal=[0, 0])(f, preference)
        tensor(1.5000)
        >>> ModifiedTchebycheff(ideal=[0, 0], convention="ray")(f, preference)
        tensor(16.)
    """

    def __init__(
        self,
        ideal: Point | None = None,
        epsilon: float = 1e-3,
        margin: float = 0.01,
        *,
        convention: Convention = "importance",
    ) -> None:
        IdealPointScalarizer.__init__(self, ideal, margin)
        RayScalarizer.__init__(self, epsilon, convention)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i max(λ_i, ε) (f_i − z_i), or max_i (f_i − z_i) / max(λ_i, ε): ``(…, m)`` to ``(…)``."""
        above, weights = self.above_ideal(losses), preferences.clamp(min=self.epsilon)
        return (above / weights if self.convention == "ray" else weights * above).amax(dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """1/max(λ, ε), or max(λ, ε) as a "ray": ``(…, m)`` to ``(…, m)``."""
        if self.convention == "ray":
            return preferences.clamp(min=self.epsilon)
        return importance_ray(preferences, self.epsilon)


@SCALARIZERS.register("augmented-tchebycheff")
class AugmentedTchebycheff(IdealPointScalarizer):
    """g(f; λ, z) = max_i λ_i (f_i − z_i) + ρ Σ_i (f_i − z_i).

    A larger λ_i makes loss i weigh more in the maximum, and so smaller. The slope is the λ_i of the largest term and
    m·ρ: 1 + m·ρ at a corner, and 1/m + m·ρ at the centre.

    The sum breaks ties among weakly Pareto-optimal points, so that every minimiser is Pareto optimal.

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        rho: ρ ≥ 0, the weight of the sum; small beside the weights.
        margin: distance of a tracked z below the running minimum.

    Raises:
        ValueError: a negative ρ.

    Source: R. Steuer and E. Choo, An interactive weighted Tchebycheff procedure (1983).

    Example:
        >>> import torch
        >>> AugmentedTchebycheff(ideal=[0, 0], rho=0.5)(torch.tensor([2.0, 4.0]), torch.tensor([0.75, 0.25]))
        tensor(4.5000)
    """

    def __init__(self, ideal: Point | None = None, rho: float = 0.01, margin: float = 0.01) -> None:
        super().__init__(ideal, margin)
        self.rho = checked_non_negative(rho, "rho", "the sum it weighs breaks ties towards smaller losses")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i λ_i (f_i − z_i) + ρ Σ_i (f_i − z_i): ``(…, m)`` to ``(…)``."""
        above = self.above_ideal(losses)
        return (preferences * above).amax(dim=-1) + self.rho * above.sum(dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """1/λ as of Tchebycheff; exact for ρ small enough that the sum breaks ties only: ``(…, m)`` to ``(…, m)``."""
        return importance_ray(preferences, SMALLEST_WEIGHT)
