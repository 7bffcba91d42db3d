"""Linear scalarization (weighted sum)."""

from torch import Tensor

from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer

__all__ = ["Linear"]


@SCALARIZERS.register("linear")
class Linear(Scalarizer):
    """g(f; λ) = Σ_i λ_i f_i.

    A larger λ_i makes loss i weigh more in the sum, and so smaller. The slope Σ_i |∂g/∂f_i| is 1 for every λ.

    Its minimisers are Pareto optimal for λ > 0, but only those on the convex hull of the front are reached: on a
    concave front (ZDT2) it finds nothing but the corners.

    Source: L. Zadeh, Optimality and non-scalar-valued performance criteria (1963).

    Example:
        >>> import torch
        >>> Linear()(torch.tensor([2.0, 4.0]), torch.tensor([0.25, 0.75]))
        tensor(3.5000)
    """

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """Σ_i λ_i f_i: ``(…, m)`` to ``(…)``."""
        return (preferences * losses).sum(dim=-1)
