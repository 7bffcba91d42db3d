"""Preference vectors: validation at the boundary, evenly spread lattices, and parts of equal volume."""

import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from math import comb
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._arrays import real_array, refuse_tensor_without_numbers
from mopref._cache import cache_folder, check_cache_folder
from mopref._kept_array import read_array, write_array
from mopref._labels import check_labels, column_of, described, labels_of, listed
from mopref._repr import short_repr
from mopref._warning import warn
from mopref.argument_kinds import checked_texts, checks_arguments
from mopref.setting_types import check_numbers, python_value

__all__ = ["SUM_TOLERANCE", "simplex_cells", "simplex_lattice", "uniform_preferences", "validate_preferences"]

SUM_TOLERANCE = 1e-6
_FLOAT32_EPS = float(np.finfo(np.float32).eps)
# However many weights in half precision there are, a sum that is further off is no rounding.
_MOST_ROUNDING = 0.05


def validate_preferences(preferences: Any, objectives: int | Sequence[str]) -> Tensor:
    """Preferences, checked where they enter the library: float64 of shape ``(N, m)``, each row summing to 1.

    A preference λ lies on the simplex Δ^{m-1}: every λ_i ≥ 0 and Σ_i λ_i = 1. The sum may be off by 1e-6 or by m·eps,
    whichever is larger, where eps is float32's 2⁻²³, or that of a coarser type in which the weights come (float16,
    bfloat16), and by .05 at most. A row off by no more than m·2⁻²³ (and 1e-6), which is what float32 loses, stays as
    it is, bit for bit; any other is divided by its sum. So a second check changes nothing.

    A preference may be given by name, whatever the order: ``{"harmless": 0.75, "helpful": 0.25}``. What has labels is
    always read by them, and these must be the names: a Series or a table with a column for each objective (pandas,
    polars, Arrow), a structured array, a named tuple. Only labels 0, 1, …, as pandas gives by itself, are positions.

    Args:
        preferences: one vector of shape ``(m,)`` or a matrix ``(N, m)``: list, array or tensor; or by name, one dict of
            weights or of columns with every objective in it, a table, or a list of dicts.
        objectives: the number of objectives m, or their names in order.

    Returns:
        A float64 tensor of shape ``(N, m)``, on the device of the input; N is 1 for a single vector.

    Raises:
        ValueError: wrong shape or length, no row, NaN or infinite, negative, a sum other than 1, or by name an
            objective that is missing or unknown, or a weight that is no number.
        TypeError: ``objectives`` that are neither a number nor names.

    Example:
        >>> validate_preferences([0.25, 0.75], ("helpful", "harmless"))
        tensor([[0.2500, 0.7500]], dtype=torch.float64)
        >>> validate_preferences({"harmless": 0.75, "helpful": 0.25}, ("helpful", "harmless"))
        tensor([[0.2500, 0.7500]], dtype=torch.float64)
    """
    names = _names_of(objectives)
    weights, eps = _float64_and_eps(_in_order(preferences, names))
    matrix = weights.unsqueeze(0) if weights.ndim == 1 else weights
    if matrix.ndim != 2 or matrix.shape[1] != len(names) or matrix.shape[0] == 0:
        raise ValueError(
            f"preferences have shape {tuple(weights.shape)}, but there are {len(names)} objectives "
            f"({listed(names)}): give one weight per objective, shape ({len(names)},) or (N, {len(names)})."
        )
    _check_weights(matrix.detach(), names)
    return _summing_to_one(matrix, eps)


