"""Achievement scalarizing functions: distance from a reference point that need not lie below the losses."""

from typing import Any, Self

from torch import Tensor

from mopref.option_checks import Point, checked_epsilon, checked_non_negative, given_point, matching_point
from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer

__all__ = ["AchievementScalarizing", "AugmentedAchievementScalarizing"]


class _ReferencePointScalarizer(Scalarizer):
    """What both functions share: the reference point z, the losses above it over their weights, and the line z + t·λ.

    Args:
        reference_point: z, m numbers (list, array or tensor).
        epsilon: ε > 0, the smallest weight that is divided by.

    Raises:
        ValueError: a reference point that is not a finite vector, or ε that is not positive.
    """

    def __init__(self, reference_point: Point, epsilon: float) -> None:
        self.reference_point = given_point(reference_point, "reference_point")
        self.epsilon = checked_epsilon(epsilon)

    @classmethod
    def between(cls, ideal: Point, nadir: Point, **options: Any) -> Self:
        """An instance that aspires to the ideal point."""
        return cls(reference_point=ideal, **options)

    @property
    def origin(self) -> Tensor | None:
        """The reference point z."""
        return self.reference_point

    def target_direction(self, preferences: Tensor) -> Tensor:
        """max(λ, ε), to be taken backwards from a z that can be improved on: ``(…, m)`` to ``(…, m)``."""
        return preferences.clamp(min=self.epsilon)

    def _weighted_losses(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """(f − z) / max(λ, ε): ``(…, m)`` to ``(…, m)``."""
        point = matching_point(self.reference_point, losses, "reference point")
        return (losses - point) / preferences.clamp(min=self.epsilon)


@SCALARIZERS.register("achievement")
class AchievementScalarizing(_ReferencePointScalarizer):
    """g(f; λ, z) = max_i (f_i − z_i) / max(λ_i, ε).

    z is a reference point: the losses one aspires to, within reach or not. Unlike the ideal point of
    :class:`ModifiedTchebycheff` it may lie above a loss; g is then negative, and goes on rewarding smaller losses.
    The minimiser lies on the line z + t·λ: with t > 0 where z is out of reach, with t < 0 where z can be improved on.

    Args:
        reference_point: z, m numbers (list, array or tensor).
        epsilon: ε > 0, the smallest weight that is divided by.

    Raises:
        ValueError: a reference point that is not a finite vector, or ε that is not positive.

    Source: A. Wierzbicki, The Use of Reference Objectives in Multiobjective Optimization (1980).

    Example:
        >>> import torch
        >>> g = AchievementScalarizing(reference_point=[1.0, 1.0])
        >>> g(torch.tensor([[2.0, 1.5], [0.5, 0.75]]), torch.tensor([0.5, 0.5]))
        tensor([ 2.0000, -0.5000])
    """

    def __init__(self, reference_point: Point, epsilon: float = 1e-3) -> None:
        super().__init__(reference_point, epsilon)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i (f_i − z_i) / max(λ_i, ε): ``(…, m)`` to ``(…)``."""
        return self._weighted_losses(losses, preferences).amax(dim=-1)


@SCALARIZERS.register("augmented-achievement")
class AugmentedAchievementScalarizing(_ReferencePointScalarizer):
    """g(f; λ, z) = max_i (f_i − z_i) / max(λ_i, ε) + ρ Σ_i (f_i − z_i) / max(λ_i, ε).

    The sum breaks ties among weakly Pareto-optimal points, so that every minimiser is Pareto optimal. It also pulls
    minimisers off their line where one weighted loss can be traded for another at more than about 1/ρ: on a concave
    front ρ = .1 leaves two thirds of the minimisers distinct, and the default nearly all (see docs/benchmarks.md).

    Args:
        reference_point: z, m numbers (list, array or tensor).
        rho: ρ ≥ 0, the weight of the sum; small beside 1.
        epsilon: ε > 0, the smallest weight that is divided by.

    Raises:
        ValueError: a reference point that is not a finite vector, a negative ρ, or ε that is not positive.

    Source: A. Wierzbicki, On the completeness and constructiveness of parametric characterizations to vector
    optimization problems (1986).

    Example:
        >>> import torch
        >>> g = AugmentedAchievementScalarizing(reference_point=[1.0, 1.0], rho=0.1)
        >>> g(torch.tensor([2.0, 1.5]), torch.tensor([0.5, 0.5]))
        tensor(2.3000)
    """

    def __init__(self, reference_point: Point, rho: float = 1e-3, epsilon: float = 1e-3) -> None:
        super().__init__(reference_point, epsilon)
        self.rho = checked_non_negative(rho, "rho", "the sum it weighs breaks ties towards smaller losses")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i w_i + ρ Σ_i w_i with w_i = (f_i − z_i) / max(λ_i, ε): ``(…, m)`` to ``(…)``."""
        weighted_losses = self._weighted_losses(losses, preferences)
        return weighted_losses.amax(dim=-1) + self.rho * weighted_losses.sum(dim=-1)
