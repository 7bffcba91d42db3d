"""The text of an answer while its tokens come."""

from collections.abc import Sequence
from typing import Any

__all__ = ["AnswerText"]

# What a tokenizer writes for bytes that are no whole character yet.
_CUT = "\N{REPLACEMENT CHARACTER}"


class AnswerText:
    """Turns tokens into pieces of text, which together are the whole answer's text without white space around it.

    A character whose bytes are not all there, white space that may be the last, and what may be the beginning of a stop
    text are held back until more is known. The text ends before the first stop text.

    Args:
        tokenizer: of transformers.
        stop: texts that end the answer.

    Attributes:
        is_stopped: whether a stop text came, so that nothing more will.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._ids: list[int] = []
        self._told = 0
        self.is_stopped = False

    def hold(self, token: int) -> None:
        """Take a token whose text nobody asks for yet."""
        self._ids.append(token)

    def add(self, token: int) -> str:
        """The text that is certain with this token, and was not before."""
        self._ids.append(token)
        return self._piece(is_last=False)

    def finish(self) -> str:
        """What was held back, at the end of the answer."""
        return self._piece(is_last=True)

    def _piece(self, is_last: bool) -> str:
        if self.is_stopped:
            return ""
        # Of all tokens each time: how a token is written may depend on those before it.
        text = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        text = text if is_last else text.rstrip(_CUT)
        ends = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        self.is_stopped = bool(ends)
        held = 0 if is_last or ends else max((_overlap(text, stop) for stop in self._stop), default=0)
        certain = text[: min(ends, default=len(text) - held)].strip()
        piece, self._told = certain[self._told :], max(self._told, len(certain))
        return piece


def _overlap(text: str, stop: str) -> int:
    """How much of the text's end may be the beginning of a stop text."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-size:])), 0)
