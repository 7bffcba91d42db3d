"""Fronts of test problems in closed form, and where a ray meets them."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from torch import Tensor

from mopref import Problem
from mopref.objectives import DTLZ2, VLMOP2, ZDT1, ZDT2

# φ(f), rising along any ray from the ideal point 0 and zero on the front.
FRONTS = {
    ZDT1: lambda f: f[1] + np.sqrt(f[0]) - 1,
    ZDT2: lambda f: f[1] + f[0] ** 2 - 1,
    VLMOP2: lambda f: np.sqrt(-np.log1p(-np.minimum(f, 1 - 1e-16))).sum() - 2,
    DTLZ2: lambda f: (f**2).sum() - 1,
}


def lengths_to_front(problem: Problem, preferences: Tensor | Sequence[Sequence[float]], epsilon: float) -> np.ndarray:
    """The t where the ray t·max(λ, ε) from the ideal point 0 meets the front: ``(N, m)`` to ``(N,)``."""
    front = FRONTS[type(problem)]
    rays = np.maximum(np.asarray(preferences, dtype=np.float64), epsilon)
    return np.array([brentq(lambda t, ray=ray: front(t * ray), 0, 1 / ray.max(), xtol=1e-14) for ray in rays])


def exact_optimum(problem: Problem, preferences: Tensor | Sequence[Sequence[float]], epsilon: float) -> np.ndarray:
    """The point where that ray meets the front, the optimum of modified Tchebycheff: ``(N, m)`` to ``(N, m)``."""
    rays = np.maximum(np.asarray(preferences, dtype=np.float64), epsilon)
    return rays * lengths_to_front(problem, preferences, epsilon)[:, None]
