"""How far a front is from a known one."""

from numpy.typing import ArrayLike

from mopref._arrays import Array, Maximize, as_points, signs

__all__ = ["fill_distance", "gd", "gd_plus", "igd", "igd_plus"]


def igd(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    """Inverted generational distance: mean distance from each point of a known front to its nearest value.

        IGD(F, P) = (1/|P|) Σ_{p ∈ P} min_{f ∈ F} ‖f − p‖₂

    Lower is better. Not Pareto compliant: see :func:`igd_plus`.

    Args:
        values: points, ``(N, m)``.
        front: points of the known front, ``(K, m)``.
        maximize: direction. Distances do not depend on it; it is taken so that all four distances are called alike.

    Raises:
        ValueError: points on other objectives than the front's, no point, or a number that is not finite.

    Source: C. A. Coello Coello and M. Reyes Sierra, A study of the parallelization of a coevolutionary multi-objective
    evolutionary algorithm, MICAI 2004.

    Example:
        >>> igd([[0.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.5
    """
    from pymoo.indicators.igd import IGD

    points, front_points = _against_front(values, front, maximize)
    return float(IGD(front_points)(points))


def igd_plus(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    """IGD that counts only the objectives in which a value is worse than the front; weakly Pareto compliant.

        IGD⁺(F, P) = (1/|P|) Σ_{p ∈ P} min_{f ∈ F} ‖max(f − p, 0)‖₂

    Lower is better. Shapes as in :func:`igd`.

    Source: H. Ishibuchi, H. Masuda, Y. Tanigaki and Y. Nojima, Modified distance calculation in generational distance
    and inverted generational distance, EMO 2015.

    Example:
        >>> igd_plus([[0.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.0
        >>> igd_plus([[0.0, 2.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        1.0
    """
    from pymoo.indicators.igd_plus import IGDPlus

    points, front_points = _against_front(values, front, maximize)
    return float(IGDPlus(front_points)(points))


def gd(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    """Generational distance: mean distance from each value to the nearest point of a known front.

        GD(F, P) = (1/|F|) Σ_{f ∈ F} min_{p ∈ P} ‖f − p‖₂

    Lower is better. Says nothing about spread: one value on the front has GD 0. Shapes as in :func:`igd`.

    Source: D. A. Van Veldhuizen and G. B. Lamont, Evolutionary computation and convergence to a Pareto front, GP 1998.

    Example:
        >>> gd([[0.0, 2.0], [1.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.5
    """
    from pymoo.indicators.igd import IGD

    points, front_points = _against_front(values, front, maximize)
    # GD is IGD with the sets' roles exchanged. pymoo's own GD holds all N·K differences at once; its IGD does not.
    return float(IGD(points)(front_points))


def gd_plus(values: ArrayLike, front: ArrayLike, maximize: Maximize = False) -> float:
    """GD that counts only the objectives in which a value is worse than the front.

        GD⁺(F, P) = (1/|F|) Σ_{f ∈ F} min_{p ∈ P} ‖max(f − p, 0)‖₂

    Lower is better. Shapes as in :func:`igd`; source as in :func:`igd_plus`.

    Example:
        >>> gd_plus([[0.0, 2.0], [1.0, 1.0]], front=[[0.0, 1.0], [1.0, 1.0]])
        0.5
        >>> gd_plus([[0.0, 0.5]], front=[[0.0, 1.0]])
        0.0
    """
    from pymoo.indicators.igd_plus import IGDPlus

    points, front_points = _against_front(values, front, maximize)
    # max(f − p, 0) = max((−p) − (−f), 0), so GD+ is IGD+ with roles exchanged and signs flipped; see gd for why.
    return float(IGDPlus(-points)(-front_points))


def fill_distance(values: ArrayLike, front: ArrayLike) -> float:
    """Largest distance from a point of a known front to its nearest value: the biggest hole; lower is better.

        max_{p ∈ P} min_{f ∈ F} ‖f − p‖₂

    Shapes as in :func:`igd`.

    Example:
        >>> fill_distance([[0.0, 1.0]], front=[[0.0, 1.0], [3.0, 1.0]])
        3.0
    """
    from scipy.spatial import cKDTree

    points, front_points = _against_front(values, front, maximize=False)
    return float(cKDTree(points).query(front_points)[0].max())


def _against_front(values: ArrayLike, front: ArrayLike, maximize: Maximize) -> tuple[Array, Array]:
    """Two sets on the same objectives, checked and minimised."""
    points, front_points = as_points(values), as_points(front, "front")
    if points.shape[1] != front_points.shape[1]:
        raise ValueError(
            f"values have {points.shape[1]} objectives (shape {points.shape}), but front has {front_points.shape[1]} "
            f"(shape {front_points.shape}): both must be measured on the same objectives."
        )
    factors = signs(maximize, points.shape[1])
    return points * factors, front_points * factors
