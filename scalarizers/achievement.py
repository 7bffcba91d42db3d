"""Achievement scalarizing functions: distance from a reference point that need not lie below the losses."""

from typing import Any, Self

from torch import Tensor

from mopref.option_checks import Convention, Point, check_length, checked_non_negative, given_point, matching_point
from mopref.registry import SCALARIZERS

from .rays import RayScalarizer, importance_ray

__all__ = ["AchievementScalarizing", "AugmentedAchievementScalarizing"]


class _ReferencePointScalarizer(RayScalarizer):
    """What both functions share: the reference point z, one term for each loss, and the lines from z.

    Args:
        reference_point: z, m numbers (list, array or tensor).
        epsilon: ε > 0; smaller weights count as ε.
        convention: "importance", or "ray" for the literature's formula.

    Raises:
        ValueError: a reference point that is not a finite vector, ε that is not positive, or an unknown convention.
    """

    def __init__(self, reference_point: Point, epsilon: float, convention: Convention) -> None:
        super().__init__(epsilon, convention)
        self.reference_point = given_point(reference_point, "reference_point")

    @classmethod
    def between(cls, ideal: Point, nadir: Point, **options: Any) -> Self:
        """An instance that aspires to the ideal point."""
        return cls(reference_point=ideal, **options)

    @property
    def origin(self) -> Tensor | None:
        """The reference point z."""
        return self.reference_point

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse a reference point of another length."""
        check_length(self.reference_point, num_objectives, "reference_point")

    def target_direction(self, preferences: Tensor) -> Tensor:
        """Up from a z that is out of reach: 1/max(λ, ε), or max(λ, ε) as a "ray": ``(…, m)`` to ``(…, m)``."""
        if self.convention == "ray":
            return preferences.clamp(min=self.epsilon)
        return importance_ray(preferences, self.epsilon)

    def backward_direction(self, preferences: Tensor) -> Tensor:
        """Down from a z that can be improved on: −max(λ, ε) in both conventions: ``(…, m)`` to ``(…, m)``."""
        return -preferences.clamp(min=self.epsilon)

    def _above_reference(self, losses: Tensor) -> Tensor:
        """f − z: ``(…, m)`` to ``(…, m)``."""
        return losses - matching_point(self.reference_point, losses, "reference point")

    def _terms(self, above: Tensor, preferences: Tensor) -> Tensor:
        """Each f_i − z_i times or over its weight, as the convention and its sign say: ``(…, m)`` to ``(…, m)``."""
        weights = preferences.clamp(min=self.epsilon)
        quotients = above / weights
        return quotients if self.convention == "ray" else (weights * above).where(above >= 0, quotients)


@SCALARIZERS.register("achievement")
class AchievementScalarizing(_ReferencePointScalarizer):
    """g(f; λ, z) = max_i a_i, where a_i = w_i (f_i − z_i) if f_i ≥ z_i, else (f_i − z_i) / w_i, with w = max(λ, ε).

    As a "ray" all a_i are (f_i − z_i) / w_i. z is a reference point: the losses one aspires to, within reach or not.
    Unlike the ideal point of :class:`ModifiedTchebycheff` it may lie above a loss; g is then negative, and goes on
    rewarding smaller losses.

    A larger λ_i makes loss i smaller, on both sides of z: where z is out of reach the minimiser lies on z + t/w, so
    that an important loss misses z by little; where z can be improved on it lies on z − t·w, so that an important loss
    gains much. As a "ray", as the literature writes it, **a larger λ_i makes loss i larger where z is out of reach**:
    the minimiser lies on z + t·w there.

    The slope above z is the weight of the largest term: 1 at a corner, 1/m at the centre. Below z it is one over that
    weight: m at the centre; at the corner e_i it is 1 in loss i, and 1/ε in another loss that is as good as at z_j: in
    the layer ε wide where z_j − f_j < ε (z_i − f_i). Where z can be improved on, a larger ε keeps corners calm. As a
    "ray" the slope is one over the weight on both sides.

    Args:
        reference_point: z, m numbers (list, array or tensor).
        epsilon: ε > 0; smaller weights count as ε.
        convention: "importance", or "ray" for the literature's formula.

    Raises:
        ValueError: a reference point that is not a finite vector, ε that is not positive, or an unknown convention.

    Source: A. Wierzbicki, The Use of Reference Objectives in Multiobjective Optimization (1980).

    Example:
        >>> import torch
        >>> f, preference = torch.tensor([[2.0, 1.5], [0.5, 0.75]]), torch.tensor([0.5, 0.5])
        >>> AchievementScalarizing(reference_point=[1.0, 1.0])(f, preference)
        tensor([ 0.5000, -0.5000])
        >>> AchievementScalarizing(reference_point=[1.0, 1.0], convention="ray")(f, preference)
        tensor([ 2.0000, -0.5000])
    """

    def __init__(self, reference_point: Point, epsilon: float = 1e-3, *, convention: Convention = "importance") -> None:
        super().__init__(reference_point, epsilon, convention)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i a_i: ``(…, m)`` to ``(…)``."""
        return self._terms(self._above_reference(losses), preferences).amax(dim=-1)


