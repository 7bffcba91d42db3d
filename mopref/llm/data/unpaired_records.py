"""Unpaired records: an answer, and for each objective whether it is good.

An *unpaired record* is a mapping with the columns ``prompt``, ``response`` and one integer column for each objective: 1
says good, 0 bad, −1 not labelled. Prompt and response are text or chat messages, as in a preference record
(``mopref.llm.data.records``); rows count from 0, and no message shows a text of the data.
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Number
from typing import Any

from .records import refuse_columns, refuse_no_records, refuse_other_inputs, text_problem

__all__ = ["UNPAIRED_COLUMNS", "check_unpaired_objectives", "validate_unpaired_records"]

UNPAIRED_COLUMNS = ("prompt", "response")


def validate_unpaired_records(records: Iterable[Mapping[str, Any]], objectives: Sequence[str]) -> None:
    """Check that every unpaired record has the columns and values it must have.

    Raises:
        ValueError: no records at all, a missing column, a text that ``validate_records`` refuses, tools or images, or a
            label other than the integers 1, 0 and −1; row and column are named.

    Example:
        >>> validate_unpaired_records([{"prompt": "Why?", "response": "So.", "brief": 1}], ("brief",))
    """
    names = check_unpaired_objectives(objectives)
    refuse_columns(records)
    row = -1
    for row, record in enumerate(records):
        _check_record(record, names, row)
    refuse_no_records(row + 1)


def check_unpaired_objectives(objectives: Sequence[str]) -> tuple[str, ...]:
    """The objectives' names, which are columns of an unpaired record, as a tuple.

    Raises:
        ValueError: no names, names that are not distinct texts, or the name of a text column.
    """
    names = () if isinstance(objectives, str) else tuple(objectives)
    is_usable = all(isinstance(name, str) and name.strip() for name in names) and len(set(names)) == len(names)
    if not names or not is_usable or set(names) & set(UNPAIRED_COLUMNS):
        raise ValueError(
            f"objectives is {objectives!r}: it names the label columns, so it must be a sequence of distinct names, "
            f"none of them one of {', '.join(UNPAIRED_COLUMNS)}, for example ('helpful', 'harmless')."
        )
    return names


def _check_record(record: Any, objectives: Sequence[str], row: int) -> None:
    if not isinstance(record, Mapping):
        raise ValueError(f"row {row} is a {type(record).__name__}: a record must be a dict of columns.")
    for column in (*UNPAIRED_COLUMNS, *objectives):
        if column not in record:
            raise ValueError(
                f"row {row}: column {column!r} is missing (there are: {', '.join(map(repr, record))}); an unpaired "
                f"record needs the columns {', '.join((*UNPAIRED_COLUMNS, *objectives))}."
            )
    refuse_other_inputs(record, row, objectives)
    for column in UNPAIRED_COLUMNS:
        problem = text_problem(record[column], assistant_only=column == "response")
        if problem:
            raise ValueError(f"row {row}, column {column!r} {problem}")
    for column in objectives:
        _check_label(record[column], row, column)


def _check_label(value: Any, row: int, column: str) -> None:
    if isinstance(value, Integral) and not isinstance(value, bool) and value in (1, 0, -1):
        return
    kind = type(value).__name__
    label = f"{value!r} ({kind})" if value is None or isinstance(value, Number) else f"a {kind}"
    remedy = "leave no cell blank, −1 stands for not labelled" if value is None or value != value else "convert it"
    raise ValueError(
        f"row {row}, column {column!r}: the label is {label}, which is neither 1 (good) nor 0 (bad) nor −1 (not "
        f"labelled): {remedy}."
    )
