"""The two kinds of record: preference pairs, and responses with the dimensions whose data they are.

A *preference record* is a mapping with the columns ``prompt``, ``response_0``, ``response_1`` and one integer column
for each objective: 0 or 1 is the index of the preferred response, −1 says not labelled or tied. Every loader in
``mopref.llm.data.loaders`` maps its data to this form. A *response record*, for supervised fine-tuning, has the columns
``prompt``, ``response`` and ``dimension``: a name or a list of names.

A prompt or response is text or chat messages, a list of ``{"role": …, "content": …}``. A response's messages are the
assistant's; a prompt's last message is not, since a response would be a second turn of the assistant's after it.
Contents are text: what else a record or a message could hold, such as tools or images, is refused, since it would be
left out unsaid. Records come as a list of dicts or as a ``datasets.Dataset``. Rows count from 0, and no message shows a
text of the data, which may be harmful or private.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Number
from typing import Any

from mopref._repr import quoted_list, short_repr
from mopref._tables import rows_to_check
from mopref.data_rows import check_columns, checked_rows
from mopref.setting_types import python_value

__all__ = [
    "TEXT_COLUMNS",
    "LabelCounts",
    "check_dimensions",
    "check_label",
    "check_objectives",
    "check_record",
    "check_texts",
    "holds_something",
    "is_empty_text",
    "label_counts",
    "other_input",
    "prompt_key",
    "record_dimensions",
    "refuse_columns",
    "refuse_no_records",
    "refuse_other_inputs",
    "split_by_prompt",
    "surrogate_problem",
    "text_problem",
    "validate_records",
    "validate_response_records",
]

TEXT_COLUMNS = ("prompt", "response_0", "response_1")
_RESPONSE_COLUMNS = ("prompt", "response", "dimension")
# What other trainers render beside the messages, and nothing here does.
_OTHER_INPUTS = ("tools", "documents", "chat_template_kwargs", "image", "images", "video", "videos", "audio")
# What the assistant's messages may hold beside their content, and a response, which is their contents, cannot.
_OTHER_PARTS = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "image", "images", "audio")

# What a label says, to follow "neither".
_MEANING = "0 nor 1 (index of the preferred response) nor −1 (not labelled or tied)"

# A dialogue laid out as text, as prompts without a chat template are.
_PLAIN_DIALOGUE = re.compile(
    r"\s*(?:System:(?P<system>.*?)\n\s*)?Human:(?P<user>.*?)\n\s*Assistant:", re.DOTALL | re.IGNORECASE
)


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
            empty), malformed chat messages, a prompt that ends with the assistant's message, a text with half a
            surrogate pair, tools or images, or a label other than the integers 0, 1 and −1; row and column are named.
    """
    names = check_objectives(objectives)
    refuse_columns(records)
    row = -1
    for row, record in enumerate(records):
        check_record(record, names, row)
    refuse_no_records(row + 1)


def check_record(record: Mapping[str, Any], objectives: Sequence[str], row: int) -> None:
    """Check one preference record.

    Raises:
        ValueError: as ``validate_records`` does, naming ``row``.
    """
    check_texts(record, TEXT_COLUMNS, objectives, row)
    for name in objectives:
        check_label(record[name], row, name)


def validate_response_records(records: Iterable[Mapping[str, Any]], dimensions: Sequence[str]) -> None:
    """Check that every response record has the columns and values it must have.

    Raises:
        ValueError: what ``validate_records`` refuses in texts and messages, or a dimension that is none of
            ``dimensions``; row and column are named.
    """
    names = check_dimensions(dimensions)
    *text_columns, label_column = _RESPONSE_COLUMNS
    refuse_columns(records)
    row = -1
    for row, record in enumerate(records):
        check_texts(record, text_columns, (label_column,), row)
        _check_dimension(record, names, row)
    refuse_no_records(row + 1)


