"""Dialogues laid out as one text, with ``Human:`` and ``Assistant:`` before the turns, as chat messages."""

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["common_length", "is_dialogue_text", "prompt_messages", "split_dialogue_texts"]

_ANSWER = "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")


def is_dialogue_text(text: Any) -> bool:
    r"""Whether a text starts with a human's turn and has a turn of the assistant's.

    Example:
        >>> is_dialogue_text("\n\nHuman: Why?\n\nAssistant: So."), is_dialogue_text("Human: Why?")
        (True, False)
    """
    return isinstance(text, str) and text.startswith("\n\nHuman:") and _ANSWER in text


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many entries two texts, or two lists, have in common from their start.

    Example:
        >>> common_length("I think so.", "I think not.")
        8
    """
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def split_dialogue_texts(chosen: str, rejected: str) -> tuple[list[dict[str, str]], str, str]:
    """The prompt that two dialogues share and their responses; empty if they part before the last turn."""
    start = chosen[: common_length(chosen, rejected)].rfind(_ANSWER)
    after = start + len(_ANSWER)
    if start < 0 or _TURN.search(chosen[after:]) or _TURN.search(rejected[after:]):
        return [], "", ""
    return _messages(chosen[:start]), chosen[after:].strip(), rejected[after:].strip()


def prompt_messages(text: str) -> list[dict[str, str]]:
    r"""The messages of a prompt that is laid out as a dialogue, up to ``Assistant:``; none if it is no such text.

    Example:
        >>> prompt_messages("\n\nHuman: Why?\n\nAssistant: "), prompt_messages("Human: Why?")
        ([{'role': 'user', 'content': 'Why?'}], [])
    """
    start = text.rstrip()
    if not is_dialogue_text(start) or not start.endswith(_ANSWER):
        return []
    return _messages(start.removesuffix(_ANSWER))


def _messages(dialogue: str) -> list[dict[str, str]]:
    """A dialogue as chat messages; neighbouring turns of one speaker become one message."""
    messages: list[dict[str, str]] = []
    parts = _TURN.split(dialogue)
    for speaker, text in zip(parts[1::2], parts[2::2], strict=True):
        role, content = "user" if speaker == "Human" else "assistant", text.strip()
        if not content:
            continue
        # Many chat templates insist on roles that alternate.
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append({"role": role, "content": content})
    return messages if messages and messages[-1]["role"] == "user" else []
