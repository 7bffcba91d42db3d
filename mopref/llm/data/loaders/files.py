"""Rows of one local file, every cell as it is written: a text is never read as a date, a number or a missing value.

JSON (one object a line, or a list of objects), CSV with a header, and parquet; packed with gzip, bzip2 or xz, too. Rows
are dicts and count from 0, lines of a file from 1. In a CSV file, which knows texts only, the cells of label columns
are read as numbers and all others stay text. Files are UTF-8, with or without a byte order mark.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mopref._csv_cells import csv_cells

from .packed_file import MOST_LINE_BYTES, PACKINGS, PackedFile
from .parquet_file import parquet_columns, parquet_rows

__all__ = ["FILE_KINDS", "file_kind", "file_rows"]

FILE_KINDS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_COLUMNS = 10_000
_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def file_kind(name: str) -> str | None:
    """What a file is by the ending of its name; ``None`` if it is none of the files that can be read.

    Example:
        >>> file_kind("answers.jsonl.gz"), file_kind("Answers.CSV"), file_kind("answers.xlsx")
        ('json', 'csv', None)
    """
    endings = [suffix.lower() for suffix in Path(name).suffixes]
    if endings and endings[-1] in PACKINGS:
        endings.pop()
    return FILE_KINDS.get(endings[-1]) if endings else None


def file_rows(path: Path, kind: str, name: str, label_columns: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a file.

    Args:
        path: the file.
        kind: one of the values of ``FILE_KINDS``.
        name: what messages call the file.
        label_columns: columns of numbers, for a CSV file.

    Raises:
        ValueError: what is no file of that kind, or no UTF-8, a column that is there twice, or a row that is no record;
            file, row and line are named.
    """
    if kind == "json":
        return _json_rows(path, name)
    if kind == "csv":
        return _csv_rows(path, name, frozenset(label_columns))
    return _parquet_rows(path, name)


def _read(path: Path, name: str) -> str:
    """The whole text of a file."""
    with PackedFile(path, name) as file:
        content = file.read()
    return _text(content.removeprefix(_BYTE_ORDER_MARK), name, 1)


def _text(content: bytes, name: str, line: int) -> str:
    """Bytes as text; ``line`` is the number of their first line."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line += content.count(b"\n", 0, error.start)
        raise ValueError(
            f"{name}, line {line} is no UTF-8 text (byte 0x{content[error.start]:02x}): save the file as UTF-8."
        ) from None


def _json_rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    if _begins_a_list(path, name):
        yield from _json_list(path, name)
        return
    with PackedFile(path, name) as file:
        for row, (line, text) in enumerate(_lines(file, name)):
            yield _json_record(text, _place(name, row, line))


def _begins_a_list(path: Path, name: str) -> bool:
    """Whether the first of a JSON file that is no blank opens a list, which may be all in one line."""
    with PackedFile(path, name) as file:
        start = file.line().removeprefix(_BYTE_ORDER_MARK)
        while start and not start.strip():
            start = file.line()
    return start.lstrip().startswith(b"[")


def _lines(file: PackedFile, name: str) -> Iterator[tuple[int, str]]:
    """The number and text of each line that is not blank."""
    number = 0
    while content := file.line():
        number += 1
        if len(content) > MOST_LINE_BYTES:
            raise ValueError(
                f"{name}, line {number} has more than {MOST_LINE_BYTES >> 20} MiB, which no record has: write one "
                "object a line."
            )
        if number == 1:
            content = content.removeprefix(_BYTE_ORDER_MARK)
        if content.strip():
            yield number, _text(content.rstrip(), name, number)


def _json_list(path: Path, name: str) -> Iterator[dict[str, Any]]:
    records = _json_value(_read(path, name), name)
    for row, record in enumerate(records):
        yield _checked_record(record, f"{name}, row {row}")


def _json_record(text: str, place: str) -> dict[str, Any]:
    return _checked_record(_json_value(text, place), place)


def _json_value(text: str, place: str) -> Any:
    """A JSON value; the reader's own message says where it stopped and shows no text, so it is passed on."""
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        reason = error.msg[:1].lower() + error.msg[1:]
        raise ValueError(
            f"{place} is no JSON ({reason} at {where}): write one object a line, or a list of objects."
        ) from None
    except _DoubledKeyError as error:
        raise ValueError(f"{place} has the key {error.args[0]!r} twice: leave one out.") from None
    except RecursionError:
        raise ValueError(f"{place} is nested too deeply to be a record: leave it out.") from None
    except ValueError:
        raise ValueError(f"{place} holds a number of too many digits: write it as a text.") from None


class _DoubledKeyError(Exception):
    """A JSON object has a key twice, and only one of its values could be kept."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        raise _DoubledKeyError(next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return record


def _checked_record(record: Any, place: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        kind = "null" if record is None else f"a {type(record).__name__}"
        raise ValueError(f"{place} is {kind}: a record must be a JSON object of columns.")
    if len(record) > _MOST_COLUMNS:
        raise ValueError(f"{place} has {len(record):,} columns, which no record has: leave out what is not needed.")
    return record


def _csv_rows(path: Path, name: str, label_columns: frozenset[str]) -> Iterator[dict[str, Any]]:
    lines = _csv_lines(_read(path, name), name)
    _, header = next(lines, (0, []))
    _refuse_doubles(header, name)
    for row, (line, cells) in enumerate(lines):
        if len(cells) != len(header):
            raise ValueError(
                f"{_place(name, row, line)} has {len(cells)} cells, but the header has {len(header)} columns: put "
                "cells with commas, quotes or line breaks between double quotes."
            )
        yield {
            column: _number(cell) if column in label_columns else cell
            for column, cell in zip(header, cells, strict=True)
        }


def _csv_lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from csv_cells(text)
    except ValueError as error:
        raise ValueError(f"{name}, {error}") from None


def _number(cell: str) -> Any:
    """A label as a number, ``None`` where the cell is blank; what is no number stays text, to be refused as a label.

    Example:
        >>> _number("-1"), _number(" "), _number("0.5"), _number("yes")
        (-1, None, 0.5, 'yes')
    """
    if not cell.strip():
        return None
    if _WHOLE_NUMBER.fullmatch(cell):
        return int(cell)
    with suppress(ValueError):
        return float(cell)
    return cell


def _parquet_rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    _refuse_doubles(parquet_columns(path, name), name)
    yield from parquet_rows(path, name)


def _refuse_doubles(columns: Sequence[str], name: str) -> None:
    if len(columns) > _MOST_COLUMNS:
        raise ValueError(f"{name} has {len(columns):,} columns, which no record has: leave out what is not needed.")
    double = next((column for column in columns if columns.count(column) > 1), None)
    if double is not None:
        raise ValueError(f"{name} has the column {double!r} twice: leave one out.")


def _place(name: str, row: int, line: int) -> str:
    return f"{name}, row {row} (line {line})"