def split_by_prompt(records: Any, test_fraction: float = 0.2, seed: int = 0) -> tuple[Any, Any]:
    """The records of a training and of a test side, with every dialogue on one side only.

    Prompts that begin alike, up to the first answer within them, are one dialogue: a prompt and its own continuations
    are on one side, or the test side would judge what the training side shows as said. Which dialogues are on which
    side depends on their beginnings and on ``seed``, not on the order of the rows; rows keep their order. Prompts that
    differ in white space only count as one.

    Args:
        records: records of either kind.
        test_fraction: the share of distinct dialogues on the test side, rounded to a whole number of dialogues.
        seed: deals the dialogues to the sides.

    Returns:
        Two lists, or two datasets where ``records`` is a ``datasets.Dataset``: training and test.

    Raises:
        ValueError: a fraction that is not between 0 and 1, or one that leaves a side without a dialogue.
        TypeError: a fraction that is no number, a seed that is no whole number, or records that cannot be counted, or
            had by their number.
    """
    seed = python_value(seed, int, "seed")
    test_fraction = python_value(test_fraction, float, "test_fraction")
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction is {test_fraction}: it is a share, so it must be above 0 and below 1.")
    refuse_columns(records)
    check_columns(checked_rows(records, "records"), ("prompt",), "give records, each with a prompt")
    for row, record in rows_to_check(records, ("prompt",)):
        _refuse_no_dialogue(record["prompt"], row)
    # Digests, since the dialogues may be more than memory holds.
    keys = [
        hashlib.sha256(f"{seed} {prompt_key(_beginning(record['prompt']))}".encode()).digest()
        for _, record in rows_to_check(records, ("prompt",))
    ]
    dialogues = sorted(set(keys))
    count = round(test_fraction * len(dialogues))
    if not 0 < count < len(dialogues):
        raise ValueError(
            f"test_fraction {test_fraction} of {len(dialogues)} dialogues with distinct beginnings is {count} for the "
            "test side, so one side would be empty: use more prompts or another fraction."
        )
    test_dialogues = set(dialogues[:count])
    train = [row for row, key in enumerate(keys) if key not in test_dialogues]
    test = [row for row, key in enumerate(keys) if key in test_dialogues]
    if hasattr(records, "select"):
        return records.select(train), records.select(test)
    rows = list(records)
    return [rows[row] for row in train], [rows[row] for row in test]


def label_counts(records: Iterable[Mapping[str, Any]], objectives: Sequence[str]) -> LabelCounts:
    """The labels of valid preference records, counted.

    Raises:
        ValueError: a record without a prompt or a label, as rows of token ids are.
    """
    names = check_objectives(objectives)
    refuse_columns(records)
    total = on_all = conflict = 0
    labelled = dict.fromkeys(names, 0)
    prompts = set()
    for row, record in enumerate(records):
        _check_columns(record, ("prompt", *names), row)
        labels = [int(record[name]) for name in names]
        preferred = [label for label in labels if label >= 0]
        total += 1
        prompts.add(prompt_key(record["prompt"]))
        on_all += len(preferred) == len(labels)
        conflict += len(set(preferred)) > 1
        for name, label in zip(names, labels, strict=True):
            labelled[name] += label >= 0
    return LabelCounts(total, len(prompts), labelled, on_all, conflict)


def check_objectives(objectives: Sequence[str], text_columns: Sequence[str] = TEXT_COLUMNS) -> tuple[str, ...]:
    """The objectives' names, which are columns of a record beside those of its texts, as a tuple.

    Raises:
        ValueError: no names, names that are not distinct texts, or the name of a text column.
    """
    names = _distinct_names(objectives)
    if not names or set(names) & set(text_columns):
        raise ValueError(
            f"objectives is {short_repr(objectives)}: it names the label columns, so it must be a sequence of distinct "
            f"names, none of them one of {', '.join(text_columns)}, for example ('helpful', 'harmless')."
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


def _refuse_no_dialogue(prompt: Any, row: int) -> None:
    """Refuse a prompt that cannot be told from another; an empty one is left to the checks of records."""
    if isinstance(prompt, str):
        return
    problem: str | None = f"is a {type(prompt).__name__}: it must be text or a list of chat messages."
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray):
        problem = next(filter(None, map(_message_problem, prompt)), None)
    if problem:
        raise ValueError(f"row {row}, column 'prompt' is malformed: {problem}")


