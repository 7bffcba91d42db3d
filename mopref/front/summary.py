"""What a front says of itself: a table of all points, and the indicators below it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mopref import indicators
from mopref._arrays import Array
from mopref.front.intervals import bound_columns, hypervolume_interval, interval_level
from mopref.front.table import convention_lines, indicator_lines, interval_lines, table_lines

__all__ = ["summary_text"]


class Summarised(Protocol):
    """What a summary is made from; :class:`mopref.front.Front` has it."""

    names: tuple[str, ...]
    values: Array
    maximize: bool | tuple[bool, ...]
    extra: dict[str, NDArray[Any]]
    metadata: dict[str, Any]

    @property
    def convention(self) -> Any:
        """What λ says."""

    @property
    def intervals(self) -> dict[str, Array]:
        """Bounds of the columns that have an interval."""

    def __len__(self) -> int: ...

    def columns(self) -> Sequence[str]:
        """Names of the table's columns."""

    def column_arrays(self) -> Sequence[NDArray[Any]]:
        """The table's columns."""

    def is_maximized(self) -> tuple[bool, ...]:
        """One bool per objective."""


def summary_text(front: Summarised, numbers: Mapping[str, Any], own: Array | None, width: int | None) -> str:
    """The text of ``Front.summary``.

    Args:
        front: what is described.
        numbers: its indicators, as ``Front.indicators`` gives them.
        own: the reference point of its metadata, under which the interval of its hypervolume is.
        width: a table wider than so many characters becomes several; ``None`` for one of any width.
    """
    symbol = "λ" if front.convention == "importance" else f"λ ({front.convention})"
    arrows = {name: "↑" if flag else "↓" for name, flag in zip(front.names, front.is_maximized(), strict=True)}
    headers = [f"{symbol} {name}" for name in front.names] + [f"{name} {arrow}" for name, arrow in arrows.items()]
    known = front.intervals
    hidden = bound_columns(known)
    cells = zip(front.columns(), [*headers, *front.extra], front.column_arrays(), strict=True)
    shown = [(header, column, known.get(name)) for name, header, column in cells if name not in hidden]
    dominated = ~indicators.non_dominated(front.values, front.maximize)
    points = table_lines(*zip(*shown, strict=True), dominated=dominated, repeated=len(front.names), width=width)
    is_own = own is not None and numbers["reference_point"] == own.tolist()
    volume_interval = hypervolume_interval(front.metadata) if is_own else None
    lines = [*convention_lines(front.convention), *points]
    if volume_interval is not None or any(np.isfinite(bounds).any() for bounds in known.values()):
        lines += interval_lines(interval_level(front.metadata))
    seed = front.metadata.get("seed", "not recorded")
    return "\n".join([*lines, "", *indicator_lines(numbers, len(front), seed, volume_interval)])
