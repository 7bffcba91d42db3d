"""Token ids of a text that stands after others, for tokenizers that mark the beginning of what they are given.

SentencePiece tokenizers (Llama 2, Mistral, T5) and byte-level ones with ``add_prefix_space`` put a word-start mark
before a text, as if a blank stood there. Within a dialogue nothing stands there, and a model that continues a prompt
does not produce that mark. So such a text is tokenised behind a *lead*, a short text whose ids are then cut off.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Lead", "continuation", "leads_of"]

# What may stand before a text without growing together with it; the first that does not is taken.
_LEADS = ("\n", "]", ":", ".", "a", "0", "%")
_SAMPLES = ("answer", "Because", " a")


class Lead(NamedTuple):
    """A text that stands before another one, and its ids."""

    text: str
    ids: list[int]


def leads_of(ids: Callable[[str], list[int]], before: str) -> tuple[Lead, ...]:
    """What to put before a text that stands after others; empty where its ids are the same without.

    Args:
        ids: tokenises a text from its beginning.
        before: what stands before the text, as far as that is known.
    """
    texts = (before, *_LEADS) if before else _LEADS
    leads = tuple(lead for lead in (Lead(text, ids(text)) for text in texts) if _stays_apart(ids, lead))
    return leads if any(_continuation(ids, leads, sample) not in (None, ids(sample)) for sample in _SAMPLES) else ()


def continuation(ids: Callable[[str], list[int]], leads: Sequence[Lead], text: str) -> list[int]:
    """The ids of a text as they follow those of another one.

    Args:
        ids: tokenises a text from its beginning.
        leads: as ``leads_of`` gives them.
        text: it may be empty.

    Raises:
        ValueError: the text grows together with whatever stands before it.
    """
    if not leads or not text:
        return ids(text)
    rest = _continuation(ids, leads, text)
    if rest is None:
        raise ValueError(
            "is merged by the tokenizer with whatever stands before it, so it has no tokens of its own: leave it out."
        )
    return rest


def _stays_apart(ids: Callable[[str], list[int]], lead: Lead) -> bool:
    """Whether a lead has ids of its own before every sample: white space may vanish, and two words be one unknown."""
    count = len(lead.ids)
    return count > 0 and all(
        together[:count] == lead.ids and len(together) > count for together in (ids(lead.text + s) for s in _SAMPLES)
    )


def _continuation(ids: Callable[[str], list[int]], leads: Sequence[Lead], text: str) -> list[int] | None:
    for lead in leads:
        together = ids(lead.text + text)
        if together[: len(lead.ids)] == lead.ids:
            return together[len(lead.ids) :]
    return None
