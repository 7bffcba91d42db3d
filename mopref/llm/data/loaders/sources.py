"""A data set as a loader takes it: where its rows are, which of them, and what its columns are called."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, TypeAlias

from mopref._repr import quoted_list
from mopref.argument_kinds import checked_fields
from mopref.llm.data.records import refuse_columns, refuse_other_inputs

from .loader import Record, read_rows, require_columns

__all__ = ["ColumnMap", "DataSource", "Rows", "check_columns_map", "own_records", "renamed_rows", "source_of_each"]

# How many rows are looked at for a mapped column before it is said that there is none.
_HEAD = 1000

# Which column of the data holds what a loader calls by the key; ``None`` says that no column does.
ColumnMap: TypeAlias = Mapping[str, str | None]
# A hub id, a local file or folder, or rows in memory.
Rows: TypeAlias = str | os.PathLike[str] | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class DataSource:
    """A data set, and which of its rows are read.

    Args:
        source: a hub id; a local file or folder of JSON lines, JSON, CSV or parquet; or rows in memory, dicts or a
            ``datasets.Dataset``.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; of the hub only the files that hold them are fetched. ``None`` for all.
        folder: the folder of the data set that holds the rows.
        subset: the configuration of a hub data set, where it has several.
        revision: the branch, tag or commit of a hub data set.
        columns: maps a name of the loader's to the data's column.

    Raises:
        TypeError: a value of another kind, named.

    Example:
        >>> source = DataSource([{"question": "Why?", "id": 7}], columns={"prompt": "question"})
        >>> list(source.rows())
        [{'id': 7, 'prompt': 'Why?'}]
    """

    source: Rows
    split: str = "train"
    limit: int | None = None
    folder: str | None = None
    subset: str | None = None
    revision: str | None = None
    columns: ColumnMap = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_fields(self)

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """The rows, with the loader's names for the mapped columns.

        Raises:
            FileNotFoundError: no such file, folder or data set.
            ValueError: what ``read_rows`` refuses, options that rows in memory do not have, or a mapped column that
                none of the first rows has.
        """
        return renamed_rows(self._own_rows(), self.columns)

    def _own_rows(self) -> Iterator[Mapping[str, Any]]:
        if isinstance(self.source, str | os.PathLike):
            return read_rows(
                self.source, self.split, self.limit, self.folder, subset=self.subset, revision=self.revision
            )
        if not isinstance(self.source, Iterable):
            raise ValueError(
                f"source is a {type(self.source).__name__}: give a hub id, a file, a folder, or a list of dicts."
            )
        refuse_columns(self.source)
        for name in ("folder", "subset", "revision"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is {getattr(self, name)!r}: rows in memory have none, so leave it out.")
        limit = self.limit
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}: no row would be left, so it must be ≥ 1, or None for all rows.")
        return self._dicts(islice(self.source, None if limit is None else min(limit, sys.maxsize)))

    @staticmethod
    def _dicts(rows: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise ValueError(f"row {number} is a {type(row).__name__}: a row must be a dict of columns.")
            yield row


def renamed_rows(rows: Iterator[Mapping[str, Any]], columns: ColumnMap) -> Iterator[Mapping[str, Any]]:
    """The rows, with the map's names for the columns that it names; a name mapped to ``None`` is not in them.

    Raises:
        ValueError: a column that none of the first rows has.
    """
    if not columns:
        yield from rows
        return
    renames = {name: column for name, column in columns.items() if column is not None}
    gone = set(columns) | set(renames.values())
    # A column of few rows, such as a system text, may not be in the first one.
    head = list(islice(rows, _HEAD))
    for column in renames.values():
        if not any(column in row for row in head):
            present = quoted_list(head[0]) if head else "none"
            raise ValueError(
                f"columns names {column!r}, which none of the first {len(head)} rows has; there are {present}: correct "
                "the name."
            )
    for row in chain(head, rows):
        mapped = {name: row[column] for name, column in renames.items() if column in row}
        yield {name: value for name, value in row.items() if name not in gone} | mapped


def source_of_each(sources: Any, own: DataSource, loader: str) -> dict[str, DataSource]:
    """The data set of each objective, with all its options.

    Args:
        sources: maps an objective to a data set.
        own: holds the options of data sets that have none of their own.
        loader: its name, for the message.

    Raises:
        ValueError: no such map, or options that no data set takes.
    """
    if not isinstance(sources, Mapping) or not sources:
        kind = "empty" if isinstance(sources, Mapping) else f"a {type(sources).__name__}"
        raise ValueError(
            f"sources is {kind}: it maps each objective to its data set, as {loader}({{'helpful': \"helpful.jsonl\"}})."
        )
    data_sets = {
        name: source if isinstance(source, DataSource) else replace(own, source=source)
        for name, source in sources.items()
    }
    if own != DataSource("") and all(isinstance(source, DataSource) for source in sources.values()):
        raise ValueError("every source is a DataSource, which has its own options: give them there.")
    return data_sets


def check_columns_map(columns: ColumnMap, names: Sequence[str]) -> None:
    """Refuse a map that names something which a loader does not read, or one column for two things.

    Args:
        columns: the map.
        names: what the loader reads.

    Raises:
        ValueError: the first such name.
    """
    if not isinstance(columns, Mapping):
        raise ValueError(
            f"columns is a {type(columns).__name__}: it maps names to columns, as {{'prompt': 'question'}}."
        )
    for name, column in columns.items():
        if name not in names:
            raise ValueError(f"columns maps {name!r}, which is not read here: its names may be {', '.join(names)}.")
        if column is not None and not isinstance(column, str):
            raise ValueError(f"columns maps {name!r} to a {type(column).__name__}: give the name of a column.")
    used = [column for column in columns.values() if column is not None]
    double = next((column for column in used if used.count(column) > 1), None)
    if double is not None:
        raise ValueError(f"columns maps two names to {double!r}: one column cannot hold both.")


def own_records(
    path: str | os.PathLike[str],
    text_columns: Sequence[str],
    names: Sequence[str],
    split: str,
    limit: int | None,
    columns: ColumnMap | None,
    revision: str | None,
) -> list[Record]:
    """The rows of files that hold records as they are, with these columns only; no row is dropped.

    Args:
        path: as ``read_rows`` takes it.
        text_columns: the columns of texts.
        names: the label columns.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; ``None`` for all.
        columns: maps these names to the file's columns.
        revision: the branch, tag or commit of a hub data set.

    Raises:
        FileNotFoundError: what ``read_rows`` does not find.
        ValueError: what it refuses, or a row that lacks a column, or holds what would be left out unsaid.
    """
    columns, own_columns = columns or {}, (*text_columns, *names)
    check_columns_map(columns, own_columns)
    label_columns = [columns.get(name) or name for name in names]
    rows = renamed_rows(read_rows(path, split, limit, label_columns=label_columns, revision=revision), columns)
    records = []
    for number, row in enumerate(rows):
        refuse_other_inputs(row, number, names)
        require_columns(row, number, own_columns)
        records.append({name: row[name] for name in own_columns})
    return records
