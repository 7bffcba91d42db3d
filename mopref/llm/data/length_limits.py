"""How many tokens prompts and responses may have, and their ids within that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from mopref._repr import short_repr
from mopref.setting_types import set_python_values

from .chat_template import PairTokenizer

__all__ = ["LengthLimits", "OnLongPrompt", "prompt_ids_in_row"]

OnLongPrompt = Literal["error", "truncate", "drop"]


class _ResponseIds(NamedTuple):
    """The ids of a response, and whether it was cut."""

    ids: list[int]
    is_cut: bool


@dataclass(frozen=True)
class LengthLimits:
    """How long prompts and responses may be, and what is done about a prompt that is longer.

    Args:
        max_prompt_length: in tokens.
        max_response_length: in tokens, the end-of-turn token counted.
        on_long_prompt: ``"error"``, ``"truncate"`` (its last message loses its beginning) or ``"drop"`` (the row is
            left out).

    Raises:
        ValueError: a length below 1, or any other ``on_long_prompt``.
        TypeError: a length that is no whole number.
    """

    max_prompt_length: int = 512
    max_response_length: int = 512
    on_long_prompt: OnLongPrompt = "error"

    def __post_init__(self) -> None:
        set_python_values(self, int, "max_prompt_length", "max_response_length")
        for name in ("max_prompt_length", "max_response_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: nothing would be left, so it must be ≥ 1 token.")
        if not isinstance(self.on_long_prompt, str) or self.on_long_prompt not in get_args(OnLongPrompt):
            choices = ", ".join(map(repr, get_args(OnLongPrompt)))
            raise ValueError(f"on_long_prompt is {short_repr(self.on_long_prompt)}: it must be one of {choices}.")

    def prompt_ids(self, pairs: PairTokenizer, prompt: Any, row: int) -> list[int] | None:
        """The ids of a row's prompt; ``None`` if it is too long and such rows are dropped.

        Raises:
            ValueError: a prompt that is too long, where that is an error, one without tokens, one that the chat
                template refuses, or one with a token that opens or ends a turn.
        """
        ids = prompt_ids_in_row(pairs, prompt, row)
        if len(ids) > self.max_prompt_length:
            if self.on_long_prompt == "drop":
                return None
            if self.on_long_prompt == "error":
                raise ValueError(
                    f"row {row}: the prompt has {len(ids)} tokens, but max_prompt_length is {self.max_prompt_length}; "
                    "raise the limit, or set on_long_prompt to 'truncate' (its last message loses its beginning) or "
                    "'drop' (the row is left out)."
                )
            ids = pairs.truncate_prompt(ids, self.max_prompt_length, prompt)
        if not ids:
            raise ValueError(
                f"row {row}: the prompt has no tokens, so the response's first token has nothing to follow; leave the "
                "row out."
            )
        return ids

    def response_ids(self, pairs: PairTokenizer, record: Mapping[str, Any], column: str, row: int) -> _ResponseIds:
        """The ids of one of a record's responses, and whether it was cut.

        Raises:
            ValueError: a response without tokens, or with a token that opens or ends a turn before its end.
        """
        place, response = f"row {row}, column {column!r}", record[column]
        problem = pairs.response_problem(response)
        if problem:
            raise ValueError(f"{place} {problem}")
        try:
            # One more than there may be, which tells a response that is cut from one of just that length.
            ids = pairs.response_ids(response, self.max_response_length + 1, not isinstance(record["prompt"], str))
        except ValueError as error:
            raise ValueError(f"{place} {error}") from error
        if not ids:
            raise ValueError(f"{place}: the response has no tokens; leave the row out.")
        return _ResponseIds(ids[: self.max_response_length], len(ids) > self.max_response_length)


def prompt_ids_in_row(pairs: PairTokenizer, prompt: Any, row: int) -> list[int]:
    """The ids of a row's whole prompt.

    Raises:
        ValueError: a prompt that the chat template refuses, or one with a token that opens or ends a turn.
    """
    problem = pairs.prompt_problem(prompt)
    if problem:
        raise ValueError(f"row {row}: the prompt {problem}")
    try:
        return pairs.prompt_ids(prompt)
    except ValueError as error:
        raise ValueError(f"row {row}: the prompt {error}") from error
