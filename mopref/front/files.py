"""The text of a front's files: JSON, which holds everything, and CSV, which holds the table."""

import csv
import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mopref._arrays import Maximize
from mopref.option_checks import RecordedConvention, checked_recorded_convention

__all__ = [
    "PREFERENCE_PREFIX",
    "FrontContent",
    "from_csv",
    "from_json",
    "is_csv",
    "to_csv",
    "to_json",
    "told_convention",
]

PREFERENCE_PREFIX = "preference_"
_FORMAT = "mopref front"
_FORMAT_VERSION = 2
# Version 1 does not hold the convention.
_READABLE_VERSIONS = (1, 2)


class FrontContent(NamedTuple):
    """What a front is made of, in the order of its arguments; of a file that was read it is not checked yet.

    Attributes:
        preferences: λ, ``(N, m)``.
        values: what was reached, ``(N, m)``.
        names: one name per objective.
        maximize: the direction, one bool or one per objective.
        extra: more columns of N cells each.
        metadata: anything that JSON can hold.
        convention: what λ says; ``None`` where a file does not tell it.
    """

    preferences: ArrayLike
    values: ArrayLike
    names: Sequence[str]
    maximize: Maximize
    extra: Mapping[str, Any]
    metadata: Mapping[str, Any]
    convention: RecordedConvention | None


def to_json(content: FrontContent) -> str:
    """A JSON text that holds everything, each number exactly.

    Raises:
        ValueError: a preference or a value that is not finite, which JSON cannot hold.
    """
    document = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "names": content.names,
        "maximize": content.maximize,
        "convention": content.convention,
        "preferences": np.asarray(content.preferences).tolist(),
        "values": np.asarray(content.values).tolist(),
        "extra": {name: _without_nan(column) for name, column in content.extra.items()},
        "metadata": content.metadata,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(headers: Sequence[str], columns: Sequence[NDArray[Any]]) -> str:
    """A CSV text of a table's columns under their headers; direction, convention and metadata have no place in it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(zip(*map(_without_nan, columns), strict=True))
    return out.getvalue()


def from_json(text: str) -> FrontContent:
    """What a JSON text holds; one of version 1 holds no convention.

    Raises:
        ValueError: a text that :func:`to_json` did not write, or not all of it.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError(f'there is no "format": "{_FORMAT}" in it.')
    version = document.get("version")
    if version not in _READABLE_VERSIONS:
        readable = " and ".join(map(str, _READABLE_VERSIONS))
        raise ValueError(f"its format version is {version}, and this mopref reads {readable}.")
    if version == 1:
        document["convention"] = None
    missing = [key for key in FrontContent._fields if key not in document]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}.")
    if version != 1:
        checked_recorded_convention(document["convention"])
    return FrontContent(**{key: document[key] for key in FrontContent._fields})


def from_csv(text: str, maximize: Maximize, convention: RecordedConvention | None = None) -> FrontContent:
    """What a CSV table holds, with the direction and the convention that it does not.

    Raises:
        ValueError: a text without the columns of a front, or with rows of another length.
    """
    header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    names = [column.removeprefix(PREFERENCE_PREFIX) for column in header if column.startswith(PREFERENCE_PREFIX)]
    # An objective may itself be called preference_…; its own preference column tells.
    names = [name for name in names if name in header]
    if not names or len(set(header)) != len(header):
        raise ValueError(f"its columns {header} are not preference_<name> and <name> per objective, each once.")
    uneven = [i for i, row in enumerate(rows) if len(row) != len(header)]
    if uneven:
        raise ValueError(f"row {uneven[0]} has {len(rows[uneven[0]])} cells, not {len(header)}.")
    if not rows:
        raise ValueError("it has no rows.")
    columns = {column: [row[i] for row in rows] for i, column in enumerate(header)}
    preferences = [columns.pop(PREFERENCE_PREFIX + name) for name in names]
    values = [columns.pop(name) for name in names]
    return FrontContent(
        preferences=np.array(preferences, dtype=np.float64).T,
        values=np.array(values, dtype=np.float64).T,
        names=names,
        maximize=maximize,
        extra={name: _parsed(cells) for name, cells in columns.items()},
        metadata={},
        convention=convention,
    )


def is_csv(path: Path) -> bool:
    """Whether a file's name is a table's; any other must be a .json file's.

    Raises:
        ValueError: a name with another ending.
    """
    suffix = path.suffix.lower()
    if suffix not in (".json", ".csv"):
        raise ValueError(f"{path.name!r} names no file of a front: it must end in .json or .csv.")
    return suffix == ".csv"


def told_convention(
    recorded: RecordedConvention | None, given: RecordedConvention | None, path: Path
) -> RecordedConvention:
    """The convention that a .json file records, or that is given beside it; a warning where neither tells it.

    Raises:
        ValueError: a convention beside the file's own.
    """
    if recorded is not None and given is not None:
        raise ValueError(f"{path} holds the convention of its preferences itself: leave convention out.")
    told = given if recorded is None else recorded
    if told is None:
        warnings.warn(
            f"{path} is of version 1, which does not record what its preferences say: the front's convention is "
            "'unrecorded'. Look up the scalarizer it was trained with: under PBI, modified Tchebycheff, an achievement "
            "function or COSMOS of version 0.1 a LARGER λ_i asked for a larger loss i, so load it with "
            "convention='ray'; under any other with convention='importance'; and save it again.",
            stacklevel=3,
        )
    return "unrecorded" if told is None else told


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