class _NumberedObjectives(Sequence[str]):
    """Names of objectives of which only the number is known, made when they are asked for: there may be any number."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        return f"objective {range(self._count)[place]}"

    def __contains__(self, name: object) -> bool:
        # Not by looking at one after the other: there may be any number.
        number = name.removeprefix("objective ") if isinstance(name, str) else ""
        digits = len(str(self._count))
        return number.isdecimal() and len(number) <= digits and int(number) < self._count and name == self[int(number)]


def _names_of(objectives: int | Sequence[str]) -> Sequence[str]:
    if isinstance(objectives, Iterable) and not isinstance(objectives, str | bytes | Tensor | np.ndarray):
        names = tuple(objectives)
        if not names:
            raise ValueError("objectives hold no name: at least one objective is needed.")
        return checked_texts(names, "objectives")
    count = python_value(objectives, int, "objectives")
    if count < 1:
        raise ValueError(f"objectives is {count}: at least one objective is needed.")
    if count > sys.maxsize:
        check_numbers({"objectives": count})
    return _NumberedObjectives(count)


def _in_order(preferences: Any, names: Sequence[str]) -> Any:
    """Preferences by name as vectors in the order of the names; others as they are."""
    if check_labels(preferences, names, "the preference", "a weight", ", 0 where it does not count"):
        return _by_name(preferences, names)
    by_name = isinstance(preferences, list | tuple) and any(labels_of(row) is not None for row in preferences)
    if not by_name:
        return preferences
    for index, row in enumerate(preferences):
        if labels_of(row) is None:
            raise ValueError(
                f"preference {index} is {short_repr(row)} among dicts: give all by name, or all as plain vectors."
            )
    return torch.stack([_in_order(row, names) for row in preferences])


def _by_name(preferences: Any, names: Sequence[str]) -> Tensor:
    """One preference ``(m,)``, or columns of weights as ``(N, m)``, in half precision where they come so."""
    columns = [column_of(preferences, name) for name in names]
    if not all(_is_column(column) for column in columns):
        return torch.stack([_weight(preferences, c, name) for c, name in zip(columns, names, strict=True)])
    arrays = [real_array(column, f"the weights of {name}") for column, name in zip(columns, names, strict=True)]
    if len({array.shape for array in arrays}) > 1:
        counts = [len(array) for array in arrays]
        raise ValueError(f"the columns of preferences have {listed(counts)} weights: give equally many in each.")
    return torch.stack([_tensor(array, column) for array, column in zip(arrays, columns, strict=True)], dim=-1)


def _is_column(weights: Any) -> bool:
    return hasattr(weights, "__len__") and not isinstance(weights, str | bytes) and getattr(weights, "ndim", 1) == 1


def _weight(preference: Any, weight: Any, name: str) -> Tensor:
    """One weight as a tensor."""
    number = weight.item() if getattr(weight, "ndim", None) == 0 and hasattr(weight, "item") else weight
    if not isinstance(number, Real) or isinstance(number, bool):
        raise ValueError(
            f"the preference {described(preference)} has the weight {short_repr(weight)} for {name}: give a number."
        )
    try:
        return _tensor(float(number), weight)
    except OverflowError:  # Beyond any float, and so no weight, which is said as of an infinite one.
        return _tensor(-math.inf if number < 0 else math.inf, weight)


def _tensor(numbers: Any, like: Any) -> Tensor:
    """Numbers in half precision if those that they were read from are, else in float64."""
    kind = getattr(like, "dtype", None)
    is_half = kind in (torch.float16, np.dtype(np.float16))
    return torch.tensor(numbers, dtype=torch.float16 if is_half else kind if kind is torch.bfloat16 else torch.float64)


def _float64_and_eps(preferences: Any) -> tuple[Tensor, float]:
    """The weights in float64, and the rounding unit of the type that they come in, at least float32's."""
    if isinstance(preferences, Tensor):
        if preferences.is_complex():
            raise ValueError(f"preferences are {preferences.dtype}: weights are real numbers, so give their real part.")
        refuse_tensor_without_numbers(preferences, "preferences")
        own = torch.finfo(preferences.dtype).eps if preferences.is_floating_point() else 0.0
        return preferences.double(), max(own, _FLOAT32_EPS)
    weights = torch.from_numpy(real_array(preferences, "preferences"))
    is_half = isinstance(preferences, np.ndarray) and preferences.dtype == np.float16
    return weights, float(np.finfo(np.float16).eps) if is_half else _FLOAT32_EPS


def _check_weights(matrix: Tensor, names: Sequence[str]) -> None:
    for wrong, reason in ((~matrix.isfinite(), "is not finite"), (matrix < 0, "is negative")):
        if wrong.any():
            row, column = (int(i) for i in wrong.nonzero()[0])
            raise ValueError(
                f"preference {row} has weight {matrix[row, column].item():g} for {names[column]}, which {reason}: "
                "weights must be ≥ 0 and sum to 1."
            )