@SCALARIZERS.register("augmented-achievement")
class AugmentedAchievementScalarizing(_ReferencePointScalarizer):
    """g(f; λ, z) = max_i a_i + ρ Σ_i w_i (f_i − z_i), with w = max(λ, ε) and a_i of :class:`AchievementScalarizing`.

    As a "ray", max_i (f_i − z_i) / w_i + ρ Σ_i (f_i − z_i) / w_i.

    A larger λ_i makes loss i smaller, in the maximum and in the sum. (With the literature's 1/w_i in its sum the corner
    e_1 would ask for the other losses only.) As a "ray" **a larger λ_i makes loss i larger where z is out of reach**.

    The sum breaks ties among weakly Pareto-optimal points: each of its weights is at least ρ·ε > 0, so that g rises
    with every loss and every minimiser is Pareto optimal. It also pulls minimisers off their line where one weighted
    loss can be traded for another at more than about 1/ρ. As a "ray", on a concave front, ρ = .1 leaves two thirds of
    the minimisers distinct, and the default nearly all (see docs/benchmarks.md). The sum adds ρ Σ_i w_i, about ρ for
    every λ, to the slope of the maximum.

    Args:
        reference_point: z, m numbers (list, array or tensor).
        rho: ρ ≥ 0, the weight of the sum; small beside 1.
        epsilon: ε > 0; smaller weights count as ε.
        convention: "importance", or "ray" for the literature's formula.

    Raises:
        ValueError: a reference point that is not a finite vector, a negative ρ, ε that is not positive, or an unknown
            convention.

    Source: A. Wierzbicki, On the completeness and constructiveness of parametric characterizations to vector
    optimization problems (1986).

    Example:
        >>> import torch
        >>> f, preference = torch.tensor([2.0, 1.5]), torch.tensor([0.5, 0.5])
        >>> AugmentedAchievementScalarizing(reference_point=[1.0, 1.0], rho=0.1)(f, preference)
        tensor(0.5750)
        >>> AugmentedAchievementScalarizing(reference_point=[1.0, 1.0], rho=0.1, convention="ray")(f, preference)
        tensor(2.3000)
    """

    def __init__(
        self,
        reference_point: Point,
        rho: float = 1e-3,
        epsilon: float = 1e-3,
        *,
        convention: Convention = "importance",
    ) -> None:
        super().__init__(reference_point, epsilon, convention)
        self.rho = checked_non_negative(rho, "rho", "the sum it weighs breaks ties towards smaller losses")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """max_i a_i + ρ Σ_i w_i (f_i − z_i), or max_i a_i + ρ Σ_i a_i as a "ray": ``(…, m)`` to ``(…)``."""
        above = self._above_reference(losses)
        terms = self._terms(above, preferences)
        summands = terms if self.convention == "ray" else preferences.clamp(min=self.epsilon) * above
        return terms.amax(dim=-1) + self.rho * summands.sum(dim=-1)
