"""How fronts stand to each other: which points of one the other covers, and what each adds to all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mopref._arrays import Array, Maximize, as_points, signs
from mopref.argument_kinds import checked_kind
from mopref.indicators.front_quality import non_dominated

__all__ = ["coverage", "shares_of_union"]


def coverage(values: ArrayLike, others: ArrayLike, maximize: Maximize = False) -> float:
    r"""The share of the others that some value dominates weakly, in [0, 1]: the C-metric; higher is better for values.

    .. math:: C(F, G) = \frac{|\{g \in G : \exists f \in F,\ f \le g\}|}{|G|}

    A point is dominated weakly by what is at least as good in every objective, a copy of it among them. C(F, G) and
    C(G, F) do not add up to 1, so read both. Zitzler and Thiele, "Multiobjective Evolutionary Algorithms: A Comparative
    Case Study and the Strength Pareto Approach", 1999.

    Args:
        values: points F, ``(N, m)``.
        others: points G, ``(K, m)``, in the same units; copies count as often as they occur.
        maximize: direction, one bool or one per objective.

    Raises:
        ValueError: no point, a number that is not finite, or another number of objectives.

    Example:
        >>> coverage([[0.0, 1.0]], others=[[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [2.0, 0.5]])
        0.5
    """
    points, covered = as_points(values), as_points(others, "others")
    _check_objectives([points, covered])
    factors = signs(maximize, points.shape[1])
    losses = points[non_dominated(points, maximize)] * factors
    return float(np.mean([(losses <= other).all(axis=1).any() for other in covered * factors]))


def shares_of_union(fronts: Sequence[ArrayLike], maximize: Maximize = False) -> Array:
    """The share of the distinct non-dominated points of all fronts together that each front has; higher is better.

    A point that several fronts have counts for each of them, so the shares may add up to more than 1. Copies within a
    front count once.

    Args:
        fronts: R fronts, each ``(N_r, m)``.
        maximize: direction, one bool or one per objective.

    Returns:
        Shares ``(R,)`` in [0, 1].

    Raises:
        ValueError: no front, a front without points, a number that is not finite, or other numbers of objectives.

    Example:
        >>> shares_of_union([[[0, 2], [2, 2]], [[2, 0], [0, 2]]])
        array([0.5, 1. ])
    """
    fronts = checked_kind(fronts, Sequence[Any], "fronts")
    if len(fronts) == 0:
        raise ValueError("fronts is empty: give one front at least.")
    all_points = [as_points(front, f"fronts[{place}]") for place, front in enumerate(fronts)]
    _check_objectives(all_points)
    union = np.unique(np.concatenate(all_points), axis=0)
    best = union[non_dominated(union, maximize)]
    return np.array([np.mean((best[:, None] == points).all(axis=2).any(axis=1)) for points in all_points])


def _check_objectives(fronts: Sequence[Array]) -> None:
    counts = [points.shape[1] for points in fronts]
    if len(set(counts)) > 1:
        raise ValueError(
            f"the points have {', '.join(map(str, counts))} objectives: all must be measured on the same objectives."
        )