def _summing_to_one(matrix: Tensor, eps: float) -> Tensor:
    """The rows as they are where only float32's rounding keeps their sum from 1, else divided by it."""
    m = matrix.shape[1]
    sums = matrix.sum(dim=1, keepdim=True)
    error = (sums.detach() - 1).abs()
    inexact = error > min(SUM_TOLERANCE, m * _FLOAT32_EPS)
    if not inexact.any():
        return matrix
    wrong = (error > max(SUM_TOLERANCE, min(m * eps, _MOST_ROUNDING))).squeeze(1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"preference {row} = {[round(w, 6) for w in matrix[row].tolist()]} sums to {sums[row].item():.7g}, not 1: "
            "divide it by its sum."
        )
    return torch.where(inexact, matrix / sums, matrix)


def simplex_lattice(num_objectives: int, num_points: int, method: str = "das-dennis") -> Tensor:
    """Evenly spread preferences with every corner among them, shape ``(≤ num_points, m)``; no randomness.

    With two objectives these are exactly ``num_points`` points from (0, 1) to (1, 0) in even steps, ordered by the
    first weight, rising. With more, by method:

    * ``"das-dennis"``: the finest lattice {h / H : h ∈ N^m, Σh = H} of at most ``num_points`` points.
    * ``"riesz-energy"``: exactly ``num_points`` points that repel each other until they rest, at the least
      Σ 1 / ‖λ − λ'‖^{2m}, through pymoo. Has points inside the simplex for many objectives too, where a lattice of
      few points has them on its border only. Takes a second for a hundred points and a minute for a thousand, so it is
      kept in the cache folder: ``$MOPREF_CACHE``, else ``$XDG_CACHE_HOME/mopref``, else ``~/.cache/mopref``.

    Raises:
        ValueError: fewer than one objective, fewer points than corners, or an unknown method.
        TypeError: a number that is no whole number.

    Source: I. Das and J. E. Dennis, Normal-boundary intersection (1998); J. Blank, K. Deb, Y. Dhebar, S. Bandaru and
    H. Seada, Generating well-spaced points on a unit simplex for evolutionary many-objective optimization (2021).

    Example:
        >>> simplex_lattice(2, 3)
        tensor([[0.0000, 1.0000],
                [0.5000, 0.5000],
                [1.0000, 0.0000]])
    """
    num_objectives = python_value(num_objectives, int, "num_objectives")
    num_points = python_value(num_points, int, "num_points")
    if num_objectives < 1:
        raise ValueError(f"num_objectives is {num_objectives}: at least one objective is needed.")
    if num_points < num_objectives:
        raise ValueError(
            f"a lattice of {num_points} points cannot hold the {num_objectives} corners of the simplex: "
            f"ask for at least {num_objectives} points."
        )
    check_numbers({"num_points": num_points, "num_objectives": num_objectives})
    if not isinstance(method, str) or method not in ("das-dennis", "riesz-energy"):
        raise ValueError(f"method is {short_repr(method)}: choose 'das-dennis' or 'riesz-energy'.")
    if num_objectives == 1:
        return torch.ones(1, 1)
    if method == "riesz-energy" and num_objectives > 2:
        return torch.as_tensor(_riesz_lattice(num_objectives, num_points), dtype=torch.get_default_dtype())
    from pymoo.util.ref_dirs import get_reference_directions

    partitions = 1
    while comb(partitions + num_objectives, num_objectives - 1) <= num_points:
        partitions += 1
    lattice = get_reference_directions("das-dennis", num_objectives, n_partitions=partitions)
    return torch.as_tensor(lattice, dtype=torch.get_default_dtype())


def _riesz_lattice(num_objectives: int, num_points: int) -> NDArray[np.float64]:
    """Points of least Riesz energy from the cache, or computed and written there: ``(num_points, m)``."""
    import pymoo

    try:
        cache = cache_folder()
        # Another version of pymoo may find other points.
        path = cache / "lattices" / f"riesz-energy-{num_objectives}-{num_points}-pymoo-{pymoo.__version__}.npy"
        for folder in (cache, path.parent):
            check_cache_folder(folder)
    except ValueError as error:
        warn(f"{error} The points were computed, and not looked for or kept there.")
        return _least_riesz_energy(num_objectives, num_points)
    # One that is not there or damaged is computed anew.
    with suppress(OSError, ValueError, EOFError):
        points = read_array(path, 8 * num_objectives * num_points)
        if _is_lattice(points, num_objectives, num_points):
            return points
    lattice = _least_riesz_energy(num_objectives, num_points)
    # A folder that cannot be written to costs time, not the result.
    with suppress(OSError):
        write_array(path, lattice)
    return lattice


