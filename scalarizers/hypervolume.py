"""Hypervolume scalarization."""

from typing import Any, Self

from torch import Tensor

from mopref.option_checks import (
    Point,
    check_length,
    check_order,
    checked_epsilon,
    checked_non_negative,
    given_point,
    matching_point,
)
from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer

__all__ = ["Hypervolume"]


@SCALARIZERS.register("hypervolume")
class Hypervolume(Scalarizer):
    """g(f; λ, r) = −s^m with s = min_i (r_i − f_i) / max(λ_i, ε), while f lies inside the box below r.

    A larger λ_i makes loss i smaller: inside the box it falls further from r, and outside it weighs more.

    s measures how far f is from r along λ, and the hypervolume that a set of points dominates is, up to a constant, the
    mean over directions λ of the largest s^m in the set. The minimiser lies on the line r − t·λ. The published formula
    has unit directions; here λ is taken as it is, which scales g for each λ but moves no minimiser.

    Outside the box (s ≤ 0) the published formula is 0 everywhere, and training would stop there in silence. **Here it
    goes on as max_i (1 + m λ_i) (f_i − r_i)**, so that losses above r fall until they are inside, the important ones
    first (−s itself would hold the unimportant ones down), and each has a weight; the value is continuous, its slope is
    not. Inside the box the slope m·s^{m−1} is small near r, so choose r clearly above the losses that matter.

    Outside the slope is 2 at the centre, and between 1 and 1 + m at a corner. Inside corners weigh less than the
    centre: at distance s from r their slope is m·s^{m−1}, m^m times smaller than the centre's. But in the layer ε wide
    where another loss is as bad as r_j, r_j − f_j < ε (r_i − f_i), the slope of the corner e_i is 1/ε times larger:
    choose r above what the losses reach, or a larger ε.

    Args:
        reference_point: r, m numbers (list, array or tensor), above the losses that matter.
        epsilon: ε > 0, the smallest weight that is divided by.

    Raises:
        ValueError: a reference point that is not a finite vector, or ε that is not positive.

    Source: J. Deng and Q. Zhang, Approximating Hypervolume and Hypervolume Contributions Using Polar Coordinate (2019);
    D. Golovin and Q. Zhang, Random Hypervolume Scalarizations for Provable Multi-Objective Black Box Optimization
    (arXiv 2006.04655).

    Example:
        >>> import torch
        >>> g = Hypervolume(reference_point=[1.0, 1.0])
        >>> g(torch.tensor([[0.5, 0.25], [2.0, 0.0]]), torch.tensor([0.5, 0.5]))
        tensor([-1.,  2.])
    """

    def __init__(self, reference_point: Point, epsilon: float = 1e-3) -> None:
        self.reference_point = given_point(reference_point, "reference_point")
        self.epsilon = checked_epsilon(epsilon)

    @classmethod
    def between(cls, ideal: Point, nadir: Point, beyond: float = 0.1, **options: Any) -> Self:
        """An instance whose reference point is z + (1 + b)(n − z), a little beyond the nadir point.

        At the nadir point itself the ends of the front would lie on the side of the box, and count for nothing.

        Args:
            ideal: z, the smallest losses, m numbers (list, array or tensor).
            nadir: n, the largest losses on the front, m numbers.
            beyond: b ≥ 0, how far beyond n the reference point lies, as a fraction of n − z; 0 for n itself.
            **options: further options of the class.

        Raises:
            ValueError: points that are not finite vectors with ideal < nadir, or a negative b.

        Example:
            >>> Hypervolume.between(ideal=[0.0, 100.0], nadir=[1.0, 300.0])
            Hypervolume(reference_point=[1.1, 320.0], epsilon=0.001)
        """
        beyond = checked_non_negative(beyond, "beyond", "the reference point may not lie below the nadir point")
        low, high = given_point(ideal, "ideal"), given_point(nadir, "nadir")
        check_order(low, high)
        return cls(low + (1 + beyond) * (high - low), **options)

    @property
    def origin(self) -> Tensor | None:
        """The reference point r."""
        return self.reference_point

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse a reference point of another length."""
        check_length(self.reference_point, num_objectives, "reference_point")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """−s^m inside the box and max_i (1 + m λ_i) (f_i − r_i) outside: ``(…, m)`` to ``(…)``."""
        m, below = losses.shape[-1], matching_point(self.reference_point, losses, "reference point") - losses
        reach = (below / preferences.clamp(min=self.epsilon)).amin(dim=-1)
        outside = ((1 + m * preferences) * below).amin(dim=-1)
        # On the box's side itself the power has no slope (m > 1), so that belongs to the outside.
        return -reach.clamp(min=0).pow(m).where(reach > 0, outside)
