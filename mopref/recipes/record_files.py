"""Loaders of the records that are no pairs: responses with their dimensions, and prompts alone."""

import os
from collections.abc import Sequence
from typing import Any

from mopref.llm.data import validate_response_records
from mopref.llm.data.loaders import LOADERS
from mopref.llm.data.loaders.loader import read_rows, require_columns
from mopref.llm.data.prompts import prompt_list

__all__ = ["load_prompts", "load_responses"]


@LOADERS.register("responses")
def load_responses(
    path: str | os.PathLike[str], objectives: Sequence[str], split: str = "train", limit: int | None = None
) -> list[dict[str, Any]]:
    """Response records for supervised fine-tuning, from a file or folder that holds them as they are.

    Args:
        path: a file or folder of JSON lines, JSON, CSV or parquet, or a hub id. Its columns are ``prompt``,
            ``response`` and ``dimension``: the name of an objective, or a list of names; others are left out.
        objectives: the names that ``dimension`` may hold.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; ``None`` for all.

    Raises:
        FileNotFoundError: no such file or folder, or a folder without data files.
        ValueError: a file that cannot be read, or what ``validate_response_records`` refuses; row and column are named.
    """
    columns = ("prompt", "response", "dimension")
    records = []
    for number, row in enumerate(read_rows(path, split, limit)):
        require_columns(row, number, columns)
        records.append({name: row[name] for name in columns})
    validate_response_records(records, objectives)
    return records


@LOADERS.register("prompts")
def load_prompts(path: str | os.PathLike[str], split: str = "train", limit: int | None = None) -> list[dict[str, Any]]:
    """Prompts for reinforcement learning: the column ``prompt`` of a file or folder of any records.

    Args:
        path: a file or folder of JSON lines, JSON, CSV or parquet, or a hub id.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; ``None`` for all.

    Raises:
        FileNotFoundError: no such file or folder, or a folder without data files.
        ValueError: a file that cannot be read, or an empty or malformed prompt; the row is named.
    """
    records = []
    for number, row in enumerate(read_rows(path, split, limit)):
        require_columns(row, number, ("prompt",))
        records.append({"prompt": row["prompt"]})
    prompt_list([record["prompt"] for record in records])
    return records
