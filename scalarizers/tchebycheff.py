"""Tchebycheff scalarization and its modified and augmented forms."""

from torch import Tensor

from mopref.option_checks import Point, checked_epsilon, checked_non_negative
from mopref.registry import SCALARIZERS
from mopref.scalarizer import IdealPointScalarizer

__all__ = ["AugmentedTchebycheff", "ModifiedTchebycheff", "Tchebycheff", "inverse_weights"]


def inverse_weights(preferences: Tensor) -> Tensor:
    """1/λ, with weights below 1e-12 cut off there so that it is finite: ``(…, m)`` to ``(…, m)``."""
    return 1 / preferences.clamp(min=1e-12)


@SCALARIZERS.register("tchebycheff")
class Tchebycheff(IdealPointScalarizer):
    """g(f; λ, z) = max_i λ_i (f_i − z_i).

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
        return inverse_weights(preferences)


@SCALARIZERS.register("modified-tchebycheff")
class ModifiedTchebycheff(IdealPointScalarizer):
    """g(f; λ, z) = max_i (f_i − z_i) / max(λ_i, ε).

    Its minimiser lies on the ray f − z ∝ λ, where that ray meets the front: preferences that are evenly spread give
    evenly spread points. λ_i is cut off below at ε, so that a corner of the simplex stays finite.

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        epsilon: ε > 0, the smallest weight that is divided by.
        margin: distance of a tracked z below the running minimum.

    Raises:
        ValueError: ε that is not positive.

    Source: X. Ma et al., On Tchebycheff Decomposition Approaches for Multiobjective Evolutionary Optimization (2018).

    Example:
        >>> import torch
        >>> ModifiedTchebycheff(ideal=[0, 0])(torch.tensor([2.0, 4.0]), torch.tensor([0.75, 0.25]))
        tensor(16.)
    """

    def __init__(self, ideal: Point | None = None, epsilon: float = 1e-3, margin: float = 0.01) -> None:
        super().__init__(ideal, margin)
        self.epsilon = checked_epsilon(epsilon)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i (f_i − z_i) / max(λ_i, ε): ``(…, m)`` to ``(…)``."""
        return (self.above_ideal(losses) / preferences.clamp(min=self.epsilon)).amax(dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """max(λ, ε): ``(…, m)`` to ``(…, m)``."""
        return preferences.clamp(min=self.epsilon)


@SCALARIZERS.register("augmented-tchebycheff")
class AugmentedTchebycheff(IdealPointScalarizer):
    """g(f; λ, z) = max_i λ_i (f_i − z_i) + ρ Σ_i (f_i − z_i).

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
        return inverse_weights(preferences)
