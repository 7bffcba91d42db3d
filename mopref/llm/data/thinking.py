r"""Thinking blocks of chat templates: ``<think>…</think>`` before an answer.

Templates of models that think treat the block in three ways. Some open it in the generation prompt and leave it out of
a dialogue that is answered, so that a response without its end would be a thought. Some open it there and close it
before an answer that has none. Some put an empty block before an answer that has none. A response that thinks itself
stands in the place of the template's own block.
"""

import re
from typing import NamedTuple

__all__ = ["ThinkingBlock", "thinking_block", "without_last_block"]

# <think>, [THINK], <seed:think>, <|START_THINKING|>.
_OPENING = re.compile(r"[<\[](?!\|END_)[\w:|]*(?:think|thought|reason)[\w:|]*[>\]]", re.IGNORECASE)


class ThinkingBlock(NamedTuple):
    """How a template treats the block.

    Attributes:
        opening: the text that opens it.
        closing: the text that closes it.
        is_open: whether a prompt ends inside it.
        start: what the template puts between a prompt and a response that has a block of its own.
        is_closed: whether the template closes it before a response that does not.
    """

    opening: str
    closing: str
    is_open: bool
    start: str
    is_closed: bool

    def problem(self, text: str) -> str | None:
        """What is wrong with a response that would be a thought, to follow its name; ``None`` if nothing is."""
        if not self.is_open or self.is_closed or self.closing in text:
            return None
        return (
            f"does not hold {self.closing!r}, but the chat template opens a block of thoughts with {self.opening!r} "
            f"before it, so it would be one of them: write the thoughts, {self.closing!r} and the answer, or set a "
            "tokenizer.chat_template that does not open the block."
        )

    def placed(self, text: str, start: str) -> tuple[str, str]:
        """A response's text and what stands before it, with one block where the response has one of its own."""
        begins = text.lstrip().startswith(self.opening)
        if self.closing not in text or not (self.is_open or begins):
            return text, start
        thoughts = text.lstrip().removeprefix(self.opening).lstrip("\n") if self.is_open and begins else text
        return thoughts, self.start


def thinking_block(prompt: str, dialogue: str, answer: str) -> ThinkingBlock | None:
    r"""The block of a template, read off a rendered prompt and the same with its answer; ``None`` if it has none.

    Example:
        >>> thinking_block("Q:<think>\n", "Q:Yes.", "Yes.")
        ThinkingBlock(opening='<think>', closing='</think>', is_open=True, start='', is_closed=False)
    """
    start = dialogue[len(prompt) :].partition(answer)[0] if dialogue.startswith(prompt) else None
    opened = _last_opening(prompt)
    if opened is not None and not prompt[opened.end() :].strip():
        is_closed = start is not None and start.lstrip().startswith(_closing(opened.group()))
        if is_closed or (start is None and dialogue.startswith(prompt[: opened.start()])):
            return ThinkingBlock(opened.group(), _closing(opened.group()), True, "", is_closed)
    opened = None if start is None else _last_opening(start)
    if start is None or opened is None or _closing(opened.group()) not in start[opened.end() :]:
        return None
    return ThinkingBlock(opened.group(), _closing(opened.group()), False, start[: opened.start()], True)


def without_last_block(prompt: str) -> str:
    r"""A rendered prompt without the block of thoughts that it ends in, open or empty; the same if there is none.

    Example:
        >>> without_last_block("Q:<think>\n"), without_last_block("Q:<think>\n\n</think>\n\n")
        ('Q:', 'Q:')
    """
    opened = _last_opening(prompt)
    if opened is None or prompt[opened.end() :].strip() not in ("", _closing(opened.group())):
        return prompt
    return prompt[: opened.start()]


def _last_opening(text: str) -> re.Match[str] | None:
    return next(reversed(list(_OPENING.finditer(text))), None)


def _closing(opening: str) -> str:
    return opening.replace("START_", "END_") if "START_" in opening else f"{opening[0]}/{opening[1:]}"
