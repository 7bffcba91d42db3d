"""How good a front is: pure functions of arrays.

Everything is **minimised** unless ``maximize`` says otherwise: one bool for all objectives, or one per objective.
``values`` is always ``(N, m)``: N points, m objectives. Lists, numpy arrays and torch tensors (with a gradient, on a
device, in half precision) are accepted, computed on as float64 copies, and never modified. A NaN or an infinite number
raises a :class:`ValueError` that names the row, since an indicator that drops a diverged point silently makes a broken
model look good. An empty set of points raises too, except where the answer is plain (:func:`hypervolume` is 0,
:func:`non_dominated` is empty).

A front on which every preference reaches the same point has perfect :func:`sparsity` and :func:`spacing`: read those
next to :func:`hypervolume`, :func:`range_of_objectives` and :func:`number_of_distinct_non_dominated`.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mopref._arrays import Array, Maximize, as_float64, as_points, as_vector, signs

__all__ = [
    "HypervolumeResult",
    "PreferenceRegret",
    "cross_angle",
    "fill_distance",
    "fraction_non_dominated",
    "gd",
    "gd_plus",
    "hypervolume",
    "hypervolume_with_method",
    "igd",
    "igd_plus",
    "inner_product",
    "non_dominated",
    "number_of_distinct_non_dominated",
    "preference_regret",
    "range_of_objectives",
    "spacing",
    "sparsity",
]

# Largest number of points, by number of objectives, for which the exact hypervolume takes well under a second.
_EXACT_LIMITS = {5: 5000, 6: 500, 7: 100}
_ALWAYS_EXACT_UP_TO = 4
_APPROXIMATION_SAMPLES = 2**18


class HypervolumeResult(NamedTuple):
    """A hypervolume and whether it is exact or moocore's approximation."""

    value: float
    exact: bool


class PreferenceRegret(NamedTuple):
    """Regret of each preference ``(N,)``, with its mean and its maximum."""

    mean: float
    max: float
    per_preference: Array


def _paired(values: ArrayLike, partner: ArrayLike, what: str) -> tuple[Array, Array]:
    """Check two arrays whose rows belong together."""
    points, other = as_points(values), as_points(partner, what)
    if points.shape != other.shape:
        raise ValueError(
            f"values have shape {points.shape} and {what} {other.shape}; they must be equal, since row i of one "
            "belongs to row i of the other."
        )
    return points, other


def _against_front(values: ArrayLike, front: ArrayLike, maximize: Maximize) -> tuple[Array, Array]:
    """Check two sets on the same objectives and return them minimised."""
    points, known = as_points(values), as_points(front, "front")
    if points.shape[1] != known.shape[1]:
        raise ValueError(
            f"values have {points.shape[1]} objectives (shape {points.shape}), but front has {known.shape[1]} "
            f"(shape {known.shape}); both must be measured on the same objectives."
        )
    factors = signs(maximize, points.shape[1])
    return points * factors, known * factors


def non_dominated(values: ArrayLike, maximize: Maximize = False) -> NDArray[np.bool_]:
    """Tell which points no other point dominates.

    ``a`` dominates ``b`` if it is at least as good in every objective and better in one. Equal points do not dominate
    each other: **all copies** of a non-dominated point are True.

    Args:
        values: Points, ``(N, m)``; N may be 0.
        maximize: Direction, one bool or one per objective.

    Returns:
        A mask ``(N,)``.

    Examples:
        >>> non_dominated([[0, 1], [0, 1], [1, 0], [1, 1]])
        array([ True,  True,  True, False])
    """
    from moocore import is_nondominated  # type: ignore[import-untyped]

    points = as_points(values, allow_empty=True)
    minimised = points * signs(maximize, points.shape[1])
    return np.asarray(is_nondominated(minimised, keep_weakly=True), dtype=np.bool_)


def fraction_non_dominated(values: ArrayLike, maximize: Maximize = False) -> float:
    """Return the share of points that no other point dominates, copies counted as often as they occur.

    Examples:
        >>> fraction_non_dominated([[0, 1], [1, 0], [1, 1], [2, 2]])
        0.5
    """
    return float(np.mean(non_dominated(as_points(values), maximize)))


