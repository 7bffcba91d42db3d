"""PKU-SafeRLHF: which of two answers is more helpful, and which is safer."""

import os

from mopref.llm.data.records import TEXT_COLUMNS

from .loader import LOADERS, Record, read_rows, require_columns, usable_records

__all__ = ["load_pku_saferlhf"]


@LOADERS.register("pku-saferlhf")
def load_pku_saferlhf(
    source: str | os.PathLike[str] = "PKU-Alignment/PKU-SafeRLHF", split: str = "train", limit: int | None = None
) -> list[Record]:
    """Return PKU-SafeRLHF as records with the objectives ``helpful`` and ``harmless``.

    ``better_response_id`` (the more helpful response, apart from safety) becomes ``helpful`` and ``safer_response_id``
    ``harmless``. ``source`` is a hub id or a local file or folder of the same shape (JSON lines, JSON, CSV, parquet;
    gzip works); only the first ``limit`` rows are taken if given. Raises ValueError, naming row and column, for missing
    columns and other labels than 0 and 1. Source: https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF.
    """
    columns = {"better_response_id": "helpful", "safer_response_id": "harmless"}
    records = []
    for number, row in enumerate(read_rows(source, split, limit)):
        require_columns(row, number, (*TEXT_COLUMNS, *columns))
        for old in columns:
            if type(row[old]) is not int or row[old] not in (0, 1):
                raise ValueError(f"row {number}, column {old!r}: {row[old]!r} is not the index of a response, 0 or 1")
        record: Record = {name: row[name] for name in TEXT_COLUMNS}
        record.update({new: row[old] for old, new in columns.items()})
        records.append(record)
    return usable_records(records, ("helpful", "harmless"))
