"""The text of a front's files: JSON, which holds everything, and CSV, which holds the table.

A file that was cut short is told from one that is whole: JSON holds the sha256 of its content, and the last cell of
every line of a CSV file says how many lines there are.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mopref._arrays import Maximize
from mopref._bounded_reading import read_bounded
from mopref._csv_cells import csv_cells
from mopref._repr import short_repr
from mopref._warning import warn
from mopref.option_checks import RecordedConvention, checked_recorded_convention

__all__ = [
    "COUNT_COLUMN",
    "PREFERENCE_PREFIX",
    "FrontContent",
    "from_csv",
    "from_json",
    "is_csv",
    "read_text",
    "to_csv",
    "to_json",
    "told_convention",
]

PREFERENCE_PREFIX = "preference_"
# The last column of a CSV file; not one of the front.
COUNT_COLUMN = "points_in_file"
_FORMAT = "mopref front"
_FORMAT_VERSION = 3
# Version 1 does not hold the convention, and no sum of its content is in it or version 2.
_READABLE_VERSIONS = (1, 2, 3)
# Of a million points; a larger one is no front, and would not fit into the memory of many a machine.
_MOST_BYTES = 1 << 28


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
    """A JSON text that holds everything, each number exactly, and the sha256 of it.

    Raises:
        ValueError: a preference or a value that is not finite, which JSON cannot hold, or more than a file may have.
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
    document["sha256"] = _sum(document)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return _of_readable_size(text)


def to_csv(headers: Sequence[str], columns: Sequence[NDArray[Any]]) -> str:
    """A CSV text of a table's columns under their headers; direction, convention and metadata have no place in it.

    The last column, ``points_in_file``, holds the number of lines below the header in each of them.

    Raises:
        ValueError: more than a file may have.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*headers, COUNT_COLUMN])
    rows = list(zip(*map(_without_nan, columns), strict=True))
    writer.writerows([*row, len(rows)] for row in rows)
    return _of_readable_size(out.getvalue())


def read_text(path: Path) -> str:
    """The text of a front's file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is no file, no UTF-8, or too large.
    """
    return read_bounded(path, _MOST_BYTES, "a front").decode("utf-8")


def from_json(text: str) -> FrontContent:
    """What a JSON text holds; one of version 1 holds no convention.

    Raises:
        ValueError: a text that :func:`to_json` did not write, or not all of it, or that was changed since.
    """
    document = json.loads(text, object_pairs_hook=_distinct)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError(f'there is no "format": "{_FORMAT}" in it.')
    version = document.get("version")
    if type(version) is not int or version not in _READABLE_VERSIONS:
        raise ValueError(
            f"its format version is {short_repr(version)}, and this mopref reads 1 to {_FORMAT_VERSION}: read it with "
            "the newer mopref that wrote it."
        )
    if version == 1:
        document["convention"] = None
    missing = [key for key in FrontContent._fields if key not in document]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}.")
    if version > 2 or "sha256" in document:
        _check_sum(document)
    if version != 1:
        checked_recorded_convention(document["convention"])
    return FrontContent(**{key: document[key] for key in FrontContent._fields})


def from_csv(text: str, maximize: Maximize, convention: RecordedConvention | None = None) -> FrontContent:
    """What a CSV table holds, with the direction and the convention that it does not.

    Raises:
        ValueError: a text without the columns of a front, or with rows of another length.
    """
    header, *rows = [cells for _, cells in csv_cells(text)] or [[]]
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
    if header[-1] == COUNT_COLUMN:
        _check_count(header, rows)
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


def _check_count(header: list[str], rows: list[list[str]]) -> None:
    """Take the last column away, which says how many rows were written; older files have none."""
    header.pop()
    for i, row in enumerate(rows):
        count = row.pop()
        if count != str(len(rows)):
            raise ValueError(
                f"row {i} says that there are {short_repr(count)} points in it, and there are {len(rows)}: it was cut "
                f"short, or changed. Remove the column {COUNT_COLUMN} of a file that you changed yourself."
            )


def _check_sum(document: Mapping[str, Any]) -> None:
    if document.get("sha256") != _sum(document):
        raise ValueError(
            "its content is not what was written, by the sha256 in it: copy it once more from where it came. To change "
            "a front, load the whole file, change that and save it."
        )


def _sum(document: Mapping[str, Any]) -> str:
    """The sha256 of a document but for that itself, however it is laid out."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which no key may be there twice: only one of its values could be kept."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key of it is there twice.")
    return dict(pairs)


def _of_readable_size(text: str) -> str:
    # Four bytes are the most that a character has.
    if len(text) > _MOST_BYTES // 4 and len(text.encode()) > _MOST_BYTES:
        raise ValueError(
            f"the front takes more than {_MOST_BYTES >> 20} MiB as a file, which could not be loaded: leave out extra "
            "columns or metadata, or divide it."
        )
    return text


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
        warn(
            f"{path} is of version 1, which does not record what its preferences say: the front's convention is "
            "'unrecorded'. Look up the scalarizer it was trained with: under PBI, modified Tchebycheff, an achievement "
            "function or COSMOS of version 0.1 a LARGER λ_i asked for a larger loss i, so load it with "
            "convention='ray'; under any other with convention='importance'; and save it again.",
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
