"""Weighted p-norm of the distances from an ideal point."""

import math

from torch import Tensor

from mopref.option_checks import Point
from mopref.registry import SCALARIZERS
from mopref.scalarizer import IdealPointScalarizer
from mopref.setting_types import python_value

__all__ = ["PNorm"]


@SCALARIZERS.register("p-norm")
class PNorm(IdealPointScalarizer):
    """g(f; λ, z) = (Σ_i (λ_i (f_i − z_i))^p)^{1/p}.

    A larger λ_i makes loss i weigh more in the norm, and so smaller. The slope at a corner is at most 1, and at the
    centre between 1/m and 1.

    Between linear scalarization of f − z (p = 1) and Tchebycheff (p → ∞). Its minimisers are Pareto optimal for λ > 0;
    the larger p, the more concave a front may be without losing points. The default loses none of ZDT2's (see
    docs/benchmarks.md).

    Args:
        ideal: z ≤ f, m numbers; ``None`` to track it.
        p: the exponent, finite and ≥ 1.
        margin: distance of a tracked z below the running minimum.

    Raises:
        ValueError: p below 1 or not finite.

    Source: M. Zeleny, Compromise programming (1973).

    Example:
        >>> import torch
        >>> PNorm(ideal=[0, 0], p=2.0)(torch.tensor([6.0, 8.0]), torch.tensor([0.5, 0.5]))
        tensor(5.)
    """

    def __init__(self, ideal: Point | None = None, p: float = 8.0, margin: float = 0.01) -> None:
        super().__init__(ideal, margin)
        self.p: float = python_value(p, float, "p")
        if not 1 <= self.p < math.inf:
            raise ValueError(f"p is {p}: a norm needs 1 ≤ p < ∞; the limit at ∞ is Tchebycheff itself.")

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """(Σ_i (λ_i (f_i − z_i))^p)^{1/p}: ``(…, m)`` to ``(…)``."""
        # Rounding may put a loss a hair below z, and a root of it is not a number. Not by clamp, whose slope at 0 is 1
        # or 0 by the version of PyTorch.
        terms = preferences * self.above_ideal(losses)
        terms = terms.masked_fill(terms < 0, 0)
        largest = terms.detach().amax(dim=-1, keepdim=True)
        zero = largest == 0
        # Measured in the largest term, no power overflows, the sum is at least 1 and so its root has a finite slope.
        # The norm is proportional to its terms, so the unit may count as a constant.
        total = (terms / largest.masked_fill(zero, 1)).pow(self.p).sum(dim=-1, keepdim=True)
        norm = largest * total.masked_fill(zero, 1).pow(1 / self.p)
        # At z itself the norm has no slope; give it the one along the diagonal.
        diagonal = terms.sum(dim=-1, keepdim=True) * terms.shape[-1] ** (1 / self.p - 1)
        return norm.where(~zero, diagonal).squeeze(-1)
