"""The two kinds of record: preference pairs, and responses with the dimensions whose data they are.

A *preference record* is a mapping with the columns ``prompt``, ``response_0``, ``response_1`` and one integer column
for each objective: 0 or 1 is the index of the preferred response, −1 says not labelled or tied. Every loader in
``mopref.llm.data.loaders`` maps its data to this form. A *response record*, for supervised fine-tuning, has the columns
``prompt``, ``response`` and ``dimension``: a name or a list of names.

A prompt or response is text or chat messages, a list of ``{"role": …, "content": …}``; a response's messages are the
assistant's. Records come as a list of dicts or as a ``datasets.Dataset``. Rows count from 0, and no message shows a
text of the data, which may be harmful or private.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Number
from typing import Any

__all__ = [
    "TEXT_COLUMNS",
    "LabelCounts",
    "check_dimensions",
    "check_objectives",
    "label_counts",
    "prompt_key",
    "record_dimensions",
    "refuse_columns",
    "split_by_prompt",
    "text_problem",
    "validate_records",
    "validate_response_records",
]

TEXT_COLUMNS = ("prompt", "response_0", "response_1")
_RESPONSE_COLUMNS = ("prompt", "response", "dimension")


@dataclass(frozen=True)
class LabelCounts:
    """How many preference records are labelled, and how.

    Args:
        records: how many there are.
        prompts: how many distinct prompts they have.
        labelled: maps an objective to the number of records labelled on it.
        labelled_on_all: records labelled on every objective.
        in_conflict: records on which two objectives prefer different responses.
    """

    records: int
    prompts: int
    labelled: dict[str, int]
    labelled_on_all: int
    in_conflict: int


def validate_records(records: Iterable[Mapping[str, Any]], objectives: Sequence[str]) -> None:
    """Check that every preference record has the columns and values it must have.

    Raises:
        ValueError: no records at all, a missing column, an empty prompt or response (nothing but white space counts as
            empty), malformed chat messages, or a label other than the integers 0, 1 and −1; row and column are named.
    """
    names = check_objectives(objectives)

    def check_labels(record: Mapping[str, Any], row: int) -> None:
        for name in names:
            _check_label(record[name], row, name)

    _check_rows(records, TEXT_COLUMNS, names, check_labels)


def validate_response_records(records: Iterable[Mapping[str, Any]], dimensions: Sequence[str]) -> None:
    """Check that every response record has the columns and values it must have.

    Raises:
        ValueError: no records at all, a missing column, an empty prompt or response, malformed chat messages, or a
            dimension that is none of ``dimensions``; row and column are named.
    """
    names = check_dimensions(dimensions)
    *text_columns, label_column = _RESPONSE_COLUMNS
    _check_rows(records, text_columns, (label_column,), lambda record, row: _check_dimension(record, names, row))


def split_by_prompt(records: Any, test_fraction: float = 0.2, seed: int = 0) -> tuple[Any, Any]:
    """The records of a training and of a test side, with every prompt on one side only.

    Which prompts are on which side depends on the prompts and on ``seed``, not on the order of the rows; rows keep
    their order. Prompts that differ in white space only count as one.

    Args:
        records: records of either kind.
        test_fraction: the share of distinct prompts on the test side, rounded to a whole number of prompts.
        seed: deals the prompts to the sides.

    Returns:
        Two lists, or two datasets where ``records`` is a ``datasets.Dataset``: training and test.

    Raises:
        ValueError: a fraction that is not between 0 and 1, or one that leaves a side without a prompt.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction is {test_fraction}: it is a share, so it must be above 0 and below 1.")
    refuse_columns(records)
    keys = [prompt_key(record["prompt"]) for record in records]
    prompts = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    count = round(test_fraction * len(prompts))
    if not 0 < count < len(prompts):
        raise ValueError(
            f"test_fraction {test_fraction} of {len(prompts)} distinct prompts is {count} for the test side, so one "
            "side would be empty: use more prompts or another fraction."
        )
    test_prompts = set(prompts[:count])
    train = [row for row, key in enumerate(keys) if key not in test_prompts]
    test = [row for row, key in enumerate(keys) if key in test_prompts]
    if hasattr(records, "select"):
        return records.select(train), records.select(test)
    rows = list(records)
    return [rows[row] for row in train], [rows[row] for row in test]


def label_counts(records: Iterable[Mapping[str, Any]], objectives: Sequence[str]) -> LabelCounts:
    """The labels of valid preference records, counted."""
    names = check_objectives(objectives)
    total = on_all = conflict = 0
    labelled = dict.fromkeys(names, 0)
    prompts = set()
    for record in records:
        labels = [int(record[name]) for name in names]
        preferred = [label for label in labels if label >= 0]
        total += 1
        prompts.add(prompt_key(record["prompt"]))
        on_all += len(preferred) == len(labels)
        conflict += len(set(preferred)) > 1
        for name, label in zip(names, labels, strict=True):
            labelled[name] += label >= 0
    return LabelCounts(total, len(prompts), labelled, on_all, conflict)


