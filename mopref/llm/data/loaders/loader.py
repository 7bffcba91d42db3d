"""What every loader shares: the registry, rows from the hub or local files, and the check of what comes out.

A loader is a function that returns a list of preference records (see ``mopref.llm.data.records``). It stands in a file
of its own and registers itself with ``@LOADERS.register(name)``; ``LOADERS.make(name, **options)`` calls it. Rows with
an empty prompt or response cannot be trained on; public data has some, and loaders leave them out with a warning.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mopref.llm.data.records import TEXT_COLUMNS, text_problem, validate_records
from mopref.registry import Registry

__all__ = ["LOADERS", "Record", "read_rows", "require_columns", "usable_records"]

Record = dict[str, Any]

LOADERS: Registry[list[Record]] = Registry("loader", packages=["mopref.llm.data.loaders"])

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def read_rows(
    source: str | os.PathLike[str], split: str, limit: int | None, folder: str | None = None
) -> Iterable[Mapping[str, Any]]:
    """The rows of a hub data set or of local files.

    Args:
        source: a hub id, or a local file or folder: JSON lines, JSON, CSV or parquet, also with gzip.
        split: the split of the data set; a single file has none.
        limit: only so many rows from the start; ``None`` for all.
        folder: the folder of the data set that holds the rows.

    Raises:
        ValueError: a limit below 1, a file of another kind, or a missing folder.
    """
    from datasets import load_dataset

    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: no row would be left, so it must be ≥ 1, or None for all rows.")
    path = Path(source)
    if path.is_file():
        table = load_dataset(_builder(path, folder), data_files=str(path), split="train")
    else:
        if folder is not None and path.is_dir() and not (path / folder).is_dir():
            names = ", ".join(sorted(entry.name for entry in path.iterdir()))
            raise ValueError(f"{path} holds no folder {folder!r}; it has {names}: name one of them.")
        table = load_dataset(str(source), data_dir=folder, split=split)
    return table if limit is None else table.select(range(min(limit, len(table))))


def _builder(path: Path, folder: str | None) -> str:
    """The name under which datasets reads such a file; it unpacks ``answers.jsonl.gz`` itself."""
    if folder is not None:
        raise ValueError(f"{path} is a file: give the folder that holds the folder {folder!r}.")
    endings = [suffix for suffix in path.suffixes[-2:] if suffix in _BUILDERS]
    if not endings:
        raise ValueError(
            f"{path.name} is none of the files that can be read: its name must end in one of {', '.join(_BUILDERS)}, "
            "also with .gz."
        )
    return _BUILDERS[endings[-1]]


def require_columns(row: Mapping[str, Any], number: int, columns: Sequence[str], folder: str | None = None) -> None:
    """Refuse a row in which one of the columns is missing or blank.

    Raises:
        ValueError: it names the folder, if there is one, the row and the column.
    """
    for column in columns:
        if column not in row or row[column] is None:
            place = f"{folder}, row {number}" if folder else f"row {number}"
            raise ValueError(
                f"{place}: column {column!r} is missing or blank; there are {', '.join(map(repr, row))}, so rename or "
                "fill it."
            )


def usable_records(records: list[Record], objectives: Sequence[str]) -> list[Record]:
    """The records whose prompt and responses are not empty, checked; a warning counts the others.

    Raises:
        ValueError: what ``validate_records`` refuses.
    """
    usable = [
        record for record in records if not any(text_problem(record[name], name != "prompt") for name in TEXT_COLUMNS)
    ]
    if len(usable) < len(records):
        warnings.warn(
            f"left out {len(records) - len(usable)} of {len(records)} rows: their prompt or a response is empty, or "
            "their dialogues part before the last turn.",
            stacklevel=3,
        )
    validate_records(usable, objectives)
    return usable