def _least_riesz_energy(num_objectives: int, num_points: int) -> NDArray[np.float64]:
    from pymoo.util.ref_dirs import RieszEnergyReferenceDirectionFactory

    lattice = np.array(RieszEnergyReferenceDirectionFactory(num_objectives, num_points).do(seed=1), dtype=np.float64)
    # The search may leave a corner by a hair.
    for corner in np.eye(num_objectives):
        lattice[np.abs(lattice - corner).sum(axis=1).argmin()] = corner
    return lattice


def _is_lattice(array: NDArray[Any], num_objectives: int, num_points: int) -> bool:
    if array.shape != (num_points, num_objectives) or array.dtype != np.float64:
        return False
    # NaN fails both comparisons.
    on_simplex = (array >= 0).all() and (np.abs(array.sum(axis=1) - 1) <= 1e-9).all()
    corners = all((array == corner).all(axis=1).any() for corner in np.eye(num_objectives))
    return bool(on_simplex) and corners and len(np.unique(array, axis=0)) == len(array)


@checks_arguments
def uniform_preferences(num_objectives: int, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """``n`` preferences uniform on the simplex, ``(n, m)``: Dirichlet(1, …, 1).

    Raises:
        ValueError: a count below 1, or more numbers than memory holds.
        TypeError: a count that is no whole number, or no generator.
    """
    if num_objectives < 1 or n < 1:
        raise ValueError(f"num_objectives and n are {num_objectives} and {n}: each must be at least 1.")
    check_numbers({"n": n, "num_objectives": num_objectives})
    return generator.dirichlet(np.ones(num_objectives), size=n)


def simplex_cells(num_objectives: int, num_cells: int) -> NDArray[np.float64]:
    """The simplex of preferences, cut into smaller simplices of equal volume, any number of them.

    A simplex that is to become n parts is cut through its longest edge into one that is to become ⌊n/2⌋ parts and one
    for the rest, with volumes in that proportion. With two objectives the parts are n intervals of equal length.

    Args:
        num_objectives: m.
        num_cells: n ≥ 1.

    Returns:
        The corners of each part, ``(n, m, m)``: row j of part i is its corner j. A point uniform in part i is w @ part
        with w ~ Dirichlet(1, …, 1). The array is shared between calls and cannot be written to.

    Raises:
        ValueError: a count below 1.
        TypeError: a count that is no whole number.

    Example:
        >>> simplex_cells(2, 4)[:, :, 0]  # the first weight at both ends of each interval
        array([[1.  , 0.75],
               [0.75, 0.5 ],
               [0.5 , 0.25],
               [0.25, 0.  ]])
    """
    m, n = python_value(num_objectives, int, "num_objectives"), python_value(num_cells, int, "num_cells")
    if m < 1 or n < 1:
        raise ValueError(f"num_objectives and num_cells are {m} and {n}: each must be at least 1.")
    check_numbers({"num_cells": n, "num_objectives": m * m})
    return _cells(m, n)


@lru_cache(maxsize=64)
def _cells(num_objectives: int, num_cells: int) -> NDArray[np.float64]:
    """The same for counts that are checked."""
    if num_objectives == 1:
        cells = np.ones((num_cells, 1, 1))
    else:
        cells = np.stack(_cut(np.eye(num_objectives), num_cells))
    cells.setflags(write=False)
    return cells


def _cut(corners: NDArray[np.float64], parts: int) -> list[NDArray[np.float64]]:
    if parts == 1:
        return [corners]
    lengths = np.linalg.norm(corners[:, None] - corners, axis=-1)
    # Rounded, so that of equal edges the same one is cut on every machine.
    a, b = np.unravel_index(lengths.round(9).argmax(), lengths.shape)
    first, second = corners.copy(), corners.copy()
    first[b] = second[a] = corners[a] + (corners[b] - corners[a]) * (parts // 2 / parts)
    return _cut(first, parts // 2) + _cut(second, parts - parts // 2)
