"""The shapes in which preference data is published, by their columns, and which one a row has or resembles most."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any, NamedTuple

from mopref._repr import quoted_list
from mopref.argument_kinds import checks_arguments

from .report import MalformedRow

__all__ = ["SHAPES", "Resemblance", "Shape", "missing_column", "recognise_shape", "shape_advice"]


class Shape(NamedTuple):
    """A shape of rows.

    Args:
        name: what it is called.
        columns: those that it needs, by the names that its loader reads.
        call: how it is read, with ``{options}`` where a column map goes.
        has_values: what its values must be, where the columns do not tell it from another shape.
    """

    name: str
    columns: tuple[str, ...]
    call: str
    has_values: Callable[[Mapping[str, Any]], bool] = lambda row: True


@dataclass(frozen=True)
class Resemblance:
    """What a row is like.

    Args:
        shape: the shape it has, or resembles most.
        columns: maps names of the shape to the row's columns that seem to hold the same under another name.
        missing: columns of the shape for which the row has nothing.
    """

    shape: Shape
    columns: dict[str, str]
    missing: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether the row has the shape as it is."""
        return not self.columns and not self.missing

    @property
    def call(self) -> str:
        """The call that reads such rows, once the columns in ``missing`` are mapped to the right ones."""
        columns = self.columns | {name: "…" for name in self.missing}
        return self.shape.call.replace("{options}", f", columns={columns}" if columns else "")


