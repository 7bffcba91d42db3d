"""The table of a front for readers: λ, values with their directions and intervals, dominated points, the base model."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref._terminal import visible_line
from mopref.front import Front
from mopref.front.intervals import bound_columns
from mopref.indicators import non_dominated

__all__ = [
    "Cell",
    "Column",
    "FrontTable",
    "Row",
    "front_table",
    "hypervolume_text",
    "is_finite_number",
    "markdown_table",
    "number_text",
    "plain_markdown",
]

# Extra columns of which more is better, by how their names begin.
_BETTER_HIGH = ("accuracy_", "win_rate_", "margin_")
_EMPTY = "–"


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        heading: what stands above it.
        direction: "↑" where higher is better, "↓" where lower is, or nothing.
        is_preference: it holds weights λ_i.
    """

    heading: str
    direction: str = ""
    is_preference: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of the table.

    Args:
        text: the value, rounded.
        value: the value as the front holds it; nothing where it was not measured.
        interval: the bounds, rounded; nothing where there are none.
        bounds: the bounds as the front holds them.
    """

    text: str
    value: str = ""
    interval: str = ""
    bounds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of the table: a cell for each column, and whether another point is better in all."""

    cells: tuple[Cell, ...]
    is_dominated: bool = False


@dataclass(frozen=True)
class FrontTable:
    """A front as cells.

    Args:
        columns: of λ, of the values, and the extra ones.
        rows: one for each point.
        base: the base model's values, where they were measured.
        level: of the intervals, such as 0.9; nothing where it is not recorded.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    base: Row | None
    level: float | None

    @property
    def has_intervals(self) -> bool:
        """Whether any cell has bounds."""
        return any(cell.bounds for row in self.rows for cell in row.cells)


def front_table(front: Front) -> FrontTable:
    """The table of a front; columns ``c_low`` and ``c_high`` become the interval of column c."""
    values = dict(zip(front.names, front.values.T, strict=True))
    arrays = {**values, **front.extra}
    known = front.intervals
    bounds = bound_columns(known)
    shown = [*front.names, *(name for name in front.extra if name not in bounds)]
    arrows = dict(zip(front.names, ("↑" if flag else "↓" for flag in front.is_maximized()), strict=True))
    columns = [Column(name, is_preference=True) for name in front.names]
    columns += [Column(_heading(name), arrows.get(name, _direction(name))) for name in shown]
    cells = [[Cell(f"{weight:.3g}", repr(weight)) for weight in column] for column in front.preferences.T.tolist()]
    cells += [_cells(arrays[name], known.get(name)) for name in shown]
    dominated = ~non_dominated(front.values, front.maximize)
    rows = [Row(tuple(row), bool(flag)) for row, flag in zip(zip(*cells, strict=True), dominated, strict=True)]
    level = front.metadata.get("interval_level")
    return FrontTable(tuple(columns), tuple(rows), _base(front, len(shown)), level if is_finite_number(level) else None)


def hypervolume_text(front: Front) -> str | None:
    """The hypervolume with its interval and reference point; nothing where there is no reference point."""
    numbers = front.indicators()
    if "hypervolume" not in numbers:
        return None
    interval = front.metadata.get("hypervolume_interval")
    bounds = ""
    if isinstance(interval, list) and len(interval) == 2 and all(map(is_finite_number, interval)):
        bounds = f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    how = "" if numbers["hypervolume_exact"] else ", approximate"
    point = ", ".join(f"{value:g}" for value in numbers["reference_point"])
    return f"{numbers['hypervolume']:.4g}{bounds} (reference point {point}{how})"


def markdown_table(table: FrontTable) -> str:
    """The table as Markdown, numbers to the right, intervals in brackets."""
    heads = [
        f"λ {plain_markdown(column.heading)}"
        if column.is_preference
        else f"{plain_markdown(column.heading)} {column.direction}".strip()
        for column in table.columns
    ]
    marked = any(row.is_dominated for row in table.rows)
    lines = [[*heads, *([""] if marked else [])]]
    lines.append(["---:"] * len(lines[0]))
    for row in table.rows:
        lines.append(_markdown_cells(row) + (["dominated" if row.is_dominated else ""] if marked else []))
    if table.base is not None:
        base = ["base model", *_markdown_cells(table.base)[1:]]
        lines.append(base + ([""] if marked else []))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number_text(value: float, like: Sequence[float]) -> str:
    """A number as those of its column are written: so many decimals that they compare.

    Example:
        >>> number_text(0.25, [0.25, 12.0]), number_text(2.5e-6, [2.5e-6]), number_text(math.nan, [])
        ('0.2500', '2.5e-06', '–')
    """
    if math.isnan(value):
        return _EMPTY
    largest = max((abs(number) for number in like if math.isfinite(number)), default=0.0)
    return f"{value:.4f}" if largest == 0 or 0.01 <= largest < 1e5 else f"{value:.4g}"


def plain_markdown(text: str) -> str:
    r"""A text in which Markdown sees no markup and no end of a cell, and a terminal that shows the file no order.

    Example:
        >>> print(plain_markdown("a_b | <b>"))
        a\_b \| \<b\>
    """
    plain = visible_line(" ".join(text.split()))
    return re.sub(r"([\\`*_{}\[\]<>|#~!$&])", r"\\\1", plain)


def _heading(name: str) -> str:
    """An extra column's name in words."""
    return name.replace("_", " ")


def _direction(name: str) -> str:
    return "↑" if name.startswith(_BETTER_HIGH) else ""


def _cells(column: NDArray[Any], interval: NDArray[np.float64] | None) -> list[Cell]:
    if column.dtype.kind != "f":
        texts = [(str(value), str(value)) for value in column.tolist()]
    else:
        numbers = column.tolist()
        texts = [(number_text(value, numbers), "" if math.isnan(value) else repr(value)) for value in numbers]
    if interval is None:
        return [Cell(*text) for text in texts]
    low, high = interval.T
    like = [*np.abs(np.asarray(column, dtype=np.float64)).tolist(), *low.tolist(), *high.tolist()]
    cells = []
    for text, *pair in zip(texts, low.tolist(), high.tolist(), strict=True):
        rounded = f"{number_text(pair[0], like)} – {number_text(pair[1], like)}"
        is_there = not any(map(math.isnan, pair))
        cells.append(Cell(*text, rounded, tuple(map(repr, pair))) if is_there else Cell(*text))
    return cells


def _base(front: Front, shown: int) -> Row | None:
    losses = front.metadata.get("base_losses")
    count = len(front.names)
    if not isinstance(losses, list) or len(losses) != count or not all(map(is_finite_number, losses)):
        return None
    like = front.values.T.tolist()
    cells = [Cell(number_text(value, column), repr(value)) for value, column in zip(losses, like, strict=True)]
    return Row((*[Cell("")] * count, *cells, *[Cell("")] * (shown - count)))


def is_finite_number(value: Any) -> bool:
    """Whether a value of a file is a number that can be shown and drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _markdown_cells(row: Row) -> list[str]:
    return list(_markdown_texts(row.cells))


def _markdown_texts(cells: Sequence[Cell]) -> Iterator[str]:
    for cell in cells:
        yield plain_markdown(cell.text) + (f" [{cell.interval.replace(' – ', ', ')}]" if cell.interval else "")
