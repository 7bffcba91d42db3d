"""Whether each preference got what it asked for."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from mopref._arrays import Array, Maximize, as_float64, as_points, as_vector, signs
from mopref.argument_kinds import checks_arguments
from mopref.scalarizer import Scalarizer

__all__ = [
    "PreferenceRegret",
    "cross_angle",
    "inner_product",
    "preference_regret",
    "scalarizer_cross_angle",
    "scalarizer_regret",
]


class PreferenceRegret(NamedTuple):
    """Regret of each preference ``(N,)``, with its mean and its maximum."""

    mean: float
    max: float
    per_preference: Array


def inner_product(preferences: ArrayLike, values: ArrayLike, maximize: Maximize = False) -> float:
    """Mean agreement of the values with the preferences they were reached with; higher is better.

        (1/N) Σ_i ⟨λ^i, ξ^i⟩

    The paper's ξ is maximised, so here ξ = values where ``maximize``, and ξ = **−values**
    where an objective is minimised. Rows are paired: row i of ``values`` was reached with row i of ``preferences``.

    Args:
        preferences: ``(N, m)``.
        values: ``(N, m)``.
        maximize: direction, one bool or one per objective.

    Raises:
        ValueError: arrays of two shapes, or a number that is not finite.

    Source: Y. Zhong et al., Panacea: Pareto alignment via preference adaptation for LLMs, arXiv 2402.02030.

    Example:
        >>> inner_product([[1.0, 0.0], [0.0, 1.0]], [[3.0, 1.0], [1.0, 5.0]], maximize=True)
        4.0
        >>> inner_product([[1.0, 0.0], [0.0, 1.0]], [[3.0, 1.0], [1.0, 5.0]])
        -4.0
    """
    points, weights = _paired(values, preferences, "preferences")
    return float(np.mean(np.sum(weights * points * -signs(maximize, points.shape[1]), axis=1)))


def cross_angle(values: ArrayLike, directions: ArrayLike, ideal_point: ArrayLike) -> float:
    """Mean angle in degrees between a value, seen from the ideal point, and the direction it was meant to reach.

        (1/N) Σ_i ∠(f^i − z, d^i)

    The direction is the **scalarizer's own** (:meth:`mopref.Scalarizer.target_direction`): 1/λ for Tchebycheff,
    modified Tchebycheff, PBI and, from a reference point that is out of reach, achievement scalarizing; λ for the last
    three where λ is told to be a "ray". 0 means that every preference reached the ray it asked for.

    Args:
        values: minimised values, ``(N, m)``.
        directions: ``(N, m)``, of any length, row i belonging to row i of ``values``.
        ideal_point: z, ``(m,)``.

    Raises:
        ValueError: a value that is the ideal point itself, a direction of zeros, shapes that do not match, or a number
            that is not finite.

    Example:
        >>> round(cross_angle([[1.0, 1.0], [2.0, 0.0]], directions=[[0.5, 0.5], [0.0, 1.0]], ideal_point=[0, 0]), 6)
        45.0
    """
    points, targets = _paired(values, directions, "directions")
    offsets = points - as_vector(ideal_point, points.shape[1], "ideal_point")
    for rows, problem in (
        (offsets, "values equal the ideal point in row {}, where the angle is undefined: use a lower ideal point."),
        (targets, "directions are all zero in row {}, which points nowhere: give one number other than 0."),
    ):
        zero = np.flatnonzero(~rows.any(axis=1))
        if len(zero):
            raise ValueError(problem.format(zero[0]))
    offsets /= np.linalg.norm(offsets, axis=1, keepdims=True)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    # Half-angle form: unlike the arc cosine it does not lose half of the digits near 0 degrees.
    difference, total = np.linalg.norm(offsets - targets, axis=1), np.linalg.norm(offsets + targets, axis=1)
    return float(np.mean(np.degrees(2 * np.arctan2(difference, total))))


def preference_regret(scalarized: ArrayLike, best: ArrayLike | None = None) -> PreferenceRegret:
    """How much each preference loses by getting its own point instead of the best one for it; lower is better.

        regret_j = g(f(λ^j); λ^j) − min_x g(f(x); λ^j)

    Either give ``(N,)`` own values and the ``(N,)`` best reachable ones, or one matrix ``G`` with
    ``G[i, j]`` = g(point i; preference j), rows 0 … N−1 being the preferences' own points; more rows (a known front,
    another method's points) may follow. From a matrix a regret is never negative. From two vectors it may be: then
    ``best`` was not the best, and the sign is kept to show it.

    Args:
        scalarized: minimised g, ``(N,)`` with ``best``, or ``(M, N)`` with M ≥ N without.
        best: ``(N,)`` or ``None``.

    Raises:
        ValueError: arrays of other shapes, or a number that is not finite.

    Example:
        >>> preference_regret([[1.0, 4.0], [0.5, 3.0]])  # preference 0 is better off with point 1
        PreferenceRegret(mean=0.25, max=0.5, per_preference=array([0.5, 0. ]))
        >>> preference_regret([1.0, 3.0], best=[0.5, 3.0]).max
        0.5
    """
    own = as_float64(scalarized, "scalarized")
    if best is None:
        if own.ndim != 2 or own.shape[1] == 0 or own.shape[0] < own.shape[1]:
            raise ValueError(
                f"scalarized has shape {own.shape}: without best it must be (points, preferences) with at least as "
                "many points as preferences, point j being the one that preference j reached."
            )
        regret = np.diagonal(own) - own.min(axis=0)
    else:
        reachable = as_float64(best, "best")
        if own.ndim != 1 or len(own) == 0 or own.shape != reachable.shape:
            raise ValueError(
                f"scalarized has shape {own.shape} and best {reachable.shape}: both must be (N,), N ≥ 1, one number a "
                "preference."
            )
        regret = own - reachable
    return PreferenceRegret(float(regret.mean()), float(regret.max()), regret)


@checks_arguments
def scalarizer_cross_angle(values: ArrayLike, preferences: ArrayLike, scalarizer: Scalarizer) -> float:
    """The :func:`cross_angle` in degrees against what a scalarizer itself aims at, from its own ideal point.

    Values that are better than that point in every objective, as under achievement scalarizing from a point that can be
    improved on, are compared with the direction back from it: −λ, whatever λ says above the point.

    Args:
        values: minimised values, ``(N, m)``.
        preferences: λ, ``(N, m)``, row i belonging to row i of ``values``.
        scalarizer: one with a target direction, and an ideal or a reference point. It is asked, not changed.

    Raises:
        ValueError: the scalarizer has no target direction (linear scalarization), or no point to look from yet.

    Example:
        >>> from mopref.scalarizers import ModifiedTchebycheff
        >>> round(scalarizer_cross_angle([[1.0, 3.0]], [[0.75, 0.25]], ModifiedTchebycheff(ideal=[0.0, 0.0])), 6)
        0.0
    """
    points, weights = _paired(values, preferences, "preferences")
    name = type(scalarizer).__name__
    directions = scalarizer.target_direction(torch.from_numpy(weights))
    if directions is None:
        raise ValueError(
            f"{name} aims in no direction, so there is no angle to measure: take its regret (scalarizer_regret), or "
            "give cross_angle directions of your own."
        )
    start = scalarizer.origin
    if start is None:
        raise ValueError(
            f"{name} has no ideal point to look from: give it one, let it observe losses, or call cross_angle with a "
            "point of your own."
        )
    origin = as_vector(start, points.shape[1], f"the ideal or reference point of {name}")
    aims = as_points(directions, "directions")
    back = scalarizer.backward_direction(torch.from_numpy(weights))
    if back is not None:
        aims = np.where((points < origin).all(axis=1, keepdims=True), as_points(back, "directions"), aims)
    return cross_angle(points, aims, origin)


@checks_arguments
def scalarizer_regret(
    values: ArrayLike, preferences: ArrayLike, scalarizer: Scalarizer, best_values: ArrayLike | None = None
) -> PreferenceRegret:
    """The :func:`preference_regret` under a scalarizer, against the best of some known values; lower is better.

        regret_j = g(f(λ^j); λ^j) − min_k g(b^k; λ^j)

    The known values b are a set: each preference is compared with the best of them all, whichever row it is in. With an
    exact optimum for every preference that is its own one. A regret below 0 says that b was not the best.

    Args:
        values: minimised values, ``(N, m)``.
        preferences: λ, ``(N, m)``, row i belonging to row i of ``values``.
        scalarizer: g. It is asked, not changed: a tracked ideal point stays as it is.
        best_values: b, ``(K, m)``: an oracle's values or points of a known front, minimised. By default the values
            themselves; a regret then says that another preference's point would have been better, and is never below 0.

    Raises:
        ValueError: shapes that do not match, or a number that is not finite.

    Example:
        >>> from mopref.scalarizers import Linear
        >>> values, preferences = [[2.0, 2.0], [0.0, 4.0]], [[0.5, 0.5], [1.0, 0.0]]
        >>> scalarizer_regret(values, preferences, Linear(), best_values=[[1.0, 1.0], [0.0, 3.0]])
        PreferenceRegret(mean=0.5, max=1.0, per_preference=array([1., 0.]))
    """
    points, weights = _paired(values, preferences, "preferences")
    best_points = points if best_values is None else as_points(best_values, "best_values")
    if best_points.shape[1] != points.shape[1]:
        raise ValueError(
            f"values have {points.shape[1]} objectives (shape {points.shape}), but best_values has "
            f"{best_points.shape[1]} (shape {best_points.shape}): both must be measured on the same objectives."
        )
    with torch.no_grad():
        own, reachable, rows = torch.from_numpy(points), torch.from_numpy(best_points), torch.from_numpy(weights)
        scalarized = scalarizer(own, rows)
        # One preference at a time, so that a large known front needs little memory.
        best = torch.stack([scalarizer(reachable, preference.expand_as(reachable)).min() for preference in rows])
    return preference_regret(scalarized, best)


def _paired(values: ArrayLike, partner: ArrayLike, what: str) -> tuple[Array, Array]:
    """Two arrays whose rows belong together, checked."""
    points, other = as_points(values), as_points(partner, what)
    if points.shape != other.shape:
        raise ValueError(
            f"values have shape {points.shape} and {what} {other.shape}: they must be equal, since row i of one "
            "belongs to row i of the other."
        )
    return points, other