def _holds_messages(column: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda row: not isinstance(row.get(column), str)


def _has_rating(row: Mapping[str, Any]) -> bool:
    """Whether some cell is a number, in a CSV file as a text."""
    return any(
        _NUMBER.fullmatch(value)
        if isinstance(value, str)
        else isinstance(value, Number) and not isinstance(value, bool)
        for name, value in row.items()
        if name not in ("prompt", "response")
    )


def _has_only_labels(row: Mapping[str, Any]) -> bool:
    """Whether some cells are numbers, and all of these are the labels of an unpaired record."""
    cells = [value for name, value in row.items() if name not in ("prompt", "response")]
    numbers = [str(value).strip() for value in cells if _has_rating({"": value})]
    return bool(numbers) and set(numbers) <= {"0", "1", "-1"}


_NUMBER = re.compile(r"\s*-?\d{1,4}(?:\.\d*)?\s*")
_PAIRS = "load_preference_pairs({'objective': source}{options})"
_RATED = "load_rated_answers(source, attributes=[…]{options})"
_GRADED = "load_graded_pairs(source, {{'objective': '{column}'}}{options})"
_UNPAIRED = "load_unpaired_preferences({'objective': source}{options})"
_ANSWERS = "tokenize_responses (answers alone hold no preference, and train SFT)"
_PROMPTS = "tokenize_prompts (prompts alone hold no preference, and train RLHF)"
# Columns that say nothing of a preference.
_NEUTRAL = {"prompt", "instruction", "context", "messages", "conversations", "response"}

SHAPES = (
    Shape("preference records", ("prompt", "response_0", "response_1"), "load_records(source, objectives=[…])"),
    Shape(
        "PKU-SafeRLHF",
        ("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"),
        "load_pku_saferlhf(source)",
    ),
    Shape("pairs with a prompt", ("prompt", "chosen", "rejected"), _PAIRS),
    Shape("pairs of dialogues that share their beginning", ("chosen", "rejected"), _PAIRS),
    Shape("pairs with alpaca's instruction", ("instruction", "chosen", "rejected"), _PAIRS),
    Shape("pairs with ShareGPT's conversations", ("conversations", "chosen", "rejected"), _PAIRS),
    Shape("pairs with messages", ("messages", "chosen", "rejected"), _PAIRS),
    Shape(
        "lists of rated answers, as UltraFeedback",
        ("instruction", "completions"),
        _RATED,
        _holds_messages("completions"),
    ),
    Shape("lists of rated answers", ("prompt", "completions"), _RATED, _holds_messages("completions")),
    Shape(
        "unpaired records",
        ("prompt", "response"),
        "load_unpaired_records(source, objectives=[…])",
        _has_only_labels,
    ),
    Shape("rated answers, one a row, as HelpSteer2", ("prompt", "response"), _RATED, _has_rating),
    Shape(
        "graded pairs, as HelpSteer3",
        ("context", "response_1", "response_2", "overall_preference"),
        _GRADED.format(column="overall_preference", options="{options}"),
    ),
    Shape(
        "graded pairs, as HelpSteer2's preferences",
        ("prompt", "response_1", "response_2", "preference_strength"),
        _GRADED.format(column="preference_strength", options="{options}"),
    ),
    Shape("BeaverTails", ("prompt", "response", "category", "is_safe"), "load_beavertails(source)"),
    Shape("unpaired preferences", ("prompt", "response", "label"), _UNPAIRED),
    Shape("unpaired preferences with alpaca's instruction", ("instruction", "response", "label"), _UNPAIRED),
    Shape("unpaired preferences in dialogues", ("messages", "label"), _UNPAIRED),
    Shape("answers with a dimension", ("prompt", "response", "dimension"), _ANSWERS),
    Shape("answers to prompts", ("prompt", "response"), _ANSWERS),
    Shape("answers to instructions", ("instruction", "response"), _ANSWERS),
    Shape("dialogues", ("messages",), _ANSWERS),
    Shape("prompts", ("prompt",), _PROMPTS),
)

# Names that loaders take for the same without being told.
_EQUIVALENTS = {
    "response": ("completion", "output"),
    "label": ("kto_tag",),
    "messages": ("conversations",),
    "response_1": ("response1",),
    "response_2": ("response2",),
}
# Names under which other data sets have the same.
_SYNONYMS = {
    "prompt": ("question", "query", "input", "instruction", "context", "post", "problem", "user", "prompt_text"),
    "instruction": ("prompt", "question", "query"),
    "context": ("prompt", "messages", "history"),
    "messages": ("dialogue", "dialog", "conversation", "chat"),
    "conversations": ("conversation", "dialogue", "dialog", "chat"),
    "chosen": (
        "response_j",
        "better",
        "preferred",
        "winner",
        "chosen_response",
        "response_chosen",
        "positive",
        "pos",
        "accepted",
        "win",
    ),
    "rejected": (
        "response_k",
        "worse",
        "dispreferred",
        "loser",
        "rejected_response",
        "response_rejected",
        "negative",
        "neg",
        "lose",
        "reject",
    ),
    "response": ("answer", "reply", "response_text", "text", "generation"),
    "completions": ("responses", "answers", "candidates", "generations", "outputs"),
    "label": ("thumbs", "thumbs_up", "is_good", "good", "feedback"),
    "response_0": ("answer_0", "completion_0", "response_a", "answer_a"),
    "response_1": ("answer_1", "completion_1", "response_b", "answer_b"),
    "response_2": ("answer_2", "completion_2"),
    "overall_preference": ("preference",),
    "preference_strength": ("preference", "strength"),
    "is_safe": ("safe",),
}


@checks_arguments
def recognise_shape(row: Mapping[str, Any]) -> Resemblance | None:
    """The shape that a row of a data set has, or the one that it resembles most; ``None`` if it resembles none.

    The columns decide: of the shapes of which the largest share is there, under its own or another usual name, the one
    that needs most columns, and one with a preference before one without.

    Example:
        >>> recognise_shape({"prompt": "Why?", "chosen": "So.", "rejected": "No."}).shape.name
        'pairs with a prompt'
        >>> recognise_shape({"question": "Why?", "better": "So.", "worse": "No."}).columns
        {'prompt': 'question', 'chosen': 'better', 'rejected': 'worse'}
        >>> recognise_shape({"id": 3}) is None
        True
    """
    resemblances = [_resemblance(shape, row) for shape in SHAPES if shape.has_values(row)]
    some = [resemblance for resemblance in resemblances if len(resemblance.missing) < len(resemblance.shape.columns)]
    # Only what hints at no preference at all is taken for answers or prompts alone.
    return max(filter(_hints_at_preference, some), key=_likeness, default=max(some, key=_likeness, default=None))


def _likeness(resemblance: Resemblance) -> tuple[float, int, int]:
    """What share of a shape is there, then how large it is, or answers would be taken for dialogues with a prompt."""
    count, missing = len(resemblance.shape.columns), len(resemblance.missing)
    return 1 - missing / count, count, count - missing - len(resemblance.columns)


def _hints_at_preference(resemblance: Resemblance) -> bool:
    shape = resemblance.shape
    if shape.call in (_ANSWERS, _PROMPTS):
        return False
    hints = set(shape.columns) - set(resemblance.missing) - _NEUTRAL
    return not resemblance.missing or (bool(hints) and len(resemblance.missing) <= len(shape.columns) / 3)


def _resemblance(shape: Shape, row: Mapping[str, Any]) -> Resemblance:
    columns, missing = {}, []
    names = {str(name).lower(): name for name in row if name not in shape.columns}
    for name in shape.columns:
        if name in row or any(other in row for other in _EQUIVALENTS.get(name, ())):
            continue
        synonym = next((names.pop(other) for other in _SYNONYMS.get(name, ()) if other in names), None)
        if synonym is None:
            missing.append(name)
        else:
            columns[name] = synonym
    return Resemblance(shape, columns, tuple(missing))


def missing_column(column: str, row: Mapping[str, Any]) -> MalformedRow:
    """The error of a row without a column, which says what the row's shape is and how it is read."""
    return MalformedRow(f"column {column!r} missing", f"column {column!r} is missing or blank; {shape_advice(row)}.")


def shape_advice(row: Mapping[str, Any]) -> str:
    """What a row's columns are and how such rows are read, for a message; without a full stop.

    Example:
        >>> print(shape_advice({"id": 3}))
        the columns are 'id', like no shape that is known: map them by columns
    """
    columns = f"the columns are {quoted_list(row) or 'none'}"
    resemblance = recognise_shape(row)
    if resemblance is None:
        return f"{columns}, like no shape that is known: map them by columns"
    missing = ", ".join(map(repr, resemblance.missing))
    gap = f" ({missing} {'is' if len(resemblance.missing) == 1 else 'are'} missing)" if missing else ""
    likeness = "that is" if resemblance.is_exact else "most like"
    return f"{columns}, {likeness} {resemblance.shape.name}{gap}, read by {resemblance.call}"
