"""Preferences whose points lie evenly on the front, rather than evenly on the simplex."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._arrays import Array, as_points
from mopref._warning import warn
from mopref.argument_kinds import checks_arguments
from mopref.indicators import non_dominated
from mopref.preferences import simplex_lattice
from mopref.setting_types import check_numbers, checked_numpy_seed

__all__ = ["even_preferences"]

_Indices = NDArray[np.int64]
# Points closer than this share of each objective's range are one point.
_SAME = 1e-6
_REFINEMENTS = 2
_MOST_MOVES = 100


@checks_arguments
def even_preferences(
    evaluate: Callable[[Tensor], Any],
    num_objectives: int,
    num_points: int,
    num_candidates: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Preferences whose points are spread evenly on the front that a model reaches.

    An even lattice of preferences leaves holes where the front moves fast with λ. So many candidates are evaluated:
    half of them a lattice with the corners and (for more than two objectives) uniform draws, half of them in the
    middle between neighbours whose points are far apart. Dominated candidates are dropped, each objective is divided
    by its range, and of the rest are taken

    * for two objectives: both ends of the front and points at even lengths along it. A step between neighbours that is
      longer than the even length itself is a gap of the front, and counts as that length only: no preference is spent
      on it but the two at its rims.
    * for more: the points nearest to the corners of the simplex, then again and again the candidate farthest from all
      of them. Then each one but the corners moves to the candidate from which the farthest of its cell is nearest,
      and the one that is missed least to the largest hole, as long as that makes the fill distance smaller.

    Even points have the smallest holes, not always the largest hypervolume: for three objectives on the sphere (DTLZ2)
    105 of them have a fill distance of .097 instead of the lattice's .108, and a hypervolume of .741 instead of .748.

    Args:
        evaluate: preferences ``(K, m)`` to minimised losses ``(K, m)``; called a few times. For a trained model:
            ``lambda preferences: trainer.front(preferences).values``.
        num_objectives: m ≥ 2.
        num_points: how many preferences to return, at least m.
        num_candidates: how many preferences to evaluate; by default 40 for each point, at least 1,000.
        seed: of the uniform draws among the candidates of more than two objectives.

    Returns:
        Preferences ``(num_points, m)``, in order of the first loss for two objectives. Where fewer than ``num_points``
        distinct non-dominated points are found, as of a model that ignores the preference, a warning says so and the
        result is ``simplex_lattice``, filled up by the Riesz-energy method to ``num_points``.

    Raises:
        ValueError: fewer than two objectives, fewer points than objectives, fewer candidates than twice the points, or
            losses of another shape or not finite, a negative seed, or more candidates than can be held.
        TypeError: an argument of another kind, named.

    Source: T. F. Gonzalez, Clustering to minimize the maximum intercluster distance (1985), for the farthest points.

    Example:
        >>> def front(preferences):  # f1 = λ_1², so that even λ crowd at f1 = 0
        ...     return torch.stack([preferences[:, 0] ** 2, 1 - preferences[:, 0] ** 2], dim=1)
        >>> (even_preferences(front, num_objectives=2, num_points=5)[:, 0] ** 2).round(decimals=2)
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    if num_objectives < 2:
        raise ValueError(f"num_objectives is {num_objectives}: a front needs at least two.")
    if num_points < num_objectives:
        raise ValueError(
            f"num_points is {num_points}: ask for at least {num_objectives}, one for each end of the front."
        )
    if num_candidates is None:
        num_candidates = max(1000, 40 * num_points)
    if num_candidates < 2 * num_points:
        raise ValueError(
            f"num_candidates is {num_candidates}: {num_points} points need at least {2 * num_points} to choose from."
        )
    check_numbers({"num_candidates": num_candidates, "num_objectives": num_objectives})
    seed = checked_numpy_seed(seed)
    preferences, losses = _candidates(evaluate, num_objectives, num_candidates, seed)
    preferences, points = _distinct_front(preferences, losses)
    if len(points) < num_points:
        warn(
            f"{num_candidates} candidates reach {len(points)} distinct non-dominated points, too few to spread "
            f"{num_points} preferences on: returning an even lattice of preferences instead. Look whether the model "
            "has collapsed, or give more candidates.",
        )
        return simplex_lattice(num_objectives, num_points, "riesz-energy")
    rows = _even_along(points, num_points) if num_objectives == 2 else _even_over(points, preferences, num_points)
    return torch.as_tensor(preferences[rows], dtype=torch.get_default_dtype())


def _candidates(evaluate: Callable[[Tensor], Any], m: int, count: int, seed: int) -> tuple[Array, Array]:
    """Preferences ``(count, m)`` and their losses: a first half spread over the simplex, then where losses differ."""
    lattice = simplex_lattice(m, max(count // 2, m)).double().numpy()
    uniform = np.random.default_rng(seed).dirichlet(np.ones(m), size=max(count // 2, m) - len(lattice))
    preferences = np.concatenate([lattice, uniform])
    losses = _losses(evaluate, preferences)
    for refinement in range(_REFINEMENTS):
        a, b = _neighbours(preferences)
        size = np.ptp(losses, axis=0)
        step = np.linalg.norm((losses[a] - losses[b]) / np.where(size > 0, size, 1), axis=1)
        num_new = -(-(count - len(preferences)) // (_REFINEMENTS - refinement))
        longest = np.argsort(-step, kind="stable")[:num_new]
        middle = (preferences[a[longest]] + preferences[b[longest]]) / 2
        preferences = np.concatenate([preferences, middle])
        losses = np.concatenate([losses, _losses(evaluate, middle)])
    return preferences, losses


def _distinct_front(preferences: Array, losses: Array) -> tuple[Array, Array]:
    """Of each distinct non-dominated point the preference, and the losses in units of the front's extent."""
    on_front = non_dominated(losses)
    preferences, losses = preferences[on_front], losses[on_front]
    extent = np.ptp(losses, axis=0)
    # Rounding errors around one point are no front.
    extent[extent <= _SAME * np.abs(losses).max(axis=0)] = np.inf
    points = losses / extent
    distinct = np.sort(np.unique(np.round(points / _SAME), axis=0, return_index=True)[1])
    return preferences[distinct], points[distinct]


