"""Intervals of a front's numbers: how far each would move with other held-out rows, kept as columns beside it.

The interval of a column ``c``, an objective's values or an extra column, is in the extra columns ``c_low`` and
``c_high``. So a front's files hold it without a format of its own. Its level is ``metadata["interval_level"]``, and the
interval of the hypervolume under ``metadata["reference_point"]`` is ``metadata["hypervolume_interval"]``,
``[low, high]``. :mod:`mopref.bootstrap` makes all of them, by a paired bootstrap over prompts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mopref._arrays import Array, real_array
from mopref._repr import short_repr
from mopref.bootstrap import checked_level

__all__ = [
    "bound_columns",
    "check_intervals",
    "hypervolume_interval",
    "interval_columns",
    "interval_level",
    "intervals",
    "objective_intervals",
]


class Columns(Protocol):
    """What intervals are read from; :class:`mopref.front.Front` has it."""

    names: tuple[str, ...]
    values: Array
    extra: dict[str, NDArray[Any]]
    metadata: dict[str, Any]


def interval_columns(column: str, bounds: Any) -> dict[str, Array]:
    """The two extra columns that are the interval of a column.

    Args:
        column: name of an objective or of an extra column.
        bounds: lower and upper bounds ``(N, 2)`` in its unit; a row of two NaN where an interval is not known.

    Raises:
        ValueError: another shape, a bound that is infinite or known without the other, or a lower one above the upper.

    Example:
        >>> interval_columns("accuracy", [[0.5, 0.7]])
        {'accuracy_low': array([0.5]), 'accuracy_high': array([0.7])}
    """
    pairs = real_array(bounds, f"bounds of {column!r}")
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"bounds of {column!r} have shape {pairs.shape}: give (N, 2), a lower and an upper one a row.")
    _check_bounds(column, pairs)
    return dict(zip(_bound_names(column), pairs.T.copy(), strict=True))


def intervals(front: Columns) -> dict[str, Array]:
    """The intervals ``(N, 2)`` of a front by the columns that have one, in the order of the table; NaN where not known.

    Raises:
        ValueError: one bound without the other, bounds that are no numbers, a lower one above the upper, or an
            interval of a bound.
    """
    extra = {name: np.asarray(column) for name, column in front.extra.items()}
    numeric = [*front.names, *(name for name, column in extra.items() if column.dtype.kind in "iuf")]
    found: dict[str, Array] = {}
    for column in numeric:
        low, high = _bound_names(column)
        if (low in extra) != (high in extra):
            there, missing = (low, high) if low in extra else (high, low)
            raise ValueError(
                f"extra column {there!r} is a bound of the interval of {column!r}, but there is no {missing!r}: give "
                "both, or give it another name."
            )
        if low in extra:
            bounds = [extra[low], extra[high]]
            if any(bound.dtype.kind not in "iuf" for bound in bounds):
                raise ValueError(f"extra columns {low!r} and {high!r} are the interval of {column!r}: give numbers.")
            found[column] = np.stack(bounds, axis=1).astype(np.float64)
            _check_bounds(column, found[column])
    both = sorted(bound_columns(found) & found.keys())
    if both:
        raise ValueError(
            f"extra column {both[0]!r} is a bound of an interval and has an interval itself: give one of them another "
            "name."
        )
    return found


def bound_columns(columns: Iterable[str]) -> set[str]:
    """Names of the extra columns that are the bounds of these columns.

    Example:
        >>> sorted(bound_columns(["accuracy"]))
        ['accuracy_high', 'accuracy_low']
    """
    return {bound for column in columns for bound in _bound_names(column)}


def objective_intervals(front: Columns) -> Array:
    """Lower and upper bounds of every objective at every point, ``(N, m, 2)``; NaN where no interval is known.

    Raises:
        ValueError: as :func:`intervals` does.
    """
    known = intervals(front)
    bounds = np.full((*np.shape(front.values), 2), np.nan)
    for objective, name in enumerate(front.names):
        if name in known:
            bounds[:, objective] = known[name]
    return bounds


def interval_level(metadata: Mapping[str, Any]) -> float | None:
    """The level of a front's intervals, in (0, 1); ``None`` where the metadata do not tell it.

    Raises:
        ValueError: a level that is not between 0 and 1.
        TypeError: no number.
    """
    level = metadata.get("interval_level")
    return None if level is None else checked_level(level, "metadata['interval_level']")


def hypervolume_interval(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    """Lower and upper bound of a front's hypervolume under its own reference point; ``None`` where there are none.

    Raises:
        ValueError: something else than two numbers, the lower one first.
    """
    bounds = metadata.get("hypervolume_interval")
    if bounds is None:
        return None
    is_pair = isinstance(bounds, Sequence) and not isinstance(bounds, str) and len(bounds) == 2
    if not is_pair or not all(type(bound) in (int, float) for bound in bounds) or not bounds[0] <= bounds[1]:
        raise ValueError(
            f"metadata['hypervolume_interval'] is {short_repr(bounds)}: give [low, high], two numbers in this order."
        )
    return float(bounds[0]), float(bounds[1])


def check_intervals(front: Columns) -> None:
    """Refuse a front whose intervals, or what its metadata say of them, cannot be read.

    Raises:
        ValueError: as :func:`intervals`, :func:`interval_level` and :func:`hypervolume_interval` do.
        TypeError: a level that is no number.
    """
    intervals(front)
    interval_level(front.metadata)
    hypervolume_interval(front.metadata)


def _check_bounds(column: str, bounds: Array) -> None:
    """Refuse bounds ``(N, 2)`` that are infinite, in the wrong order, or known on one side only."""
    low, high = bounds.T
    wrong = np.isinf(bounds).any(axis=1) | (np.isnan(low) != np.isnan(high)) | (low > high)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"the interval of {column!r} is [{low[row]:g}, {high[row]:g}] in row {row}: give a lower bound and an "
            "upper one, both finite, or two NaN where it is not known."
        )


def _bound_names(column: str) -> tuple[str, str]:
    return f"{column}_low", f"{column}_high"