def number_of_distinct_non_dominated(
    values: ArrayLike, tolerance: float | ArrayLike = 1e-6, maximize: Maximize = False
) -> int:
    """Count the non-dominated points that differ from each other by more than ``tolerance`` in some objective.

    The points are visited in lexicographic order; one is counted if no counted point lies within ``tolerance`` of it
    in every objective. So a set within one tolerance of its first point counts once, and a long chain of close points
    as often as its length needs.

    Args:
        values: Points, ``(N, m)``.
        tolerance: Largest difference, in the objectives' own units, that counts as none: one number or ``(m,)``.
        maximize: Direction, one bool or one per objective.

    Examples:
        >>> number_of_distinct_non_dominated([[0, 1], [0, 1], [1, 0], [2, 2]])
        2
        >>> number_of_distinct_non_dominated([[0, 1], [0.1, 0.9], [1, 0]], tolerance=0.2)
        2
    """
    points = as_points(values)
    limit = as_float64(tolerance, "tolerance")
    if limit.shape not in ((), (points.shape[1],)) or (limit < 0).any():
        raise ValueError(
            f"tolerance must be one number >= 0, or one per objective ({points.shape[1]}), but got {tolerance!r}."
        )
    candidates = _lexicographic(points[non_dominated(points, maximize)])
    counted = candidates[:1]
    for candidate in candidates[1:]:
        if not (np.abs(counted - candidate) <= limit).all(axis=1).any():
            counted = np.vstack([counted, candidate])
    return len(counted)


def hypervolume_with_method(
    values: ArrayLike, reference_point: ArrayLike, maximize: Maximize = False
) -> HypervolumeResult:
    """Compute :func:`hypervolume` and tell whether it is exact, without a warning.

    Examples:
        >>> hypervolume_with_method([[0.0, 1.0], [1.0, 0.0]], reference_point=[2.0, 2.0])
        HypervolumeResult(value=3.0, exact=True)
    """
    points = as_points(values, allow_empty=True)
    number_of_objectives = points.shape[1]
    factors = signs(maximize, number_of_objectives)
    reference = as_vector(reference_point, number_of_objectives, "reference_point") * factors
    points = points * factors
    points = points[(points < reference).all(axis=1)]
    points = points[non_dominated(points)]
    if len(points) == 0:
        return HypervolumeResult(0.0, exact=True)
    if number_of_objectives <= _ALWAYS_EXACT_UP_TO or len(points) <= _EXACT_LIMITS.get(number_of_objectives, 0):
        from pymoo.indicators.hv import HV  # type: ignore[import-untyped]

        return HypervolumeResult(float(HV(ref_point=reference)(points)), exact=True)
    from moocore import hv_approx  # type: ignore[import-untyped]

    # This method samples a deterministic low-discrepancy sequence, so that the same points give the same number.
    value = hv_approx(points, ref=reference, nsamples=_APPROXIMATION_SAMPLES, method="Rphi-FWE+")
    return HypervolumeResult(float(value), exact=False)


def hypervolume(values: ArrayLike, reference_point: ArrayLike, maximize: Maximize = False) -> float:
    r"""Volume that the points dominate, bounded by a reference point; higher is better.

    .. math:: HV(F; r) = \mathrm{vol}\Big(\bigcup_{f \in F,\ f < r} [f_1, r_1] \times \dots \times [f_m, r_m]\Big)

    Dominated points, and points that are not better than the reference point in every objective, add nothing. Two
    fronts compare only under the same reference point, so there is no default.

    Exact, through pymoo, for m ≤ 4, and for m = 5, 6, 7 with up to 5000, 500, 100 non-dominated points inside the
    reference point. Beyond that the value is moocore's deterministic approximation (relative error about 1e-4) and a
    :class:`UserWarning` says so; :func:`hypervolume_with_method` returns that fact instead.

    Args:
        values: Points, ``(N, m)``. An empty set has volume 0.
        reference_point: ``(m,)``, in the direction of ``values`` (a lower bound where an objective is maximised).
        maximize: Direction, one bool or one per objective.

    References:
        Zitzler and Thiele, Multiobjective optimization using evolutionary algorithms, PPSN 1998.
        Fonseca, Paquete and López-Ibáñez, An improved dimension-sweep algorithm for the hypervolume indicator,
        CEC 2006.

    Examples:
        >>> hypervolume([[0.0, 1.0], [1.0, 0.0]], reference_point=[2.0, 2.0])
        3.0
        >>> hypervolume([[2.0, 1.0], [1.0, 2.0]], reference_point=[0.0, 0.0], maximize=True)
        3.0
    """
    result = hypervolume_with_method(values, reference_point, maximize)
    if not result.exact:
        warnings.warn(
            f"The hypervolume of {np.shape(values)} points is an approximation: the exact one takes too long beyond "
            f"4 objectives with many points ({_EXACT_LIMITS}). Say so where you show it, or use fewer points.",
            UserWarning,
            stacklevel=2,
        )
    return result.value


