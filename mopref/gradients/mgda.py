"""MGDA: the shortest convex combination of the gradients."""

import numpy as np
import torch
from torch import Tensor

from .weighting import GRADIENT_WEIGHTINGS, GradientWeighting

__all__ = ["MGDA", "shortest_combination", "unit_rows"]


@GRADIENT_WEIGHTINGS.register("mgda")
class MGDA(GradientWeighting):
    """w = argmin ‖Σ_i w_i ∇f_i‖² = wᵀ G w over w ≥ 0, Σ_i w_i = 1, with the Gramian G.

    The direction −Σ_i w_i ∇f_i lowers every loss, at a rate of at least wᵀ G w: (G w)_i ≥ wᵀ G w. It is 0 exactly
    where no direction lowers them all (Pareto stationarity); with m = 2 the weights have a closed form. Where several w
    reach the minimum, as with equal gradients, one of them is returned; their direction is the same.

    **The preference is not looked at.** MGDA stops at any Pareto-stationary point, so where a model ends for some λ
    depends on where it started. Scaling the losses by λ_i would change their rates, and still not say where to stop.
    For the point that a preference asks for use ``EPO`` or a scalarizer; ``WeightedMGDA`` lets λ say how fast each loss
    falls.

    Source: J.-A. Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective optimization (2012); O. Sener
    and V. Koltun, Multi-Task Learning as Multi-Objective Optimization (arXiv 1810.04650).

    Example:
        >>> losses, preferences = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.5, 0.5]])
        >>> gramian = torch.tensor([[[4.0, 0.0], [0.0, 1.0]]])  # gradients (2, 0) and (0, 1)
        >>> MGDA()(losses, gramian, preferences)
        tensor([[0.2000, 0.8000]])
    """

    def weights(self, losses: Tensor, gramians: Tensor, preferences: Tensor) -> Tensor:
        """The weights of the shortest combination, ``(G, m)``, ≥ 0 with sum 1."""
        if gramians.shape[-1] == 2:
            return _of_two(gramians)
        equal = np.ones(gramians.shape[-1])
        return torch.stack([torch.from_numpy(shortest_combination(gramian.numpy(), equal)) for gramian in gramians])


def _of_two(gramians: Tensor) -> Tensor:
    """w_1 = (G_22 − G_12) / (G_11 − 2 G_12 + G_22), kept in [0, 1]: ``(G, 2, 2)`` to ``(G, 2)``."""
    first, second, cross = gramians[:, 0, 0], gramians[:, 1, 1], (gramians[:, 0, 1] + gramians[:, 1, 0]) / 2
    squared_distance = first - 2 * cross + second
    divisor = squared_distance.clamp(min=torch.finfo(gramians.dtype).tiny)
    # Equal gradients share the weight.
    share = torch.where(squared_distance > 0, (second - cross) / divisor, 0.5).clamp(0, 1)
    return torch.stack([share, 1 - share], dim=1)


def shortest_combination(gramian: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """argmin wᵀ G w over w ≥ 0, Σ_i a_i w_i = 1, brought to the sum 1: G ``(m, m)`` and a > 0, ``(m,)``, to ``(m,)``.

    By non-negative least squares, an exact active-set method. With rows r_i such that ⟨r_i, r_j⟩ = G_ij, the minimum of
    ‖Σ_i u_i r_i‖² + (Σ_i a_i u_i − 1)² over u ≥ 0 is at u = s·w: for a given w it is
    ‖Σ_i w_i r_i‖² / (1 + ‖Σ_i w_i r_i‖²), at s > 0, which rises with the norm.
    """
    from scipy.optimize import nnls

    m = len(gramian)
    lengths = np.sqrt(np.clip(np.diag(gramian), 0.0, None))
    shortest = int((lengths / amounts).argmin())
    if lengths[shortest] == 0.0:
        return np.eye(m)[shortest]
    rows = (lengths * (amounts[shortest] / lengths[shortest]))[:, None] * unit_rows(gramian, lengths)
    solution, _ = nnls(np.vstack([rows.T, amounts]), np.append(np.zeros(m), 1.0), maxiter=100 * m)
    return solution / solution.sum()


def unit_rows(gramian: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows of length 1 in m dimensions whose products are the cosines of the gradients: ``(m, m)``.

    The root of the cosines, not of the Gramian itself, which would lose the short gradients beside the long ones.
    """
    values, vectors = np.linalg.eigh(gramian / np.outer(lengths, lengths))
    return vectors * np.sqrt(np.clip(values, 0.0, None))
