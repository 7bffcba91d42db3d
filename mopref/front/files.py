"""The text of a front's files: JSON, which holds everything, and CSV, which holds the table."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mopref.front import Front

__all__ = ["PREFERENCE_PREFIX", "from_csv", "from_json", "to_csv", "to_json"]

PREFERENCE_PREFIX = "preference_"
_FORMAT = "mopref front"
_FORMAT_VERSION = 1


def to_json(front: Front) -> str:
    """Write everything that a front holds."""
    content = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "names": front.names,
        "maximize": front.maximize,
        "preferences": front.preferences.tolist(),
        "values": front.values.tolist(),
        "extra": {name: _without_nan(column) for name, column in front.extra.items()},
        "metadata": front.metadata,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(front: Front) -> str:
    """Write a front's table; direction and metadata have no place in it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(front.columns())
    writer.writerows(zip(*map(_without_nan, front.column_arrays()), strict=True))
    return out.getvalue()


def from_json(text: str) -> dict[str, Any]:
    """Read the arguments of a front from JSON."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f'there is no "format": "{_FORMAT}" in it.')
    if content.get("version") != _FORMAT_VERSION:
        raise ValueError(f"its format version is {content.get('version')}, and this mopref reads {_FORMAT_VERSION}.")
    keys = ("preferences", "values", "names", "maximize", "extra", "metadata")
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}.")
    return {key: content[key] for key in keys}


def from_csv(text: str) -> dict[str, Any]:
    """Read the arguments of a front, but its direction, from a CSV table."""
    header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    names = [column.removeprefix(PREFERENCE_PREFIX) for column in header if column.startswith(PREFERENCE_PREFIX)]
    # An objective may itself be called preference_…; its own preference column tells.
    names = [name for name in names if name in header]
    if not names or len(set(header)) != len(header):
        raise ValueError(f"its columns {header} are not preference_<name> and <name> per objective, each once.")
    uneven = [i for i, row in enumerate(rows) if len(row) != len(header)]
    if uneven or not rows:
        raise ValueError(
            f"row {uneven[0]} has {len(rows[uneven[0]])} cells, not {len(header)}." if uneven else "no rows."
        )
    columns = {column: [row[i] for row in rows] for i, column in enumerate(header)}
    preferences = [columns.pop(PREFERENCE_PREFIX + name) for name in names]
    values = [columns.pop(name) for name in names]
    return {
        "preferences": np.array(preferences, dtype=np.float64).T,
        "values": np.array(values, dtype=np.float64).T,
        "names": names,
        "extra": {name: _parsed(column) for name, column in columns.items()},
    }


def _parsed(cells: list[str]) -> list[Any]:
    if all(cell in ("True", "False") for cell in cells):
        return [cell == "True" for cell in cells]
    for kind in (int, float):
        try:
            return [kind(cell) if cell or kind is int else math.nan for cell in cells]
        except ValueError:
            continue
    return list(cells)


def _without_nan(column: NDArray[Any]) -> list[Any]:
    return [None if isinstance(item, float) and math.isnan(item) else item for item in column.tolist()]
