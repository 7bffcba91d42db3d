"""Files that hold preference records as they are."""

import os
from collections.abc import Sequence

from mopref.argument_kinds import checks_arguments
from mopref.llm.data.records import TEXT_COLUMNS, check_objectives, validate_records

from .loader import LOADERS, Record
from .sources import ColumnMap, own_records

__all__ = ["load_records"]


@LOADERS.register("records")
@checks_arguments(but=("path", "objectives"))
def load_records(
    path: str | os.PathLike[str],
    objectives: Sequence[str],
    split: str = "train",
    limit: int | None = None,
    columns: ColumnMap | None = None,
    revision: str | None = None,
) -> list[Record]:
    """Your own preference records, from a file or folder that holds them as they are; no row is dropped.

    Args:
        path: a file or folder of JSON lines, JSON, CSV or parquet, or a hub id. Its columns are ``prompt``,
            ``response_0``, ``response_1`` and one integer column for each objective; others are left out. In a CSV file
            every text is taken as it is written: ``None``, ``N/A`` and ``007`` are texts like any other.
        objectives: names of the label columns.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; ``None`` for all.
        columns: maps these names to the file's columns, as ``{"prompt": "question"}``.
        revision: the branch, tag or commit of a hub data set.

    Raises:
        FileNotFoundError: no such file or folder, or a folder without data files.
        ValueError: a file that cannot be read, or what ``validate_records`` refuses; row and column are named.
    """
    names = check_objectives(objectives)
    records = own_records(path, TEXT_COLUMNS, names, split, limit, columns, revision)
    validate_records(records, names)
    return records
