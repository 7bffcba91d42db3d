"""A front as a model reached it: which preference led to which values, with indicators, table, files and plot."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mopref import indicators
from mopref._arrays import Array, Maximize, as_float64, as_points, as_vector, signs
from mopref._files import write_atomically
from mopref.front.files import PREFERENCE_PREFIX, from_csv, from_json, to_csv, to_json

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    from matplotlib.figure import Figure

    from mopref.indicators import PreferenceRegret
    from mopref.scalarizer import Scalarizer

__all__ = ["Front"]

# The indicators with a line of their own in the summary.
_LINES = (
    "inner_product",
    "sparsity",
    "spacing",
    "igd",
    "igd_plus",
    "gd",
    "gd_plus",
    "fill_distance",
    "regret_mean",
    "regret_max",
    "cross_angle",
)


class Front:
    """N preferences and the values that one model reached with them.

    Args:
        preferences: λ, ``(N, m)``: finite, ≥ 0, rows summing to 1 within 1e-6.
        values: What was reached, ``(N, m)``, row i with preference i; finite. Their direction is ``maximize``.
        names: One name per objective, all different.
        maximize: Whether higher is better: one bool, or one per objective. Kept as one bool where all agree.
        extra: More columns of N numbers, bools or strings each, such as ``mean_response_length``. A number that was not
            measured is NaN or None.
        metadata: Anything that JSON can hold, such as ``seed``, ``reference_point``, ``model``. ``reference_point`` is
            the default of every method that needs one; ``seed`` is shown in :meth:`summary`.

    Arrays are stored as float64 copies. No method drops, merges or reorders points, except :meth:`non_dominated`, whose
    purpose it is.

    Examples:
        >>> front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[0, 2], [1, 1], [2, 0]], names=("helpful", "harmless"))
        >>> len(front), front.hypervolume([3.0, 3.0])
        (3, 6.0)
    """

    preferences: Array
    values: Array
    names: tuple[str, ...]
    maximize: bool | tuple[bool, ...]
    extra: dict[str, NDArray[Any]]
    metadata: dict[str, Any]

    def __init__(
        self,
        preferences: ArrayLike,
        values: ArrayLike,
        names: Sequence[str],
        maximize: Maximize = False,
        extra: Mapping[str, ArrayLike | Sequence[Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.values = as_points(values)
        count, number_of_objectives = self.values.shape
        self.preferences = _check_preferences(preferences, self.values.shape)
        self.names = _check_names(names, number_of_objectives)
        flags = [bool(sign < 0) for sign in signs(maximize, number_of_objectives)]
        # One bool where all agree, since `if front.maximize` would be true for a tuple of False.
        self.maximize = flags[0] if len(set(flags)) == 1 else tuple(flags)
        self.extra = {name: _extra_column(name, column, count) for name, column in (extra or {}).items()}
        self.metadata = _json_ready(metadata or {})
        columns = self.columns()
        if len(set(columns)) != len(columns) or any(name.startswith(PREFERENCE_PREFIX) for name in self.extra):
            raise ValueError(
                f"The table's columns would be {columns}, where one is there twice or an extra one starts with "
                f"{PREFERENCE_PREFIX!r}; rename the extra column or the objective."
            )

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Front({len(self)} points, names={self.names}, maximize={self.maximize})"

    def columns(self) -> list[str]:
        """Names of the table's columns: ``preference_<name>`` and ``<name>`` per objective, then the extra ones."""
        return [PREFERENCE_PREFIX + name for name in self.names] + list(self.names) + list(self.extra)

    def is_maximized(self) -> tuple[bool, ...]:
        """Return one bool per objective, also where :attr:`maximize` is a single one."""
        return self.maximize if isinstance(self.maximize, tuple) else (self.maximize,) * len(self.names)

    # -- how good it is --

    def _reference_point(self, given: ArrayLike | None) -> Array | None:
        chosen = self.metadata.get("reference_point") if given is None else given
        return None if chosen is None else as_float64(chosen, "reference_point")

    def hypervolume(self, reference_point: ArrayLike | None = None) -> float:
        """Hypervolume under ``reference_point``, ``(m,)``, by default the one in ``metadata``; never a guessed one."""
        reference = self._reference_point(reference_point)
        if reference is None:
            raise ValueError(
                "No reference point was given, and metadata has no 'reference_point'. Hypervolumes compare only under "
                "the same one, so choose it yourself: a point that is worse than every value you care about."
            )
        return indicators.hypervolume(self.values, reference, self.maximize)

    def _minimised(self, values: Array) -> Array:
        return values * signs(self.maximize, len(self.names))

    def cross_angle(self, scalarizer: Scalarizer) -> float:
        """Mean angle in degrees between where the preferences aimed under this scalarizer and what they reached.

        See :func:`mopref.indicators.scalarizer_cross_angle`. Maximised values are given to it with their sign changed.
        """
        return indicators.scalarizer_cross_angle(self._minimised(self.values), self.preferences, scalarizer)

    def regret(self, scalarizer: Scalarizer, best_values: ArrayLike | None = None) -> PreferenceRegret:
        """What each preference loses under this scalarizer, against the best of ``best_values`` ``(K, m)``.

        These are an oracle's values or a known front, in the direction of this front; by default the front's own
        points. See :func:`mopref.indicators.scalarizer_regret`.
        """
        best = self.values if best_values is None else as_points(best_values, "best_values")
        if best.shape[1] != len(self.names):
            raise ValueError(f"best_values has shape {best.shape}, but the front has {len(self.names)} objectives.")
        return indicators.scalarizer_regret(
            self._minimised(self.values), self.preferences, scalarizer, self._minimised(best)
        )

    def indicators(
        self,
        reference_point: ArrayLike | None = None,
        true_front: ArrayLike | None = None,
        scalarizer: Scalarizer | None = None,
    ) -> dict[str, Any]:
        """Everything that can be said of this front.

        Keys: ``inner_product``, ``sparsity``, ``spacing``, ``range`` (name to number), ``non_dominated`` and
        ``distinct_non_dominated`` (counts), ``fraction_non_dominated``, ``collapsed``; with a reference point (given,
        or in ``metadata``) also ``hypervolume``, ``hypervolume_exact``, ``reference_point``; with a true front
        ``(K, m)`` also ``igd``, ``igd_plus``, ``gd``, ``gd_plus``, ``fill_distance``; with a scalarizer also
        ``regret_mean`` and ``regret_max``, against the true front where there is one, else against the front's own
        points, and ``cross_angle`` where the scalarizer aims in a direction. Sparsity and spacing may be NaN.
        """
        values, maximize = self.values, self.maximize
        result: dict[str, Any] = {}
        reference = self._reference_point(reference_point)
        if reference is not None:
            volume = indicators.hypervolume_with_method(values, reference, maximize)
            result["hypervolume"], result["hypervolume_exact"] = volume
            result["reference_point"] = reference.tolist()
        result["inner_product"] = indicators.inner_product(self.preferences, values, maximize)
        result["sparsity"] = indicators.sparsity(values, maximize)
        result["spacing"] = indicators.spacing(values, maximize)
        result["range"] = dict(zip(self.names, indicators.range_of_objectives(values).tolist(), strict=True))
        result["non_dominated"] = int(indicators.non_dominated(values, maximize).sum())
        result["distinct_non_dominated"] = indicators.number_of_distinct_non_dominated(values, maximize=maximize)
        result["fraction_non_dominated"] = indicators.fraction_non_dominated(values, maximize)
        result["collapsed"] = self.is_collapsed()
        if true_front is not None:
            result["igd"] = indicators.igd(values, true_front, maximize)
            result["igd_plus"] = indicators.igd_plus(values, true_front, maximize)
            result["gd"] = indicators.gd(values, true_front, maximize)
            result["gd_plus"] = indicators.gd_plus(values, true_front, maximize)
            result["fill_distance"] = indicators.fill_distance(values, true_front)
        if scalarizer is not None:
            import torch

            result["regret_mean"], result["regret_max"], _ = self.regret(scalarizer, true_front)
            if scalarizer.target_direction(torch.from_numpy(self.preferences)) is not None:
                result["cross_angle"] = self.cross_angle(scalarizer)
        return result

    def is_collapsed(self, tolerance: float = 1e-3, scale: ArrayLike | None = None) -> bool:
        """Tell whether the preference no longer matters: all that is left to choose from is one point.

        True if the non-dominated of two points or more differ by at most ``tolerance * scale`` from each other in every
        objective; so both if every preference reaches the same point, and if one point dominates the others. With one
        objective there is nothing to trade off, and all points must be that close. A single point is not collapsed: it
        says nothing.

        Args:
            tolerance: Share of ``scale`` below which a difference counts as none.
            scale: What a difference is measured against, ``(m,)``: best the nadir minus the ideal point. By default
                each objective's largest absolute value, too much for values that are all large and nearly equal.
        """
        if len(self) < 2:
            return False
        size = np.abs(self.values).max(axis=0) if scale is None else as_vector(scale, len(self.names), "scale")
        if len(self.names) == 1:
            return bool(np.ptp(self.values) <= tolerance * size)
        return indicators.number_of_distinct_non_dominated(self.values, tolerance * size, self.maximize) == 1

    def non_dominated(self) -> Front:
        """Return a front of the points that no other one dominates, all copies kept, in the same order."""
        mask = indicators.non_dominated(self.values, self.maximize)
        extra = {name: column[mask] for name, column in self.extra.items()}
        return Front(self.preferences[mask], self.values[mask], self.names, self.maximize, extra, self.metadata)

    # -- how it looks --

    def summary(
        self,
        reference_point: ArrayLike | None = None,
        true_front: ArrayLike | None = None,
        scalarizer: Scalarizer | None = None,
    ) -> str:
        """Return a table of all points, and the indicators below it, as plain text without escape codes."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        dominated = ~indicators.non_dominated(self.values, self.maximize)
        arrows = ["↑" if maximized else "↓" for maximized in self.is_maximized()]
        columns: list[tuple[str, list[str]]] = [
            *((f"λ {name}", _formatted(self.preferences[:, i])) for i, name in enumerate(self.names)),
            *((f"{name} {arrows[i]}", _formatted(self.values[:, i])) for i, name in enumerate(self.names)),
            *((name, _formatted(column)) for name, column in self.extra.items()),
        ]
        if dominated.any():
            columns.append(("", ["dominated" if flag else "" for flag in dominated]))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for header, _ in columns:
            # Text, not str: a name may hold what rich would read as markup.
            table.add_column(Text(header), justify="right", no_wrap=True)
        for cells in zip(*(cells for _, cells in columns), strict=True):
            table.add_row(*map(Text, cells))
        out = io.StringIO()
        # Wide enough for any table: one that is cut to a terminal's width would hide numbers.
        console = Console(file=out, width=100_000, color_system=None, force_terminal=False, force_jupyter=False)
        console.print(table)
        lines = [line.rstrip() for line in out.getvalue().splitlines()]
        return "\n".join(
            [line for line in lines if line]
            + ["", *self._indicator_lines(self.indicators(reference_point, true_front, scalarizer))]
        )

    def _indicator_lines(self, found: dict[str, Any]) -> list[str]:
        if "hypervolume" in found:
            how = "" if found["hypervolume_exact"] else ", approximate"
            lines = [f"hypervolume     {found['hypervolume']:.6g}  (reference point {found['reference_point']}{how})"]
        else:
            lines = ["hypervolume     needs a reference point"]
        labels = {"igd": "IGD", "igd_plus": "IGD+", "gd": "GD", "gd_plus": "GD+"}
        for key in _LINES:
            if key in found:
                lines.append(f"{labels.get(key, key.replace('_', ' ')):<15} {found[key]:.6g}")
        lines.append("range           " + ", ".join(f"{name} {size:.4g}" for name, size in found["range"].items()))
        counts = f"{found['non_dominated']} of {len(self)}, {found['distinct_non_dominated']} of them distinct"
        lines += [f"non-dominated   {counts}", f"seed            {self.metadata.get('seed', 'not recorded')}"]
        if found["collapsed"]:
            lines.append("COLLAPSED: only one point is left to choose from, so the preference does not matter.")
        return lines

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        true_front: ArrayLike | None = None,
        reference_values: Mapping[str, ArrayLike] | None = None,
        reference_point: ArrayLike | None = None,
        title: str | None = None,
    ) -> Figure:
        """Draw every point; see :func:`mopref.plotting.plot_front`. Saves to ``path`` where one is given."""
        from mopref.plotting import plot_front

        return plot_front(self, path, true_front, reference_values, reference_point, title)

    def plot_calibration(
        self,
        path: str | os.PathLike[str] | None = None,
        best_values: ArrayLike | None = None,
        improves: bool = True,
        title: str | None = None,
    ) -> Figure:
        """Draw each objective over its own preference; see :func:`mopref.plotting.plot_calibration`."""
        from mopref.plotting import plot_calibration

        return plot_calibration(self, path, best_values, improves, title=title)

    def plot_heat_map(self, path: str | os.PathLike[str] | None = None, title: str | None = None) -> Figure:
        """Draw all preferences and values as a table of colours; see :func:`mopref.plotting.plot_heat_map`."""
        from mopref.plotting import plot_heat_map

        return plot_heat_map(self, path, title)

    # -- files --

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas table: ``preference_<name>`` and ``<name>`` per objective, then the extra columns."""
        import pandas as pd

        return pd.DataFrame(dict(zip(self.columns(), self.column_arrays(), strict=True)))

    def column_arrays(self) -> list[NDArray[Any]]:
        """The table's columns, N cells each."""
        return [*self.preferences.T, *self.values.T, *self.extra.values()]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .json file, which holds everything exactly, or a .csv table, which holds no direction or metadata.

        The file appears under its name only when it is complete. Missing folders are made.
        """
        path = Path(path)
        write = {".json": to_json, ".csv": to_csv}.get(path.suffix.lower())
        if write is None:
            raise ValueError(f"Cannot save a front as {path.name!r}: the name must end in .json or .csv.")
        write_atomically(path, write(self).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str], maximize: Maximize | None = None) -> Front:
        """Read what :meth:`save` wrote.

        A .json file comes back exactly. A .csv file does not hold the direction, so it must be given as ``maximize``
        (and only there); its metadata is empty, and strings that look like numbers or bools become those.

        Raises:
            ValueError: The file is something else, incomplete, or holds values that a front refuses.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (".json", ".csv"):
            raise ValueError(f"Cannot load a front from {path.name!r}: the name must end in .json or .csv.")
        if (suffix == ".csv") == (maximize is None):
            raise ValueError(
                f"{path} does not say whether higher is better: give maximize=... (a .json file would hold it)."
                if maximize is None
                else f"{path} holds the direction of its objectives itself: leave maximize out."
            )
        try:
            text = path.read_text(encoding="utf-8")
            return cls(**from_json(text)) if maximize is None else cls(**from_csv(text), maximize=maximize)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a front that Front.save wrote, or it was damaged: {error}") from error


