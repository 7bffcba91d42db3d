"""Prompts without answers, as texts or lists of chat messages."""

from collections.abc import Iterable, Mapping
from typing import Any

from mopref._repr import quoted_list

from .records import refuse_columns, refuse_no_records, text_problem

__all__ = ["check_prompt_records", "prompt_list"]


def prompt_list(prompts: Any) -> list[Any]:
    """Prompts, which are texts or lists of chat messages, as a list.

    Raises:
        ValueError: a single text or dialogue, a table of columns, records, no prompts, or an empty or malformed prompt;
            the row is named.
    """
    if isinstance(prompts, str | bytes):
        raise ValueError(f"prompts is a single text of {len(prompts)} characters: give a list of prompts.")
    refuse_columns(prompts, "prompts")
    if not isinstance(prompts, Iterable):
        raise ValueError(f"prompts is a {type(prompts).__name__}: give a list of texts or of dialogues.")
    rows = list(prompts)
    if not rows:
        raise ValueError("there are no prompts: give at least one.")
    if all(isinstance(row, Mapping) and "role" in row for row in rows):
        raise ValueError(
            f"prompts is a single dialogue of {len(rows)} messages: give a list of dialogues, [messages] for one."
        )
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            raise ValueError(
                f"row {number} is a dict of {quoted_list(row)}: a prompt is text or a list of chat messages, "
                "so take record['prompt'] of each record."
            )
        problem = text_problem(row, assistant_only=False)
        if problem:
            raise ValueError(f"row {number}: the prompt {problem}")
    return rows


def check_prompt_records(records: Iterable[Mapping[str, Any]]) -> None:
    """Check the prompts of records, of which nothing else counts.

    Raises:
        ValueError: an empty or malformed prompt, or no record; the row is named.
    """
    row = -1
    for row, record in enumerate(records):
        problem = text_problem(record["prompt"], assistant_only=False)
        if problem:
            raise ValueError(f"row {row}: the prompt {problem}")
    refuse_no_records(row + 1)
