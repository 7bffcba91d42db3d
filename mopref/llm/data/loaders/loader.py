"""What every loader shares: the registry, rows from the hub or local files, and the check of what comes out.

A loader is a function that returns a list of preference records (see ``mopref.llm.data.records``). It stands in a file
of its own and registers itself with ``@LOADERS.register(name)``; ``LOADERS.make(name, **options)`` calls it. Rows with
an empty prompt or response cannot be trained on; public data has some, and loaders leave them out with a warning.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mopref._paths import checked_path
from mopref._repr import quoted_list, short_repr
from mopref._warning import warn
from mopref.llm.data.records import TEXT_COLUMNS, check_record, is_empty_text, refuse_no_records
from mopref.registry import Registry
from mopref.setting_types import python_value

from .files import FILE_KINDS, file_kind, file_rows
from .shapes import recognise_shape

__all__ = ["LOADERS", "Record", "read_rows", "require_columns", "usable_records"]

Record = dict[str, Any]

# Of a hub id: an owner and a name of 96 characters each at most, and a slash.
_LONGEST_ID = 193

LOADERS: Registry[list[Record]] = Registry("loader", packages=["mopref.llm.data.loaders"])


def read_rows(
    source: str | os.PathLike[str],
    split: str,
    limit: int | None,
    folder: str | None = None,
    label_columns: Sequence[str] = (),
    subset: str | None = None,
    revision: str | None = None,
) -> Iterator[Mapping[str, Any]]:
    """The rows of a hub data set or of local files, every cell as it is written.

    Files of the hub are fetched one after the other, as their rows are asked for.

    Args:
        source: a hub id, or a local file or folder: JSON lines, JSON, CSV or parquet, also with gzip.
        split: the split of the data set; a single file has none.
        limit: only so many rows from the start; ``None`` for all.
        folder: the folder of the data set that holds the rows.
        label_columns: columns of numbers, for CSV files, in which all other cells are text.
        subset: the configuration of a hub data set, where it has several.
        revision: the branch, tag or commit of a hub data set.

    Raises:
        FileNotFoundError: no such file, folder or data set, or a folder without data files.
        ValueError: a limit below 1, a subset or revision of what has none, several subsets of which none is named, a
            file of another kind, a missing folder or split, the root of the file system, no rows at all, or a file
            that cannot be read; row and line are named.
        TypeError: a source that is no path, a split that is no text, or a limit that is no whole number.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"the path or source is a {type(source).__name__}: give a text, a path or a hub id.")
    split = python_value(split, str, "split")
    limit = None if limit is None else python_value(limit, int, "limit")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: no row would be left, so it must be ≥ 1, or None for all rows.")
    path = checked_path(source, "the path or source")
    is_folder = bool(str(source).strip()) and os.path.isdir(path)  # A name may be too long for a file's.
    if revision is not None and (is_folder or os.path.isfile(path)):
        raise ValueError(f"revision is {revision!r}, but {path} is here, and not on the hub: leave it out.")
    if subset is not None and os.path.isfile(path):
        raise ValueError(f"subset is {subset!r}, but {path} is a single file, which has none: leave it out.")
    if is_folder:
        _require_folder(path, folder)
        rows = _data_set_rows(_absolute(path), split, folder, label_columns, subset=subset)
    elif os.path.isfile(path):
        rows = file_rows(path, _kind_of(path, folder), path.name, label_columns)
    else:
        _refuse_missing_file(os.fspath(source))
        rows = _data_set_rows(str(source), split, folder, label_columns, limit is not None, subset, revision)
    return _present_rows(
        islice(rows, None if limit is None else min(limit, sys.maxsize)),
        str(source) if folder is None else f"{source}, folder {folder!r}",
    )


def _kind_of(path: Path, folder: str | None) -> str:
    if folder is not None:
        raise ValueError(f"{path} is a file: give the folder that holds the folder {folder!r}.")
    kind = file_kind(path.name)
    if kind is None:
        raise ValueError(
            f"{path.name} is none of the files that can be read: its name must end in one of {', '.join(FILE_KINDS)}, "
            "also with .gz."
        )
    return kind


def _absolute(path: Path) -> str:
    """The path of a folder from the root; ``datasets`` names a data set by its last part, which "." has not."""
    absolute = Path(os.path.abspath(path))
    if absolute == absolute.parent:
        raise ValueError(f"{path} is the root of the file system: give the folder of the data set itself.")
    return str(absolute)


def _require_folder(path: Path, folder: str | None) -> None:
    if folder is not None and not (path / folder).is_dir():
        names = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise ValueError(f"{path} holds no folder {folder!r}; it has {names}: name one of them.")


def _refuse_missing_file(source: str) -> None:
    """Refuse what can only be a path: a hub id has no such ending, and no more than one slash, within it."""
    is_path = source.startswith(("/", "./", "../", "~", ".\\", "..\\")) or source.count("/") > 1 or "\\" in source
    if not source.strip() or is_path or os.path.isabs(source) or file_kind(source) or len(source) > _LONGEST_ID:
        raise FileNotFoundError(
            f"there is no file or folder {short_repr(source)} (looked for in {os.getcwd()!r}): correct the path."
        )