def _beginning(prompt: Any) -> Any:
    """A prompt up to the first answer to a user in it, which a continuation of the dialogue has, too."""
    if isinstance(prompt, str):
        turns = _PLAIN_DIALOGUE.match(prompt)
        texts = {} if turns is None else turns.groupdict()
        return [{"role": role, "content": text} for role, text in texts.items() if text is not None] or prompt
    for place, message in enumerate(prompt):
        # What the assistant says first, to greet, is part of the beginning.
        if _is_assistant(message) and any(map(_is_user, prompt[:place])):
            return prompt[:place]
    return prompt


def is_empty_text(value: Any) -> bool:
    """Whether a prompt or response is a text, or a list of messages, in which nothing but white space is said.

    Example:
        >>> is_empty_text(" "), is_empty_text([]), is_empty_text("Yes."), is_empty_text(3)
        (True, True, False, False)
    """
    if isinstance(value, str):
        return not value.strip()
    if not isinstance(value, Sequence):
        return False
    return not any(_message_problem(message) or message["content"].strip() for message in value)


def text_problem(value: Any, assistant_only: bool) -> str | None:
    """What is wrong with a prompt or response, to follow its name in a message; ``None`` if nothing is.

    Args:
        value: what should be text or chat messages.
        assistant_only: whether all messages must be the assistant's, as in a response; the last message of a prompt
            must not be.
    """
    if isinstance(value, str):
        if not value.strip():
            return "is empty: there is nothing but white space, so leave the row out."
        return surrogate_problem(value)
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        return f"is a {type(value).__name__}: it must be text or a list of chat messages."
    for position, message in enumerate(value):
        problem = _message_problem(message) or (_response_problem(message) if assistant_only else None)
        if problem:
            return f"is malformed: message {position} {problem}"
    if is_empty_text(value):
        return "is empty: no message has content, so leave the row out."
    if not assistant_only and _is_assistant(value[-1]):
        return (
            "ends with a message of the assistant's, after which a response would be a second turn of its own: end the "
            "prompt with the user's message, and put the beginning of the answer into the responses."
        )
    return None


