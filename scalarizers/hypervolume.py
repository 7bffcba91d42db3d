"""Hypervolume scalarization."""

from collections.abc import Sequence

from torch import Tensor

from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer, given_point, matching_point

from ._smallest_weight import checked_epsilon

__all__ = ["Hypervolume"]


@SCALARIZERS.register("hypervolume")
class Hypervolume(Scalarizer):
    """g(f; λ, r) = −s^m with s = min_i (r_i − f_i) / max(λ_i, ε), while f lies inside the box below r.

    s measures how far f is from r along λ, and the hypervolume that a set of points dominates is, up to a constant, the
    mean over directions λ of the largest s^m in the set. The minimiser lies on the line r − t·λ. The published formula
    has unit directions; here λ is taken as it is, which scales g for each λ but moves no minimiser.

    Outside the box (s ≤ 0) the published formula is 0 everywhere, and training would stop there in silence. **Here it
    goes on as −s**, so that losses above r fall until they are inside; the value is continuous, its slope is not.
    Inside the box the slope m·s^{m−1} is small near r, so choose r clearly above the losses that matter.

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

    def __init__(self, reference_point: Sequence[float] | Tensor, epsilon: float = 1e-3) -> None:
        self.reference_point = given_point(reference_point, "reference_point")
        self.epsilon = checked_epsilon(epsilon)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """−s^m inside the box and −s outside: ``(…, m)`` to ``(…)``."""
        point = matching_point(self.reference_point, losses, "reference point")
        reach = ((point - losses) / preferences.clamp(min=self.epsilon)).amin(dim=-1)
        # On the box's side itself the power has no slope (m > 1), so that belongs to the outside.
        return -reach.clamp(min=0).pow(losses.shape[-1]).where(reach > 0, reach)
