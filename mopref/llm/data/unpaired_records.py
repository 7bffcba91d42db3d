"""Unpaired records: an answer, and for each objective whether it is good.

An *unpaired record* is a mapping with the columns ``prompt``, ``response`` and one integer column for each objective: 1
says good, 0 bad, −1 not labelled. Prompt and response are text or chat messages, as in a preference record
(``mopref.llm.data.records``); rows count from 0, and no message shows a text of the data.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .records import check_label, check_objectives, check_texts, refuse_columns, refuse_no_records

__all__ = ["UNPAIRED_COLUMNS", "check_unpaired_objectives", "validate_unpaired_records"]

UNPAIRED_COLUMNS = ("prompt", "response")
# What a label says, to follow "neither".
_MEANING = "1 (good) nor 0 (bad) nor −1 (not labelled)"


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
        check_texts(record, UNPAIRED_COLUMNS, names, row)
        for name in names:
            check_label(record[name], row, name, _MEANING)
    refuse_no_records(row + 1)


def check_unpaired_objectives(objectives: Sequence[str]) -> tuple[str, ...]:
    """The objectives' names, which are columns of an unpaired record, as a tuple.

    Raises:
        ValueError: no names, names that are not distinct texts, or the name of a text column.
    """
    return check_objectives(objectives, UNPAIRED_COLUMNS)
