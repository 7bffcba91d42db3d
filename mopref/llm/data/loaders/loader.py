"""What every loader shares: the registry, rows from the hub or local files, and the check of what comes out.

A loader is a function that returns a list of records (see ``mopref.llm.data.records``). Rows with an empty prompt or
response cannot be trained on; public data has some, and loaders leave them out with a warning.
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

LOADERS: Registry[list[Record]] = Registry("loader", packages=["mopref.llm.data.loaders", "mopref.llm.demo"])

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def read_rows(
    source: str | os.PathLike[str], split: str, limit: int | None, folder: str | None = None
) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a hub data set or of local files, the first ``limit`` if given."""
    from datasets import load_dataset  # type: ignore[import-untyped]

    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, but must be at least 1, or None for all rows")
    path = Path(source)
    if path.is_file():
        if folder is not None:
            raise ValueError(f"{path} is a file, but must be the folder that holds the folder {folder!r}")
        # "answers.jsonl.gz" is read as JSON lines; datasets unpacks it.
        kinds = [suffix for suffix in path.suffixes[-2:] if suffix in _BUILDERS]
        if not kinds:
            raise ValueError(
                f"{path.name} is none of the files that can be read: {', '.join(_BUILDERS)}, also with .gz"
            )
        table = load_dataset(_BUILDERS[kinds[-1]], data_files=str(path), split="train")
    else:
        if folder is not None and path.is_dir() and not (path / folder).is_dir():
            raise ValueError(
                f"{path} holds no folder {folder!r}; it has {', '.join(sorted(p.name for p in path.iterdir()))}"
            )
        table = load_dataset(str(source), data_dir=folder, split=split)
    return table if limit is None else table.select(range(min(limit, len(table))))


def require_columns(row: Mapping[str, Any], number: int, columns: Sequence[str], place: str | None = None) -> None:
    """Refuse a row in which one of the columns is missing or blank, by its number."""
    for column in columns:
        if column not in row or row[column] is None:
            where = f"{place}, row {number}" if place else f"row {number}"
            raise ValueError(f"{where}: column {column!r} is missing or blank; there are {', '.join(map(repr, row))}")


def usable_records(records: list[Record], objectives: Sequence[str]) -> list[Record]:
    """Leave out records with an empty prompt or response, with a warning that counts them, and check the others."""
    kept = [
        record for record in records if not any(text_problem(record[name], name != "prompt") for name in TEXT_COLUMNS)
    ]
    if len(kept) < len(records):
        warnings.warn(
            f"left out {len(records) - len(kept)} of {len(records)} rows: their prompt or a response is empty, or "
            "their dialogues part "
            "before the last turn",
            stacklevel=3,
        )
    validate_records(kept, objectives)
    return kept