def _losses(evaluate: Callable[[Tensor], Any], preferences: Array) -> Array:
    losses = as_points(evaluate(torch.as_tensor(preferences, dtype=torch.get_default_dtype())), "losses")
    if losses.shape != preferences.shape:
        raise ValueError(
            f"evaluate returned shape {losses.shape} for preferences of shape {preferences.shape}: one row for each "
            "preference and one column for each objective."
        )
    return losses


def _neighbours(preferences: Array) -> tuple[_Indices, _Indices]:
    """Pairs with none between them (m = 2), or of each one with as many as a lattice point has, each pair once."""
    count, m = preferences.shape
    if m == 2:
        order = np.argsort(preferences[:, 0], kind="stable")
        return order[:-1], order[1:]
    nearest = _tree(preferences).query(preferences, k=min(m * (m - 1) + 1, count))[1][:, 1:]
    pairs = np.stack([np.repeat(np.arange(count), nearest.shape[1]), nearest.ravel()], axis=1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _even_along(points: Array, count: int) -> _Indices:
    """Indices of ``count`` points at even lengths along a front of two objectives, both ends among them."""
    order = np.argsort(points[:, 0], kind="stable")
    step = np.linalg.norm(np.diff(points[order], axis=0), axis=1)
    even = step.sum() / (count - 1)
    # A gap counts as one even length, which that makes shorter, and so more steps may be gaps: falls until it holds.
    for _ in range(len(step)):
        shorter = np.minimum(step, even).sum() / (count - 1)
        if shorter >= even * (1 - 1e-9):
            break
        even = shorter
    position = np.concatenate([[0.0], np.cumsum(np.minimum(step, even))])
    places = np.abs(position - np.linspace(0, position[-1], count)[:, None]).argmin(axis=1)
    # No point twice, where candidates are few.
    for i in range(1, count):
        places[i] = max(places[i], places[i - 1] + 1)
    return order[np.minimum(places, len(points) - count + np.arange(count))]


def _even_over(points: Array, preferences: Array, count: int) -> _Indices:
    """Indices of ``count`` points, no candidate far from all of them, the corners' among them."""
    corners = [int(np.linalg.norm(preferences - corner, axis=1).argmin()) for corner in np.eye(points.shape[1])]
    rows = list(dict.fromkeys(corners))
    num_corners = len(rows)
    nearest = np.min([_distances(points, points[i]) for i in rows], axis=0)
    while len(rows) < count:
        rows.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distances(points, points[rows[-1]]))
    best = _centred(points, np.array(rows), num_corners)
    while num_corners < count:
        trial = _centred(points, _with_hole_filled(points, best, num_corners), num_corners)
        if _fill(points, trial) >= _fill(points, best):
            break
        best = trial
    return best


def _centred(points: Array, rows: _Indices, num_fixed: int) -> _Indices:
    """The points at ``rows`` but the first ``num_fixed``, moved to the centres of their cells until none moves.

    The centre is the candidate from which the farthest of the cell is nearest, so that no move makes a hole larger.
    """
    for _ in range(_MOST_MOVES):
        cell = _tree(points[rows]).query(points)[1]
        centres = rows.copy()
        for j in range(num_fixed, len(rows)):
            members = np.flatnonzero(cell == j)
            within = np.linalg.norm(points[members, None] - points[members], axis=-1)
            centres[j] = members[within.max(axis=1).argmin()]
        if (centres == rows).all():
            break
        rows = centres
    return rows


def _with_hole_filled(points: Array, rows: _Indices, num_fixed: int) -> _Indices:
    """The point at ``rows`` whose cell the others cover best, put where a candidate is farthest from all of them."""
    distances, cells = _tree(points[rows]).query(points, k=2)
    # How far a cell's farthest candidate is from the next point.
    hole_without = np.zeros(len(rows))
    np.maximum.at(hole_without, cells[:, 0], distances[:, 1])
    hole_without[:num_fixed] = np.inf
    result = rows.copy()
    result[hole_without.argmin()] = distances[:, 0].argmax()
    return result


def _fill(points: Array, rows: _Indices) -> float:
    """The largest distance from a candidate to the nearest of the points at ``rows``."""
    return float(_tree(points[rows]).query(points)[0].max())


def _tree(points: Array) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points)


def _distances(points: Array, point: Array) -> Array:
    return np.asarray(np.linalg.norm(points - point, axis=1))