def check_objectives(objectives: Sequence[str]) -> tuple[str, ...]:
    """The objectives' names, which are columns of a preference record, as a tuple.

    Raises:
        ValueError: no names, names that are not distinct texts, or the name of a text column.
    """
    names = _distinct_names(objectives)
    if not names or set(names) & set(TEXT_COLUMNS):
        raise ValueError(
            f"objectives is {objectives!r}: it names the label columns, so it must be a sequence of distinct names, "
            f"none of them one of {', '.join(TEXT_COLUMNS)}, for example ('helpful', 'harmless')."
        )
    return names


def check_dimensions(dimensions: Sequence[str]) -> tuple[str, ...]:
    """The dimensions' names, which are values in a response record, as a tuple.

    Raises:
        ValueError: no names, or names that are not distinct texts.
    """
    names = _distinct_names(dimensions)
    if not names:
        raise ValueError(
            f"dimensions is {dimensions!r}: it must be a sequence of distinct names, for example ('brief', 'polite')."
        )
    return names


def record_dimensions(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the dimensions whose data a valid response record is."""
    value = record["dimension"]
    return (value,) if isinstance(value, str) else tuple(value)


def prompt_key(prompt: Any) -> str:
    """A text that is equal for two prompts exactly if they say the same, apart from white space."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return json.dumps([[message["role"], " ".join(message["content"].split())] for message in messages])


def text_problem(value: Any, assistant_only: bool) -> str | None:
    """What is wrong with a prompt or response, to follow its name in a message; ``None`` if nothing is.

    Args:
        value: what should be text or chat messages.
        assistant_only: whether all messages must be the assistant's.
    """
    if isinstance(value, str):
        return None if value.strip() else "is empty: there is nothing but white space, so leave the row out."
    if not isinstance(value, Sequence):
        return f"is a {type(value).__name__}: it must be text or a list of chat messages."
    for position, message in enumerate(value):
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(part), str) for part in ("role", "content")
        ):
            return f"is malformed: message {position} must be a dict with the texts 'role' and 'content'."
        if assistant_only and message["role"] != "assistant":
            return (
                f"is malformed: message {position} has the role {message['role']!r}, but a response holds the "
                "assistant's messages only."
            )
    if not any(message["content"].strip() for message in value):
        return "is empty: no message has content, so leave the row out."
    return None


def refuse_columns(records: Any) -> None:
    """Refuse a table of columns or of splits: iterating over it would yield their names instead of rows.

    Raises:
        ValueError: ``records`` is a mapping or a DataFrame.
    """
    if isinstance(records, Mapping) or type(records).__name__ == "DataFrame":
        raise ValueError(
            f"records is a {type(records).__name__}: it must be a list of dicts, one a row, or a datasets.Dataset, so "
            "take frame.to_dict('records') of a DataFrame and one split of a DatasetDict."
        )


def _check_rows(
    records: Iterable[Mapping[str, Any]],
    text_columns: Sequence[str],
    label_columns: Sequence[str],
    check_labels: Callable[[Mapping[str, Any], int], None],
) -> None:
    """Check columns and texts of every record, and then its labels."""
    refuse_columns(records)
    row = -1
    for row, record in enumerate(records):
        _check_columns(record, (*text_columns, *label_columns), row)
        for column in text_columns:
            problem = text_problem(record[column], assistant_only=column != "prompt")
            if problem:
                raise ValueError(f"row {row}, column {column!r} {problem}")
        check_labels(record, row)
    if row < 0:
        raise ValueError("there are no records: nothing can be trained or evaluated on an empty data set, so add some.")


def _check_columns(record: Any, columns: Sequence[str], row: int) -> None:
    if not isinstance(record, Mapping):
        raise ValueError(f"row {row} is a {type(record).__name__}: a record must be a dict of columns.")
    for column in columns:
        if column not in record:
            raise ValueError(
                f"row {row}: column {column!r} is missing (there are: {', '.join(map(repr, record))}); a record needs "
                f"the columns {', '.join(columns)}."
            )


def _check_label(value: Any, row: int, column: str) -> None:
    if isinstance(value, Integral) and not isinstance(value, bool) and value in (0, 1, -1):
        return
    kind = type(value).__name__
    label_text = f"{value!r} ({kind})" if value is None or isinstance(value, Number) else f"a {kind}"
    remedy = "leave no cell blank, −1 stands for not labelled" if value is None or value != value else "convert it"
    raise ValueError(
        f"row {row}, column {column!r}: the label is {label_text}, which is neither 0 nor 1 (index of the preferred "
        f"response) nor −1 (not labelled or tied): {remedy}."
    )


def _check_dimension(record: Mapping[str, Any], names: tuple[str, ...], row: int) -> None:
    value, place = record["dimension"], f"row {row}, column 'dimension'"
    choices = ", ".join(map(repr, names))
    if not isinstance(value, Sequence):
        raise ValueError(f"{place} is a {type(value).__name__}: it must be one of {choices} or a list of them.")
    if not record_dimensions(record):
        raise ValueError(f"{place} is empty: name at least one of {choices} or leave the row out.")
    for name in record_dimensions(record):
        if name not in names:
            raise ValueError(f"{place}: {name!r} is none of {choices}; add it to the dimensions or leave it out.")


def _distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple, an empty one if they are no distinct texts."""
    distinct = () if isinstance(names, str) else tuple(names)
    texts = all(isinstance(name, str) and name.strip() for name in distinct)
    return distinct if texts and len(set(distinct)) == len(distinct) else ()
