"""The response record of supervised fine-tuning: one prompt, one response, and the dimensions whose data it is.

A record is a mapping with the columns ``prompt`` and ``response``, text or chat messages as in
`mopref.llm.data.records`, and ``dimension``: a name or a list of names. Records come as a list of dicts or as a
``datasets.Dataset``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mopref.llm.data.records import refuse_columns, text_problem

__all__ = ["check_dimensions", "record_dimensions", "validate_response_records"]

COLUMNS = ("prompt", "response", "dimension")


def validate_response_records(records: Iterable[Mapping[str, Any]], dimensions: Sequence[str]) -> None:
    """Check that every record has the columns and values that this module's docstring names.

    Raises ValueError, naming row and column (rows count from 0), for a missing column, an empty prompt or response,
    malformed chat messages and a dimension that is none of ``dimensions``; and for no records at all. Texts are never
    part of a message: they may be harmful or private.
    """
    names = check_dimensions(dimensions)
    refuse_columns(records)
    count = 0
    for number, record in enumerate(records):
        count += 1
        if not isinstance(record, Mapping):
            raise ValueError(f"row {number} is a {type(record).__name__}, but a record must be a dict of columns")
        for column in COLUMNS:
            if column not in record:
                raise ValueError(
                    f"row {number}: column {column!r} is missing (there are: {', '.join(map(repr, record))}); a record "
                    f"needs {', '.join(COLUMNS)}"
                )
        for column in ("prompt", "response"):
            problem = text_problem(record[column], assistant_only=column == "response")
            if problem:
                raise ValueError(f"row {number}, column {column!r}: {problem}")
        _check_dimension(record["dimension"], names, number)
    if count == 0:
        raise ValueError("there are no records: an empty data set cannot be trained or evaluated on")


def check_dimensions(dimensions: Sequence[str]) -> tuple[str, ...]:
    """Return the dimensions' names as a tuple; ValueError unless distinct and non-empty."""
    names = () if isinstance(dimensions, str) else tuple(dimensions)
    if not names or not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) != len(names):
        raise ValueError(
            f"dimensions is {dimensions!r}, but must be a sequence of distinct names; for example ('brief', 'polite')"
        )
    return names


def record_dimensions(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the dimensions that a valid record is data of."""
    value = record["dimension"]
    return (value,) if isinstance(value, str) else tuple(value)


def _check_dimension(value: Any, names: tuple[str, ...], row: int) -> None:
    known = ", ".join(map(repr, names))
    if not isinstance(value, str) and not isinstance(value, Sequence):
        raise ValueError(
            f"row {row}, column 'dimension': is a {type(value).__name__}, but must be one of {known} or a list of them"
        )
    chosen = (value,) if isinstance(value, str) else tuple(value)
    if not chosen:
        raise ValueError(f"row {row}, column 'dimension': is empty; name at least one of {known} or leave the row out")
    for name in chosen:
        if name not in names:
            raise ValueError(f"row {row}, column 'dimension': {name!r} is none of {known}")
