"""What a front looks like by itself: dominance, distinct points, evenness, extent."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mopref._arrays import Array, Maximize, as_float64, as_points, signs

__all__ = [
    "fraction_non_dominated",
    "largest_hole",
    "non_dominated",
    "number_of_distinct_non_dominated",
    "range_of_objectives",
    "spacing",
    "sparsity",
]


def non_dominated(values: ArrayLike, maximize: Maximize = False) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    ``a`` dominates ``b`` if it is at least as good in every objective and better in one. Equal points do not dominate
    each other: **all copies** of a non-dominated point are True.

    Args:
        values: points, ``(N, m)``; N may be 0.
        maximize: direction, one bool or one per objective.

    Returns:
        A mask ``(N,)``.

    Example:
        >>> non_dominated([[0, 1], [0, 1], [1, 0], [1, 1]])
        array([ True,  True,  True, False])
    """
    from moocore import is_nondominated

    points = as_points(values, allow_empty=True)
    losses = points * signs(maximize, points.shape[1])
    return np.asarray(is_nondominated(losses, keep_weakly=True), dtype=np.bool_)


def fraction_non_dominated(values: ArrayLike, maximize: Maximize = False) -> float:
    """The share of points that no other point dominates, copies counted as often as they occur.

    Example:
        >>> fraction_non_dominated([[0, 1], [1, 0], [1, 1], [2, 2]])
        0.5
    """
    return float(np.mean(non_dominated(as_points(values), maximize)))


def number_of_distinct_non_dominated(
    values: ArrayLike, tolerance: float | ArrayLike = 1e-6, maximize: Maximize = False
) -> int:
    """The number of non-dominated points that differ from each other by more than ``tolerance`` in some objective.

    The points are visited in lexicographic order; one is counted if no counted point lies within ``tolerance`` of it
    in every objective. So a set within one tolerance of its first point counts once, and a long chain of close points
    as often as its length needs.

    Args:
        values: points, ``(N, m)``.
        tolerance: largest difference, in the objectives' own units, that counts as none: one number or ``(m,)``.
        maximize: direction, one bool or one per objective.

    Raises:
        ValueError: a negative tolerance, or another number of them than of objectives.

    Example:
        >>> number_of_distinct_non_dominated([[0, 1], [0, 1], [1, 0], [2, 2]])
        2
        >>> number_of_distinct_non_dominated([[0, 1], [0.1, 0.9], [1, 0]], tolerance=0.2)
        2
    """
    points = as_points(values)
    limit = as_float64(tolerance, "tolerance")
    if limit.shape not in ((), (points.shape[1],)) or (limit < 0).any():
        raise ValueError(
            f"tolerance is {tolerance!r}: give one number ≥ 0, or one for each of the {points.shape[1]} objectives."
        )
    candidates = _lexicographic(points[non_dominated(points, maximize)])
    representatives = candidates[:1]
    for candidate in candidates[1:]:
        if not (np.abs(representatives - candidate) <= limit).all(axis=1).any():
            representatives = np.vstack([representatives, candidate])
    return len(representatives)


def sparsity(values: ArrayLike, maximize: Maximize = False) -> float:
    """Mean squared gap between neighbours along the non-dominated front, per objective; lower is better.

        1/(m(N − 1)) Σ_{i=1}^{N−1} ‖ξ̃^i − ξ̃^{i+1}‖₂²

    Only non-dominated points count (all copies of one included, so copies lower the value), and N is their number.
    They are sorted by the first objective. For m > 2 a front has no natural order: they are sorted lexicographically
    (first objective, ties by the second, and so on), so there the value depends on the order of the objectives.
    ``maximize`` decides which points are dominated; the distances do not depend on it.

    NaN if fewer than two points are non-dominated, where there is no gap to measure.

    Source: J. Xu et al., Prediction-guided multi-objective reinforcement learning for continuous robot control, ICML
    2020; with Panacea's factor 1/m, arXiv 2402.02030.

    Example:
        >>> sparsity([[0.0, 2.0], [2.0, 0.0], [1.0, 1.0]])
        1.0
        >>> sparsity([[0.0, 0.0], [1.0, 1.0]])
        nan
    """
    points = as_points(values)
    along_front = _lexicographic(points[non_dominated(points, maximize)])
    count, number_of_objectives = along_front.shape
    if count < 2:
        return float("nan")
    return float(np.sum(np.diff(along_front, axis=0) ** 2) / (number_of_objectives * (count - 1)))


def largest_hole(values: ArrayLike, maximize: Maximize = False) -> float:
    """The longest step between neighbours on the non-dominated front, in the objectives' own units; lower is better.

    The longest edge of the shortest tree that joins the points (Euclidean). For two objectives that is the longest step
    along the front. A front of one point has no hole: 0. Read it next to :func:`range_of_objectives`.

    Args:
        values: points, ``(N, m)``.
        maximize: decides which points are dominated; distances do not depend on it.

    Example:
        >>> largest_hole([[0.0, 4.0], [1.0, 1.0], [4.0, 0.0], [4.0, 4.0]]) == 10**0.5
        True
    """
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    points = as_points(values)
    # Copies have no distance, which the tree would take for no way between them.
    points = np.unique(points[non_dominated(points, maximize)], axis=0)
    if len(points) < 2:
        return 0.0
    return float(minimum_spanning_tree(cdist(points, points)).max())


def spacing(values: ArrayLike, maximize: Maximize = False) -> float:
    """Standard deviation of the distance to the nearest other point; lower is more even.

        √((1/N) Σ_i (d_i − d̄)²),   d_i = min_{j ≠ i} ‖ξ^i − ξ^j‖₂

    **Euclidean**, as the paper has it, over all points, dominated ones and copies included. pymoo's
    ``SpacingIndicator`` uses the city-block distance and gives other numbers. ``maximize`` cannot change a distance; it
    is taken, and checked, so that all indicators of a front are called alike. NaN for one point: it has no neighbour.

    Source: J. R. Schott, Fault tolerant design using single and multicriteria genetic algorithm optimization, 1995.

    Example:
        >>> spacing([[0.0, 3.0], [0.0, 4.0], [4.0, 0.0]])  # distances to the nearest: 1, 1, 5
        1.8856180831641267
    """
    from scipy.spatial import cKDTree

    points = as_points(values)
    signs(maximize, points.shape[1])
    if len(points) < 2:
        return float("nan")
    # The nearest neighbour is the point itself or a copy of it, so the second nearest is the one that is meant.
    distances = cKDTree(points).query(points, k=2)[0][:, 1]
    return float(np.std(distances))


def range_of_objectives(values: ArrayLike) -> Array:
    """Each objective's maximum minus its minimum over all points, ``(m,)``.

    Example:
        >>> range_of_objectives([[0.0, 5.0], [2.0, 5.0]])
        array([2., 0.])
    """
    return np.ptp(as_points(values), axis=0)


def _lexicographic(points: Array) -> Array:
    """The rows in order of the first objective, ties by the second, and so on."""
    return points[np.lexsort(points.T[::-1])]
