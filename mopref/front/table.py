"""The text of a front's summary: a table of all points with their intervals, and a line for each indicator."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref._arrays import Array
from mopref._terminal import visible_line

__all__ = ["convention_lines", "indicator_lines", "interval_lines", "table_lines"]

_LABELS = {
    "inner_product": "inner product",
    "sparsity": "sparsity",
    "spacing": "spacing",
    "igd": "IGD",
    "igd_plus": "IGD+",
    "gd": "GD",
    "gd_plus": "GD+",
    "fill_distance": "fill distance",
    "regret_mean": "regret mean",
    "regret_max": "regret max",
    "cross_angle": "cross angle",
}


def table_lines(
    headers: Sequence[str],
    columns: Sequence[NDArray[Any]],
    intervals: Sequence[Array | None] | None = None,
    *,
    dominated: NDArray[np.bool_],
    repeated: int = 0,
    width: int | None = None,
) -> list[str]:
    """The lines of a table, never cut, with every character that a terminal would obey as an escape.

    Args:
        headers: one for each column.
        columns: N numbers, bools or strings each.
        intervals: one for each column, ``(N, 2)`` or ``None``, written in brackets behind its numbers.
        dominated: ``(N,)``; one more column names the points where it is true, if there are any.
        repeated: so many columns at the start are written again in every table, where several are needed.
        width: a table that is wider, in characters, becomes several below each other; ``None`` for one of any width.
    """
    headers = list(map(visible_line, headers))
    bounds = intervals or [None] * len(columns)
    cells = [
        _formatted(column) if interval is None else _with_interval(column, interval)
        for column, interval in zip(columns, bounds, strict=True)
    ]
    if dominated.any():
        headers = [*headers, ""]
        cells.append(["dominated" if flag else "" for flag in dominated])
    lines: list[str] = []
    for places in _tables(headers, cells, repeated, width):
        lines += ([""] if lines else []) + _table([headers[i] for i in places], [cells[i] for i in places])
    return lines


def _tables(
    headers: Sequence[str], cells: Sequence[Sequence[str]], repeated: int, width: int | None
) -> list[list[int]]:
    """Which columns stand in which table: as many as fit, and one beside the repeated ones at least."""
    # Two spaces lie between columns, and one before the first.
    widths = [3 + max(map(len, [header, *column])) for header, column in zip(headers, cells, strict=True)]
    first = list(range(repeated))
    tables = [[*first]]
    for place in range(repeated, len(headers)):
        fits = width is None or sum(widths[i] for i in [*tables[-1], place]) <= width
        if not fits and len(tables[-1]) > repeated:
            tables.append([*first])
        tables[-1].append(place)
    return tables


def _table(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of one table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        # Text, not str: a name may hold what rich would read as markup.
        table.add_column(Text(header), justify="right", no_wrap=True)
    for row in zip(*cells, strict=True):
        table.add_row(*map(Text, row))
    out = io.StringIO()
    # Wide enough for any table: one that is cut to a terminal's width would hide numbers.
    console = Console(file=out, width=100_000, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return [line for line in lines if line]


def convention_lines(convention: str) -> list[str]:
    """A line on what the preferences of a front say, where that is not importance."""
    lines = {
        "ray": "RAY: the losses were to lie along λ, so a larger λ_i asked for a LARGER loss i.",
        "unrecorded": "UNRECORDED: nobody knows whether a larger λ_i asked for a smaller or a larger loss i.",
    }
    return [lines[convention]] if convention in lines else []


def interval_lines(level: float | None) -> list[str]:
    """A line on what brackets are, with their level where it is known."""
    what = (
        "intervals of a level not recorded" if level is None else f"{100 * level:g} % intervals, bootstrap over prompts"
    )
    return [f"[low, high]     {what}"]


def indicator_lines(
    indicators: Mapping[str, Any], count: int, seed: Any, hypervolume_interval: tuple[float, float] | None = None
) -> list[str]:
    """A line for each indicator of a front of ``count`` points, by the keys of ``Front.indicators``.

    The interval is that of the hypervolume under the reference point of these indicators.
    """
    if "hypervolume" in indicators:
        how = "" if indicators["hypervolume_exact"] else ", approximate"
        reference = f"(reference point {indicators['reference_point']}{how})"
        bounds = "" if hypervolume_interval is None else " [{:.6g}, {:.6g}]".format(*hypervolume_interval)
        lines = [f"hypervolume     {indicators['hypervolume']:.6g}{bounds}  {reference}"]
    else:
        lines = ["hypervolume     needs a reference point"]
    lines += [f"{label:<15} {indicators[key]:.6g}" for key, label in _LABELS.items() if key in indicators]
    ranges = [f"{visible_line(name)} {size:.4g}" for name, size in indicators["range"].items()]
    lines.append("range           " + ", ".join(ranges))
    distinct = f"{indicators['distinct_non_dominated']} of them distinct"
    lines += [
        f"non-dominated   {indicators['non_dominated']} of {count}, {distinct}",
        f"seed            {visible_line(str(seed))}",
    ]
    if indicators["collapsed"]:
        lines.append("COLLAPSED: all points are the same, or next to it, so the preference does not matter.")
    return lines


def _with_interval(column: NDArray[Any], interval: Array) -> list[str]:
    """Numbers with their intervals, such as ``0.598 [0.571, 0.624]``: two digits of a usual interval's width show."""
    numbers = column.astype(np.float64)
    style = _style(np.concatenate([numbers[:, None], interval], axis=1))
    widths = np.diff(interval, axis=1)
    widths = widths[widths > 0]
    if style.endswith("f") and len(widths):
        style = f".{int(np.clip(1 - np.floor(np.log10(np.median(widths))), 0, 8))}f"
    cells = []
    for number, (low, high) in zip(numbers.tolist(), interval.tolist(), strict=True):
        known = "" if math.isnan(low) else f" [{low:{style}}, {high:{style}}]"
        cells.append(f"{_written(number, style)}{known}".strip())
    return cells


def _formatted(column: NDArray[Any]) -> list[str]:
    if column.dtype.kind != "f":
        return [visible_line(str(item)) for item in column.tolist()]
    style = _style(column)
    return [_written(item, style) for item in column.tolist()]


def _style(numbers: NDArray[Any]) -> str:
    """One style for all numbers of a column."""
    largest = np.nanmax(np.abs(numbers), initial=0.0)
    return ".4f" if largest == 0 or 0.01 <= largest < 1e5 else ".4g"


def _written(number: float, style: str) -> str:
    return "" if math.isnan(number) else f"{number:{style}}"
