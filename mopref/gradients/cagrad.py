"""CAGrad: near the gradient of Σ_i λ_i f_i, the direction in which the worst loss falls fastest."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.setting_types import python_value

from .mgda import unit_rows
from .weighting import GRADIENT_WEIGHTINGS, GradientWeighting

__all__ = ["CAGrad"]

# Of a bisection between two doubles, more than which it has no use for.
_HALVINGS = 64
# A combination of gradients this much shorter than they are is 0 up to rounding.
_TINY = 1e-7


@GRADIENT_WEIGHTINGS.register("cagrad")
class CAGrad(GradientWeighting):
    """w = λ + c‖g_0‖ · p / ‖g_p‖ with g_0 = Σ_i λ_i g_i, g_p = Σ_i p_i g_i, p = argmin_Δ ⟨g_p, g_0⟩ + c‖g_0‖‖g_p‖.

    The direction d = Σ_i w_i g_i is that of linear scalarization, g_0, corrected by c‖g_0‖ at most for the loss that
    would fall slowest: it solves max_d min_i ⟨g_i, d⟩ subject to ‖d − g_0‖ ≤ c‖g_0‖. So

        min_i ⟨g_i, d⟩ = min_p ⟨g_p, g_0⟩ + c‖g_0‖‖g_p‖ ≥ min_i ⟨g_i, g_0⟩     no loss falls slower than the slowest did
        ⟨g_0, d⟩ ≥ (1 − c) ‖g_0‖²                                              and Σ_i λ_i f_i falls

    and it ends where g_0 = 0: at linear scalarization's points. λ is in g_0; the correction serves every loss, also
    one with λ_i = 0. ``clip`` puts min(p_i, λ_i) in the place of p_i, so that it serves none beyond its weight, and a
    corner's direction is its own gradient; of the two inequalities the second holds then.

    The weights are ≥ 0, and sum to more than 1 by the correction. Where g_p = 0 the formula says nothing; d is then
    the nearest point to g_0 in which no loss rises, unless ``clip`` leaves g_0 itself.

    Args:
        c: how far the correction may go, 0 ≤ c < 1; 0 is linear scalarization.
        clip: whether p is clipped at λ.

    Raises:
        ValueError: c out of its range.

    Source: B. Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning (arXiv 2110.14048), with λ in place
    of 1/m; clipped: P. Chen et al., Reward-free Alignment for Conflicting Objectives (arXiv 2602.02495).

    Example:
        >>> losses, preferences = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])
        >>> gramian = torch.eye(2).unsqueeze(0)  # gradients (1, 0) and (0, 1)
        >>> CAGrad(c=0.5)(losses, gramian, preferences), CAGrad(c=0.5, clip=True)(losses, gramian, preferences)
        (tensor([[1.0000, 0.5000]]), tensor([[1., 0.]]))
    """

    @checks_arguments
    def __init__(self, c: float = 0.4, clip: bool = False) -> None:
        self.c: float = python_value(c, float, "c")
        if not 0 <= self.c < 1:
            raise ValueError(f"c is {c}: from 1 on the direction may leave Σ_i λ_i f_i as it is, so give 0 ≤ c < 1.")
        self.clip: bool = python_value(clip, bool, "clip")

    def options(self) -> dict[str, Any]:
        """How far the correction goes, and whether it is clipped."""
        return {"c": self.c, "clip": self.clip}

    def weights(self, losses: Tensor, gramians: Tensor, preferences: Tensor) -> Tensor:
        """λ and the correction's weights, ``(G, m)``, ≥ 0."""
        rows = [
            preference + self._correction(gramian, preference)
            for gramian, preference in zip(gramians.numpy(), preferences.numpy(), strict=True)
        ]
        return torch.from_numpy(np.stack(rows))

    def _correction(self, gramian: np.ndarray, preference: np.ndarray) -> np.ndarray:
        """The weights ``(m,)`` of d − g_0."""
        radius = self.c * _length(gramian, preference)
        correction = _best_correction(gramian, gramian @ preference, radius) if radius > 0 else np.zeros(len(gramian))
        if not self.clip or not correction.any():
            return correction
        clipped = np.minimum(correction / correction.sum(), preference)
        length = _length(gramian, clipped)
        is_zero = length <= _TINY * float(clipped @ np.sqrt(np.diag(gramian).clip(0.0)))
        return np.zeros(len(gramian)) if is_zero else radius / length * clipped


def _length(gramian: np.ndarray, weights: np.ndarray) -> float:
    """‖Σ_i w_i g_i‖."""
    return float(np.sqrt(max(0.0, weights @ gramian @ weights)))


def _best_correction(gramian: np.ndarray, slopes: np.ndarray, radius: float) -> np.ndarray:
    """The weights u ≥ 0 ``(m,)`` of x = Σ_i u_i g_i, the x of ‖x‖ ≤ radius with the largest min_i (slope_i + ⟨g_i, x⟩).

    The largest value t by bisection: for a given t the shortest x with slope_i + ⟨g_i, x⟩ ≥ t for all i is a problem of
    least distance, which non-negative least squares solves (Lawson and Hanson, Solving Least Squares Problems, 23).
    """
    lengths = np.sqrt(np.diag(gramian).clip(0.0))
    moving = np.flatnonzero(lengths)
    rows = unit_rows(gramian[np.ix_(moving, moving)], lengths[moving])
    above = (slopes - slopes.min())[moving]
    # t − min_i slope_i: from 0, where x = 0 will do, to the least that some loss alone allows.
    low, high = 0.0, float((slopes + radius * lengths).min() - slopes.min())
    found = np.zeros(len(moving))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        shortest = _least_distance(rows, (middle - above) / (radius * lengths[moving]))
        if shortest is None:
            high = middle
        else:
            low, found = middle, shortest
    correction = np.zeros(len(gramian))
    correction[moving] = radius * found / lengths[moving]
    return correction


def _least_distance(rows: np.ndarray, bounds: np.ndarray) -> np.ndarray | None:
    """u ≥ 0 such that x = Σ_i u_i r_i is the shortest x with ⟨r_i, x⟩ ≥ bound_i; ``None`` where it is longer than 1."""
    from scipy.optimize import nnls

    k = len(rows)
    solution, residual = nnls(np.vstack([rows.T, bounds]), np.append(np.zeros(k), 1.0), maxiter=100 * k)
    # ‖x‖² = (1 − q) / q with the squared residual q, which is 0 where no x will do.
    share = float(residual) ** 2
    return solution / share if share >= 0.5 else None