def surrogate_problem(text: str) -> str | None:
    r"""What is wrong with a text that holds half a surrogate pair, which no tokenizer takes; ``None`` if nothing is.

    Example:
        >>> surrogate_problem("Fine \ud83d!")
        'holds half a surrogate pair (U+D83D) at character 5: half of an emoji was cut off, so repair the text.'
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        sign = ord(text[error.start])
        # As which Python reads a byte of a command line that is no UTF-8.
        cause = "half of an emoji was cut off" + (", or a byte is not UTF-8" if 0xDC80 <= sign <= 0xDCFF else "")
        return f"holds half a surrogate pair (U+{sign:04X}) at character {error.start}: {cause}, so repair the text."
    return None


def refuse_columns(records: Any, name: str = "records") -> None:
    """Refuse a table of columns or of splits: iterating over it would yield their names instead of rows.

    Raises:
        ValueError: ``records`` is a mapping or a DataFrame, or nothing that has rows.
    """
    if getattr(records, "ndim", 1) == 0 or not (isinstance(records, Iterable) or hasattr(records, "__getitem__")):
        raise ValueError(f"{name} is a {type(records).__name__}: give a list.")
    if isinstance(records, Mapping) or type(records).__name__ == "DataFrame":
        rows, remedy = ("dicts", "frame.to_dict('records')") if name == "records" else (name, "a column as a list")
        raise ValueError(
            f"{name} is a {type(records).__name__}: it must be a list of {rows}, one a row, or a datasets.Dataset, so "
            f"take {remedy} of a DataFrame and one split of a DatasetDict."
        )


def refuse_no_records(count: int) -> None:
    """Refuse an empty data set.

    Raises:
        ValueError: ``count`` is 0.
    """
    if count == 0:
        raise ValueError("there are no records: nothing can be trained or evaluated on an empty data set, so add some.")


def refuse_other_inputs(record: Mapping[str, Any], row: int, label_columns: Sequence[str]) -> None:
    """Refuse a record with columns that other trainers render beside the messages: they would be left out unsaid.

    Raises:
        ValueError: a column of tools, documents, images or the like that holds something; row and column are named.
    """
    column = other_input(record, label_columns)
    if column is not None:
        raise ValueError(
            f"row {row}, column {column!r} holds something that is not rendered, since prompts and responses are text: "
            "write it into the messages, or leave the column out."
        )


def other_input(record: Mapping[str, Any], label_columns: Sequence[str] = ()) -> str | None:
    """The first column of tools, documents, images or the like that holds something; ``None`` if there is none.

    Example:
        >>> other_input({"prompt": "What is this?", "tools": [], "images": ["cat.png"]})
        'images'
    """
    present = (name for name in _OTHER_INPUTS if name not in label_columns and holds_something(record.get(name)))
    return next(present, None)


def check_texts(record: Mapping[str, Any], text_columns: Sequence[str], label_columns: Sequence[str], row: int) -> None:
    """Check that a record has the columns, and texts where they belong."""
    _check_columns(record, (*text_columns, *label_columns), row)
    refuse_other_inputs(record, row, label_columns)
    for column in text_columns:
        problem = text_problem(record[column], assistant_only=column != "prompt")
        if problem:
            raise ValueError(f"row {row}, column {column!r} {problem}")


def _message_problem(message: Any) -> str | None:
    """What is wrong with a chat message, to follow its name."""
    if not isinstance(message, Mapping):
        return "must be a dict with the texts 'role' and 'content'."
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        kinds = sorted({str(part.get("type")) for part in content if isinstance(part, Mapping)})
        return f"has content in parts ({', '.join(kinds)}): only text is taken, so give it as one text 'content'."
    if not isinstance(content, str) or not isinstance(message.get("role"), str):
        return "must be a dict with the texts 'role' and 'content'."
    return surrogate_problem(content) or surrogate_problem(message["role"])


def _response_problem(message: Mapping[str, Any]) -> str | None:
    """What is wrong with a well-formed message of a response, to follow its name."""
    if message["role"] != "assistant":
        return f"has the role {message['role']!r}, but a response holds the assistant's messages only."
    part = next((name for name in _OTHER_PARTS if holds_something(message.get(name))), None)
    if part is not None:
        return f"holds {part!r}, but a response is its messages' contents: write it there, or leave it out."
    return None


def holds_something(value: Any) -> bool:
    """Whether a cell is neither blank nor an empty text or list."""
    return value is not None and not (hasattr(value, "__len__") and len(value) == 0)


def _is_assistant(message: Mapping[str, Any]) -> bool:
    return str(message["role"]).strip().lower() in ("assistant", "model")


def _is_user(message: Mapping[str, Any]) -> bool:
    return str(message["role"]).strip().lower() in ("user", "human")


def _check_columns(record: Any, columns: Sequence[str], row: int) -> None:
    if not isinstance(record, Mapping):
        raise ValueError(f"row {row} is a {type(record).__name__}: a record must be a dict of columns.")
    for column in columns:
        if column not in record:
            raise ValueError(
                f"row {row}: column {column!r} is missing (there are: {quoted_list(record)}); a record needs "
                f"the columns {', '.join(columns)}."
            )


def check_label(value: Any, row: int, column: str, meaning: str = _MEANING) -> None:
    """Refuse a label that is none of the whole numbers 0, 1 and −1.

    Args:
        value: the label.
        row: the record's number.
        column: the objective.
        meaning: what the three say, for the message.

    Raises:
        ValueError: another value; row and column are named.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and value in (0, 1, -1):
        return
    kind, is_nan = type(value).__name__, isinstance(value, Number) and value != value
    label_text = f"{short_repr(value)} ({kind})" if value is None or isinstance(value, Number) else f"a {kind}"
    remedy = "leave no cell blank, −1 stands for not labelled" if value is None or is_nan else "convert it"
    raise ValueError(f"row {row}, column {column!r}: the label is {label_text}, which is neither {meaning}: {remedy}.")


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
    distinct = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else ()
    texts = all(isinstance(name, str) and name.strip() for name in distinct)
    return distinct if texts and len(set(distinct)) == len(distinct) else ()
