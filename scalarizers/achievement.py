"""Achievement scalarizing functions: distance from a reference point that need not lie below the losses."""

from collections.abc import Sequence

from torch import Tensor

from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer, given_point, matching_point

from ._smallest_weight import checked_epsilon

__all__ = ["AchievementScalarizing", "AugmentedAchievementScalarizing"]


@SCALARIZERS.register("achievement")
class AchievementScalarizing(Scalarizer):
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

    def __init__(self, reference_point: Sequence[float] | Tensor, epsilon: float = 1e-3) -> None:
        self.reference_point = given_point(reference_point, "reference_point")
        self.epsilon = checked_epsilon(epsilon)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i (f_i − z_i) / max(λ_i, ε): ``(…, m)`` to ``(…)``."""
        return self._weighted(losses, preferences).amax(dim=-1)

    def target_direction(self, preferences: Tensor) -> Tensor:
        """max(λ, ε), to be taken backwards from a z that can be improved on: ``(…, m)`` to ``(…, m)``."""
        return preferences.clamp(min=self.epsilon)

    def _weighted(self, losses: Tensor, preferences: Tensor) -> Tensor:
        point = matching_point(self.reference_point, losses, "reference point")
        return (losses - point) / preferences.clamp(min=self.epsilon)


@SCALARIZERS.register("augmented-achievement")
class AugmentedAchievementScalarizing(AchievementScalarizing):
    """g(f; λ, z) = max_i (f_i − z_i) / max(λ_i, ε) + ρ Σ_i (f_i − z_i) / max(λ_i, ε).

    The sum breaks ties among weakly Pareto-optimal points, so that every minimiser is Pareto optimal. It also pulls
    minimisers off their line where one weighted loss can be traded for another at more than about 1/ρ: on the exact
    front of ZDT2, 101 preferences have 98 distinct minimisers (further apart than .001) with ρ = .001, 91 with .01 and
    64 with .1. Hence the default.

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

    def __init__(self, reference_point: Sequence[float] | Tensor, rho: float = 1e-3, epsilon: float = 1e-3) -> None:
        super().__init__(reference_point, epsilon)
        if not rho >= 0:
            raise ValueError(f"rho is {rho}: the sum it weighs breaks ties towards smaller losses, so it must be ≥ 0.")
        self.rho = rho

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i w_i + ρ Σ_i w_i with w_i = (f_i − z_i) / max(λ_i, ε): ``(…, m)`` to ``(…)``."""
        weighted = self._weighted(losses, preferences)
        return weighted.amax(dim=-1) + self.rho * weighted.sum(dim=-1)
