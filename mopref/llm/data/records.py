"""The preference record: one prompt, two responses, and for every objective which of the two is preferred.

A record is a mapping with the columns ``prompt``, ``response_0``, ``response_1`` and one integer column per objective:
0 or 1 is the index of the preferred response, −1 says not labelled or tied. Prompt and responses are text or chat
messages, lists of ``{"role": …, "content": …}``; a response's messages are the assistant's. Records come as a list of
dicts or as a ``datasets.Dataset``. Every loader in `mopref.llm.data.loaders` maps its data to this form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

__all__ = ["LabelCounts", "label_counts", "split_by_prompt", "validate_records"]

TEXT_COLUMNS = ("prompt", "response_0", "response_1")


@dataclass(frozen=True)
class LabelCounts:
    """How many records are labelled, and how: what `label_counts` returns.

    ``labelled`` maps an objective to the number of records labelled on it; ``labelled_on_all`` counts records labelled
    on every objective; ``in_conflict`` counts records on which two objectives prefer different responses.
    """

    records: int
    prompts: int
    labelled: dict[str, int]
    labelled_on_all: int
    in_conflict: int


def validate_records(records: Iterable[Mapping[str, Any]], objectives: Sequence[str]) -> None:
    """Check that every record has the columns and values that this module's docstring names.

    Raises ValueError, naming row and column (rows count from 0), for a missing column, an empty prompt or response
    (white space only counts as empty), malformed chat messages and labels other than the integers 0, 1 and −1; and for
    no records at all. Texts are never part of a message: they may be harmful or private.
    """
    names = check_objectives(objectives)
    refuse_columns(records)
    count = 0
    for number, record in enumerate(records):
        count += 1
        if not isinstance(record, Mapping):
            raise ValueError(f"row {number} is a {type(record).__name__}, but a record must be a dict of columns")
        for column in (*TEXT_COLUMNS, *names):
            if column not in record:
                raise ValueError(
                    f"row {number}: column {column!r} is missing (there are: {', '.join(map(repr, record))}); a record "
                    f"needs {', '.join(TEXT_COLUMNS)} and an integer column for each of the objectives "
                    f"{', '.join(names)}"
                )
        for column in TEXT_COLUMNS:
            problem = text_problem(record[column], assistant_only=column != "prompt")
            if problem:
                raise ValueError(f"row {number}, column {column!r}: {problem}")
        for column in names:
            _check_label(record[column], number, column)
    if count == 0:
        raise ValueError("there are no records: an empty data set cannot be trained or evaluated on")


def split_by_prompt(records: Any, test_fraction: float = 0.2, seed: int = 0) -> tuple[Any, Any]:
    """Split records into (train, test) so that every prompt is on one side only.

    ``test_fraction`` is the share of distinct prompts that go to the test side, rounded to a whole number of prompts;
    prompts that differ in white space only count as one. Which prompts these are depends on the prompts and on
    ``seed``, not on the order of the rows; rows keep their order. Returns lists, or datasets if ``records`` is a
    ``datasets.Dataset``. Raises ValueError if a side would be empty.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction is {test_fraction}, but must be between 0 and 1, both excluded")
    refuse_columns(records)
    keys = [prompt_key(record["prompt"]) for record in records]
    prompts = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    count = round(test_fraction * len(prompts))
    if not 0 < count < len(prompts):
        raise ValueError(
            f"test_fraction {test_fraction} of {len(prompts)} distinct prompts is {count} for the test side, so one "
            "side would be empty; use more prompts or another fraction"
        )
    chosen = set(prompts[:count])
    train = [index for index, key in enumerate(keys) if key not in chosen]
    test = [index for index, key in enumerate(keys) if key in chosen]
    if hasattr(records, "select"):
        return records.select(train), records.select(test)
    rows = list(records)
    return [rows[index] for index in train], [rows[index] for index in test]


def label_counts(records: Iterable[Mapping[str, Any]], objectives: Sequence[str]) -> LabelCounts:
    """Count the labels of valid records; see `LabelCounts`."""
    names = check_objectives(objectives)
    total = on_all = conflict = 0
    labelled = dict.fromkeys(names, 0)
    prompts = set()
    for record in records:
        labels = [int(record[name]) for name in names]
        given = [label for label in labels if label >= 0]
        total += 1
        prompts.add(prompt_key(record["prompt"]))
        on_all += len(given) == len(labels)
        conflict += len(set(given)) > 1
        for name, label in zip(names, labels, strict=True):
            labelled[name] += label >= 0
    return LabelCounts(total, len(prompts), labelled, on_all, conflict)


def check_objectives(objectives: Sequence[str]) -> tuple[str, ...]:
    """Return the objectives' names as a tuple; ValueError unless distinct, non-empty and no text column's name."""
    names = () if isinstance(objectives, str) else tuple(objectives)
    fine = (
        bool(names) and all(isinstance(name, str) and name.strip() for name in names) and len(set(names)) == len(names)
    )
    if not fine or set(names) & set(TEXT_COLUMNS):
        raise ValueError(
            f"objectives is {objectives!r}, but must be a sequence of distinct names, one for each label column, none "
            f"of them one of {', '.join(TEXT_COLUMNS)}; for example ('helpful', 'harmless')"
        )
    return names


def prompt_key(prompt: Any) -> str:
    """Return a string that is equal for two prompts exactly if they say the same, apart from white space."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return json.dumps([[message["role"], " ".join(message["content"].split())] for message in messages])


def text_problem(value: Any, assistant_only: bool) -> str | None:
    """Say what is wrong with a prompt or response, None if nothing is."""
    if isinstance(value, str):
        return None if value.strip() else "is empty (nothing but white space); leave the row out"
    if not isinstance(value, Sequence):
        return f"is a {type(value).__name__}, but must be text or a list of chat messages"
    for position, message in enumerate(value):
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(part), str) for part in ("role", "content")
        ):
            return f"message {position} is not a dict with the texts 'role' and 'content'"
        if assistant_only and message["role"] != "assistant":
            return (
                f"message {position} has the role {message['role']!r}; a response holds the assistant's messages only"
            )
    if not any(message["content"].strip() for message in value):
        return "is empty (no message with content); leave the row out"
    return None


def _check_label(value: Any, row: int, column: str) -> None:
    if isinstance(value, Integral) and not isinstance(value, bool) and value in (0, 1, -1):
        return
    hint = "leave no cell blank: −1 stands for 'not labelled'" if value is None or value != value else "convert it"
    raise ValueError(
        f"row {row}, column {column!r}: the label is {value!r} ({type(value).__name__}), but must be the integer 0 or "
        f"1 (index of the preferred response) or −1 (not labelled or tied); {hint}"
    )


def refuse_columns(records: Any) -> None:
    # Iterating over these yields column or split names, and the error that follows would say nothing.
    if isinstance(records, Mapping) or type(records).__name__ == "DataFrame":
        raise ValueError(
            f"records is a {type(records).__name__}, but must be a list of dicts (one a row) or a datasets.Dataset; of "
            "a DataFrame take frame.to_dict('records'), of a DatasetDict one split"
        )
