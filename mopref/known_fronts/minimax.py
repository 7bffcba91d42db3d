"""The Tchebycheff optimum of convex losses whose optimum under any weighted sum is known."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LinearOptima", "minimax_mixtures"]

# From weights (N, m) on the simplex to the losses (N, m) at the minimum of their weighted sum.
LinearOptima: TypeAlias = Callable[[Tensor], Tensor]
# Beside the largest difference f − z; what is left of the gap where the solver is content is far below it.
_LARGEST_GAP = 1e-5


def minimax_mixtures(linear_optima: LinearOptima, preferences: Tensor, ideal: Tensor) -> Tensor:
    """The μ for which min_π Σ_i μ_i f_i is attained at the π of min_π max_i λ_i (f_i(π) − z_i): ``(N, m)``.

    Of convex losses the two problems are dual: max over w on the simplex of D(w) = min_π Σ_i w_i λ_i (f_i(π) − z_i), a
    concave function whose slope in w_i is λ_i (f_i − z_i) at the inner minimum; μ ∝ w·λ.

    Args:
        linear_optima: the losses at the minimum of a weighted sum, each unique.
        preferences: λ, ``(N, m)``, float64, on the simplex.
        ideal: z, ``(m,)``.

    Raises:
        ArithmeticError: the gap between the two problems stays open, so that the solver failed.
    """
    return torch.stack([_mixture(linear_optima, preference, ideal) for preference in preferences])


def _mixture(linear_optima: LinearOptima, preference: Tensor, ideal: Tensor) -> Tensor:
    from scipy.optimize import minimize

    support = preference > 0
    weights = preference[support]

    def mixture(w: NDArray[np.float64]) -> Tensor:
        spread = torch.zeros_like(preference)
        spread[support] = torch.from_numpy(w.clip(min=0)) * weights
        return spread / spread.sum()

    def dual(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope = (weights * (linear_optima(mixture(w).unsqueeze(0))[0] - ideal)[support]).numpy()
        return -float(w @ slope), -slope

    count = int(support.sum())
    if count == 1:
        return preference
    start = (1 / weights / (1 / weights).sum()).numpy()
    result = minimize(
        dual,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    w = result.x.clip(0, 1) / result.x.clip(0, 1).sum()
    value, slope = dual(w)
    gap, size = float((-slope).max() + value), float(np.abs(slope).max())
    if not gap <= _LARGEST_GAP * size:
        raise ArithmeticError(f"the minimax problem at {preference.tolist()} was not solved: a gap of {gap:g} is left.")
    return mixture(w)