def _check_preferences(preferences: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = as_points(preferences, "preferences")
    if array.shape != shape:
        raise ValueError(f"preferences have shape {array.shape} and values {shape}; both must be (N, m), row by row.")
    for wrong, problem in (
        ((array < 0).any(axis=1), "is negative"),
        (np.abs(array.sum(axis=1) - 1) > 1e-6, "does not sum to 1 within 1e-6"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"preferences row {row} {problem}: {array[row].tolist()}, sum {array[row].sum():.9g}. "
                "A preference is a point of the simplex; divide weights by their sum."
            )
    return array


def _check_names(names: Sequence[str], number_of_objectives: int) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"names must be a sequence of non-empty strings, one per objective, but got {names!r}.")
    if len(names) != number_of_objectives or len(set(names)) != len(names):
        raise ValueError(
            f"names must be {number_of_objectives} different strings, one per objective, but got {names!r}."
        )
    return tuple(names)


def _extra_column(name: str, column: Any, count: int) -> NDArray[Any]:
    """Turn a column into an array of float64, int64, bool or str."""
    if hasattr(column, "detach"):
        column = column.detach().cpu().tolist()
    items = list(column)
    array = np.array([math.nan if item is None else item for item in items])
    holds_none = any(item is None for item in items)
    if array.shape != (count,) or array.dtype.kind not in "biufU" or (holds_none and array.dtype.kind == "U"):
        raise ValueError(
            f"extra column {name!r} must hold {count} numbers, bools or strings, one per point (None for a number that "
            f"is missing), but got shape {array.shape}, type {array.dtype}."
        )
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise ValueError(
            f"extra column {name!r} has an infinite number in row {int(np.flatnonzero(np.isinf(array))[0])}."
        )
    return array.astype({"f": np.float64, "i": np.int64, "u": np.int64}.get(array.dtype.kind, array.dtype))


def _json_ready(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Copy metadata as JSON holds it, here and not in save: a front must not fail after the work is done."""
    ready: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            # tolist is what numpy arrays and scalars, and tensors, have.
            ready[str(key)] = json.loads(json.dumps(value, default=lambda item: item.tolist(), allow_nan=False))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"metadata[{key!r}] = {value!r} cannot be written as JSON: {error}") from error
    return ready


def _formatted(column: NDArray[Any]) -> list[str]:
    if column.dtype.kind != "f":
        return [str(item) for item in column.tolist()]
    largest = np.nanmax(np.abs(column), initial=0.0)
    style = ".4f" if largest == 0 or 0.01 <= largest < 1e5 else ".4g"
    return ["" if math.isnan(item) else f"{item:{style}}" for item in column.tolist()]