def igd(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    r"""Inverted generational distance: mean distance from each point of a known front to its nearest value.

    .. math:: IGD(F, P) = \frac{1}{|P|} \sum_{p \in P} \min_{f \in F} \|f - p\|_2

    Lower is better. Not Pareto compliant: see :func:`igd_plus`.

    Args:
        values: Points, ``(N, m)``.
        front: Points of the known front, ``(K, m)``.
        maximize: Direction. Distances do not depend on it; it is taken so that all four distances are called alike.

    References:
        Coello Coello and Reyes Sierra, A study of the parallelization of a coevolutionary multi-objective evolutionary
        algorithm, MICAI 2004.

    Examples:
        >>> igd([[0.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.5
    """
    from pymoo.indicators.igd import IGD  # type: ignore[import-untyped]

    points, known = _against_front(values, front, maximize)
    return float(IGD(known)(points))


def igd_plus(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    r"""IGD that counts only the objectives in which a value is worse than the front; weakly Pareto compliant.

    .. math:: IGD^+(F, P) = \frac{1}{|P|} \sum_{p \in P} \min_{f \in F} \|\max(f - p, 0)\|_2

    Lower is better. Shapes as in :func:`igd`.

    References:
        Ishibuchi, Masuda, Tanigaki and Nojima, Modified distance calculation in generational distance and inverted
        generational distance, EMO 2015.

    Examples:
        >>> igd_plus([[0.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.0
        >>> igd_plus([[0.0, 2.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        1.0
    """
    from pymoo.indicators.igd_plus import IGDPlus  # type: ignore[import-untyped]

    points, known = _against_front(values, front, maximize)
    return float(IGDPlus(known)(points))


def gd(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    r"""Generational distance: mean distance from each value to the nearest point of a known front.

    .. math:: GD(F, P) = \frac{1}{|F|} \sum_{f \in F} \min_{p \in P} \|f - p\|_2

    Lower is better. Says nothing about spread: one value on the front has GD 0. Shapes as in :func:`igd`.

    References:
        Van Veldhuizen and Lamont, Evolutionary computation and convergence to a Pareto front, GP 1998.

    Examples:
        >>> gd([[0.0, 2.0], [1.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.5
    """
    from pymoo.indicators.igd import IGD  # type: ignore[import-untyped]

    points, known = _against_front(values, front, maximize)
    # GD is IGD with the sets' roles exchanged. pymoo's own GD holds all N·K differences at once; its IGD does not.
    return float(IGD(points)(known))


def gd_plus(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    r"""GD that counts only the objectives in which a value is worse than the front.

    .. math:: GD^+(F, P) = \frac{1}{|F|} \sum_{f \in F} \min_{p \in P} \|\max(f - p, 0)\|_2

    Lower is better. Shapes as in :func:`igd`; source as in :func:`igd_plus`.

    Examples:
        >>> gd_plus([[0.0, 2.0], [1.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.5
        >>> gd_plus([[0.0, 0.5]], front=[[0.0, 1.0]])
        0.0
    """
    from pymoo.indicators.igd_plus import IGDPlus  # type: ignore[import-untyped]

    points, known = _against_front(values, front, maximize)
    # max(f − p, 0) = max((−p) − (−f), 0), so GD+ is IGD+ with roles exchanged and signs flipped; see gd for why.
    return float(IGDPlus(-points)(-known))


def inner_product(preferences: ArrayLike, values: ArrayLike, maximize: Maximize = False) -> float:
    r"""Mean agreement of the values with the preferences they were reached with; higher is better.

    .. math:: \frac{1}{N} \sum_i \langle \lambda^i, \xi^i \rangle

    The paper's :math:`\xi` is maximised, so here :math:`\xi` = values where ``maximize``, and :math:`\xi` = **−values**
    where an objective is minimised. Rows are paired: row i of ``values`` was reached with row i of ``preferences``.

    Args:
        preferences: ``(N, m)``.
        values: ``(N, m)``.
        maximize: Direction, one bool or one per objective.

    References:
        Zhong et al., Panacea: Pareto alignment via preference adaptation for LLMs, arXiv 2402.02030.

    Examples:
        >>> inner_product([[1.0, 0.0], [0.0, 1.0]], [[3.0, 1.0], [1.0, 5.0]], maximize=True)
        4.0
        >>> inner_product([[1.0, 0.0], [0.0, 1.0]], [[3.0, 1.0], [1.0, 5.0]])
        -4.0
    """
    points, weights = _paired(values, preferences, "preferences")
    return float(np.mean(np.sum(weights * points * -signs(maximize, points.shape[1]), axis=1)))


def _lexicographic(points: Array) -> Array:
    """Sort rows by the first objective, ties by the second, and so on."""
    return points[np.lexsort(points.T[::-1])]


def sparsity(values: ArrayLike, maximize: Maximize = False) -> float:
    r"""Mean squared gap between neighbours along the non-dominated front, per objective; lower is better.

    .. math:: \frac{1}{m(N-1)} \sum_{i=1}^{N-1} \|\tilde\xi^i - \tilde\xi^{i+1}\|_2^2

    Only non-dominated points count (all copies of one included, so copies lower the value), and N is their number.
    They are sorted by the first objective. For m > 2 a front has no natural order: they are sorted lexicographically
    (first objective, ties by the second, and so on), so there the value depends on the order of the objectives.
    ``maximize`` decides which points are dominated; the distances do not depend on it.

    NaN if fewer than two points are non-dominated, where there is no gap to measure.

    References:
        Xu et al., Prediction-guided multi-objective reinforcement learning for continuous robot control, ICML 2020;
        with Panacea's factor 1/m, arXiv 2402.02030.

    Examples:
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


def spacing(values: ArrayLike, maximize: Maximize = False) -> float:
    r"""Standard deviation of the distance to the nearest other point; lower is more even.

    .. math:: \sqrt{\tfrac{1}{N} \sum_i (d_i - \bar d)^2}, \qquad d_i = \min_{j \ne i} \|\xi^i - \xi^j\|_2

    **Euclidean**, as the paper has it, over all points, dominated ones and copies included. pymoo's
    ``SpacingIndicator`` uses the city-block distance and gives other numbers. ``maximize`` cannot change a distance; it
    is taken, and checked, so that all indicators of a front are called alike. NaN for one point: it has no neighbour.

    References:
        Schott, Fault tolerant design using single and multicriteria genetic algorithm optimization, 1995.

    Examples:
        >>> spacing([[0.0, 3.0], [0.0, 4.0], [4.0, 0.0]])  # distances to the nearest: 1, 1, 5
        1.8856180831641267
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    points = as_points(values)
    signs(maximize, points.shape[1])
    if len(points) < 2:
        return float("nan")
    # The nearest neighbour is the point itself or a copy of it, so the second nearest is the one that is meant.
    distances = cKDTree(points).query(points, k=2)[0][:, 1]
    return float(np.std(distances))


def fill_distance(values: ArrayLike, front: ArrayLike) -> float:
    r"""Largest distance from a point of a known front to its nearest value: the biggest hole; lower is better.

    .. math:: \max_{p \in P} \min_{f \in F} \|f - p\|_2

    Shapes as in :func:`igd`.

    Examples:
        >>> fill_distance([[0.0, 1.0]], front=[[0.0, 1.0], [3.0, 1.0]])
        3.0
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    points, known = _against_front(values, front, maximize=False)
    return float(cKDTree(points).query(known)[0].max())


def range_of_objectives(values: ArrayLike) -> Array:
    """Return each objective's maximum minus its minimum over all points, ``(m,)``.

    Examples:
        >>> range_of_objectives([[0.0, 5.0], [2.0, 5.0]])
        array([2., 0.])
    """
    return np.ptp(as_points(values), axis=0)


def cross_angle(values: ArrayLike, directions: ArrayLike, ideal_point: ArrayLike) -> float:
    r"""Mean angle in degrees between a value, seen from the ideal point, and the direction it was meant to reach.

    .. math:: \frac{1}{N} \sum_i \angle(f^i - z,\ d^i)

    The direction is the **scalarizer's own**: the preference λ for modified Tchebycheff, achievement scalarizing and
    PBI, 1/λ for Tchebycheff. 0 means that every preference reached the ray it asked for.

    Args:
        values: Minimised values, ``(N, m)``.
        directions: ``(N, m)``, of any length, row i belonging to row i of ``values``.
        ideal_point: z, ``(m,)``.

    Examples:
        >>> round(cross_angle([[1.0, 1.0], [2.0, 0.0]], directions=[[0.5, 0.5], [0.0, 1.0]], ideal_point=[0, 0]), 6)
        45.0
    """
    points, targets = _paired(values, directions, "directions")
    reached = points - as_vector(ideal_point, points.shape[1], "ideal_point")
    for rows, problem in (
        (reached, "values equal the ideal point in row {}, where the angle is undefined; use a lower ideal point."),
        (targets, "directions are all zero in row {}, which points nowhere."),
    ):
        zero = np.flatnonzero(~rows.any(axis=1))
        if len(zero):
            raise ValueError(problem.format(zero[0]))
    reached /= np.linalg.norm(reached, axis=1, keepdims=True)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    # Half-angle form: unlike the arc cosine it does not lose half of the digits near 0 degrees.
    difference, total = np.linalg.norm(reached - targets, axis=1), np.linalg.norm(reached + targets, axis=1)
    return float(np.mean(np.degrees(2 * np.arctan2(difference, total))))


def preference_regret(scalarized: ArrayLike, best: ArrayLike | None = None) -> PreferenceRegret:
    r"""How much each preference loses by getting its own point instead of the best one for it; lower is better.

    .. math:: \text{regret}_j = g(f(\lambda^j); \lambda^j) - \min_x g(f(x); \lambda^j)

    Either give ``(N,)`` own values and the ``(N,)`` best reachable ones, or one matrix ``G`` with
    ``G[i, j]`` = g(point i; preference j), rows 0 … N−1 being the preferences' own points; more rows (a known front,
    another method's points) may follow. From a matrix a regret is never negative. From two vectors it may be: then
    ``best`` was not the best, and the sign is kept to show it.

    Args:
        scalarized: Minimised g, ``(N,)`` with ``best``, or ``(M, N)`` with M ≥ N without.
        best: ``(N,)`` or None.

    Examples:
        >>> preference_regret([[1.0, 4.0], [0.5, 3.0]])  # preference 0 is better off with point 1
        PreferenceRegret(mean=0.25, max=0.5, per_preference=array([0.5, 0. ]))
        >>> preference_regret([1.0, 3.0], best=[0.5, 3.0]).max
        0.5
    """
    own = as_float64(scalarized, "scalarized")
    if best is None:
        if own.ndim != 2 or own.shape[1] == 0 or own.shape[0] < own.shape[1]:
            raise ValueError(
                f"scalarized has shape {own.shape}; without `best` it must be (points, preferences) with at least as "
                "many points as preferences, point j being the one that preference j reached."
            )
        regret = np.diagonal(own) - own.min(axis=0)
    else:
        reachable = as_float64(best, "best")
        if own.ndim != 1 or len(own) == 0 or own.shape != reachable.shape:
            raise ValueError(
                f"scalarized has shape {own.shape} and best {reachable.shape}; both must be (N,), N >= 1, one number a "
                "preference."
            )
        regret = own - reachable
    return PreferenceRegret(float(regret.mean()), float(regret.max()), regret)