def _data_set_rows(
    source: str,
    split: str,
    folder: str | None,
    label_columns: Sequence[str],
    streaming: bool = False,
    subset: str | None = None,
    revision: str | None = None,
) -> Iterator[Mapping[str, Any]]:
    """The rows of one split of a folder or hub data set, whose files ``datasets`` finds and, from the hub, fetches.

    Files that can be read here are fetched one by one as they are reached; those that cannot, in one go, or not as
    files at all where ``streaming`` is on.
    """
    from datasets import DownloadManager, load_dataset, load_dataset_builder
    from huggingface_hub.errors import HFValidationError

    try:
        builder = load_dataset_builder(source, name=subset, data_dir=folder, revision=revision)
    except (FileNotFoundError, ConnectionError, HFValidationError) as error:
        raise FileNotFoundError(_not_there(source, folder, error)) from error
    except ValueError as error:
        subsets = re.search(r"onfig.*\[(.*?)\]", str(error), re.DOTALL)
        if subsets is None:
            raise
        raise ValueError(f"subset is {subset!r}, and {source!r} has {subsets[1]}: name one of them.") from None
    files = {str(name): list(names) for name, names in (builder.config.data_files or {}).items()}
    # A data set's own settings may name another separator, or the field of a JSON file that holds the records.
    has_own_form = getattr(builder.config, "sep", ",") != "," or getattr(builder.config, "field", None) is not None
    if has_own_form or not files or not all(file_kind(name) for names in files.values() for name in names):
        return iter(load_dataset(source, subset, data_dir=folder, split=split, revision=revision, streaming=streaming))

    def rows(name: str) -> Iterator[Mapping[str, Any]]:
        return chain.from_iterable(
            file_rows(Path(DownloadManager().download(file)), str(file_kind(file)), file, label_columns)
            for file in files[name]
        )

    return rows(split) if split in files else _part_of_splits(rows, split, list(files))


def _part_of_splits(
    rows: Callable[[str], Iterator[Mapping[str, Any]]], split: str, names: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """The rows of an expression such as ``train[:100]`` or ``train+test``."""
    from datasets import ReadInstruction

    present = {name: list(rows(name)) for name in names if name in split}
    try:
        parts = ReadInstruction.from_spec(split).to_absolute({name: len(part) for name, part in present.items()})
    except (AssertionError, ValueError, KeyError):
        raise ValueError(f"split is {split!r}, and there are {', '.join(names)}: name one of them.") from None
    return iter([row for part in parts for row in present[part.splitname][part.from_ : part.to]])


def _not_there(source: str, folder: str | None, error: Exception) -> str:
    path = Path(source) if folder is None else Path(source, folder)
    if path.is_dir():
        return f"{path} holds no data files: put files in it whose names end in one of {', '.join(FILE_KINDS)}."
    return (
        f"{source!r} is no file or folder here, and the hub gave no data set of that name either ({error}): correct "
        "the path or the name."
    )


def _present_rows(rows: Iterator[Mapping[str, Any]], source: str) -> Iterator[Mapping[str, Any]]:
    """The rows, of which there must be one."""
    first = next(rows, None)
    if first is None:
        raise ValueError(f"there are no records in {source}: nothing can be trained or evaluated on it, so add some.")
    yield first
    yield from rows


def require_columns(row: Mapping[str, Any], number: int, columns: Sequence[str], folder: str | None = None) -> None:
    """Refuse a row in which one of the columns is missing or blank.

    Raises:
        ValueError: it names the folder, if there is one, the row and the column, and the shape that the row has.
    """
    for column in columns:
        if column not in row or row[column] is None:
            place = f"{folder}, row {number}" if folder else f"row {number}"
            likeness = recognise_shape(row)
            is_known = likeness is not None and not likeness.missing and column not in row
            shape = f" These are {likeness.shape.name}, read by {likeness.call}." if likeness and is_known else ""
            raise ValueError(
                f"{place}: column {column!r} is missing or blank; there are {quoted_list(row)}, so rename or "
                f"fill it.{shape}"
            )


def usable_records(records: Iterable[Record], objectives: Sequence[str]) -> list[Record]:
    """The records whose prompt and responses are not empty, checked; a warning counts the others.

    Rows count from the first of ``records``, those that are left out included.

    Raises:
        ValueError: what ``validate_records`` refuses, but for the empty ones.
    """
    usable = []
    total = 0
    for row, record in enumerate(records):
        total += 1
        if any(is_empty_text(record[name]) for name in TEXT_COLUMNS):
            continue
        check_record(record, objectives, row)
        usable.append(record)
    if len(usable) < total:
        warn(
            f"left out {total - len(usable)} of {total} rows: their prompt or a response is empty, or their dialogues "
            "part before the last turn.",
        )
    refuse_no_records(len(usable))
    return usable
