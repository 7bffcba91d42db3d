"""PKU-SafeRLHF: which of two answers is more helpful, and which is safer."""

import os

from mopref.argument_kinds import checks_arguments
from mopref.llm.data.records import TEXT_COLUMNS

from .loader import LOADERS, Record, read_rows, require_columns, usable_records
from .sources import ColumnMap, check_columns_map, renamed_rows

__all__ = ["load_pku_saferlhf"]

# Which column of the data set says what; helpfulness is rated apart from safety.
_LABEL_COLUMNS = {"better_response_id": "helpful", "safer_response_id": "harmless"}


@LOADERS.register("pku-saferlhf")
@checks_arguments(but=("source",))
def load_pku_saferlhf(
    source: str | os.PathLike[str] = "PKU-Alignment/PKU-SafeRLHF",
    split: str = "train",
    limit: int | None = None,
    columns: ColumnMap | None = None,
    revision: str | None = None,
) -> list[Record]:
    """PKU-SafeRLHF as preference records with the objectives ``helpful`` and ``harmless``.

    ``better_response_id`` (the more helpful response, apart from safety) becomes ``helpful`` and ``safer_response_id``
    ``harmless``.

    Args:
        source: a hub id, or a local file or folder of the same shape: JSON lines, JSON, CSV or parquet, also with gzip.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; ``None`` for all.
        columns: maps the data set's names to the columns of one of the same shape.
        revision: the branch, tag or commit of a hub data set.

    Raises:
        FileNotFoundError: no such file, folder or data set.
        ValueError: a missing column, another label than 0 and 1, or what is no text; row and column are named.

    Source: https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF.
    """
    columns = columns or {}
    check_columns_map(columns, (*TEXT_COLUMNS, *_LABEL_COLUMNS))
    label_columns = [columns.get(name) or name for name in _LABEL_COLUMNS]
    records = []
    rows = renamed_rows(read_rows(source, split, limit, label_columns=label_columns, revision=revision), columns)
    for number, row in enumerate(rows):
        require_columns(row, number, (*TEXT_COLUMNS, *_LABEL_COLUMNS))
        for column in _LABEL_COLUMNS:
            label = row[column]
            if type(label) is not int or label not in (0, 1):
                label_text = label if isinstance(label, int | float) else f"a {type(label).__name__}"
                raise ValueError(
                    f"row {number}, column {column!r}: the label is {label_text}, which is no index of a response, 0 "
                    "or 1: leave the row out."
                )
        record: Record = {name: row[name] for name in TEXT_COLUMNS}
        record.update({objective: row[column] for column, objective in _LABEL_COLUMNS.items()})
        records.append(record)
    return usable_records(records, tuple(_LABEL_COLUMNS.values()))
