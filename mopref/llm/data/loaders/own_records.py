"""Files that hold preference records as they are."""

import os
from collections.abc import Sequence

from mopref.llm.data.records import TEXT_COLUMNS, check_objectives, validate_records

from .loader import LOADERS, Record, read_rows, require_columns

__all__ = ["load_records"]


@LOADERS.register("records")
def load_records(
    path: str | os.PathLike[str], objectives: Sequence[str], split: str = "train", limit: int | None = None
) -> list[Record]:
    """Return your own records from a file or folder that holds them as they are: JSON lines, JSON, CSV or parquet.

    The columns are ``prompt``, ``response_0``, ``response_1`` and one integer column per objective; other columns are
    left out. ``path`` may be a hub id, too. Raises ValueError, naming row and column, for everything `validate_records`
    refuses; no row is dropped silently.
    """
    names = check_objectives(objectives)
    records = []
    for number, row in enumerate(read_rows(path, split, limit)):
        require_columns(row, number, (*TEXT_COLUMNS, *names))
        records.append({name: row[name] for name in (*TEXT_COLUMNS, *names)})
    validate_records(records, names)
    return records
