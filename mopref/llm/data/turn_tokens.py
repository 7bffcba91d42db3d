"""The tokens by which a chat template parts the turns of a dialogue, above all the one that ends a response."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["EndOfTurn", "end_of_turn", "is_added", "token_pattern", "token_text"]

# An end of turn that is an ordinary entry of the vocabulary: <end> or [END], perhaps after white space.
_MARKER = re.compile(r"\s*(<[^<>\s]+>|\[[^\[\]\s]+\])")


class EndOfTurn(NamedTuple):
    """What ends a response.

    Attributes:
        before: text that the template puts between the response and the token.
        text: the token's text.
        token_id: its id.
    """

    before: str
    text: str
    token_id: int


def end_of_turn(tokenizer: Any, ids: Callable[[str], list[int]], after: str) -> EndOfTurn | None:
    """The first token with which a template goes on after a response and which is one by itself; ``None`` for none.

    That is an added token, special or not, or else a marker such as ``<end>`` that is one entry of the vocabulary. What
    follows it, a line break, say, opens the next turn and is never generated.

    Args:
        tokenizer: a tokenizer of transformers.
        ids: tokenises a text as it stands after others.
        after: what the template puts after a response.
    """
    added = _added_tokens(tokenizer)
    for index in ids(after):
        text = str(added[index].content) if index in added else ""
        # Added tokens for runs of blanks or line breaks are part of texts.
        if text.strip() and text in after:
            return EndOfTurn(after[: after.index(text)], text, index)
    marker = _MARKER.match(after)
    if marker is None:
        return None
    word = marker.group(1)
    token_id = next((index for index in ids(after) if token_text(tokenizer, index).strip() == word), None)
    return None if token_id is None else EndOfTurn(after[: marker.start(1)], word, token_id)


def is_added(tokenizer: Any, index: int) -> bool:
    """Whether a token was added to the vocabulary, and takes no white space from the text before it."""
    token = _added_tokens(tokenizer).get(index)
    return token is not None and not token.lstrip


def token_text(tokenizer: Any, index: int) -> str:
    """The text of one token."""
    token = _added_tokens(tokenizer).get(index)
    return str(tokenizer.decode([index])) if token is None else str(token.content)


def token_pattern(texts: Iterable[str]) -> re.Pattern[str] | None:
    """What finds any of these texts, the longest first; ``None`` if there is none.

    Example:
        >>> token_pattern(["</s>", "<s>"]).search("Yes.</s>").group()
        '</s>'
    """
    distinct = sorted({text for text in texts if text}, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, distinct))) if distinct else None


def _added_tokens(tokenizer: Any) -> dict[int, Any]:
    return getattr(tokenizer, "added_tokens_decoder", None) or {}
