"""What the page says, as markup in which everything of a visitor's, of the model's and of records is escaped."""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mopref.serving.page.conversation import Part

__all__ = [
    "Turn",
    "answers_markup",
    "dialogue_markup",
    "escaped",
    "preference_text",
    "problem_markup",
    "said_text",
    "template_text",
]


class Turn(NamedTuple):
    """A question and its answer.

    Attributes:
        question: the visitor's words.
        answer: the model's.
        heading: under which λ it was given.
    """

    question: str
    answer: str
    heading: str


def escaped(text: str) -> str:
    """A text as markup that shows it, sign for sign; half a surrogate pair as the sign for what cannot be shown.

    Example:
        >>> escaped("<b> & 'c'")
        '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)


def template_text(text: str) -> str:
    """A text for a template of Gradio's, which would obey braces, dollars, backslashes and backquotes, too."""
    shown = escaped(text)
    for sign in "\\`${}@":
        shown = shown.replace(sign, f"&#{ord(sign)};")
    return shown


def preference_text(objectives: Sequence[str], preference: Sequence[float]) -> str:
    """λ in words; not escaped.

    Example:
        >>> preference_text(("helpful", "harmless"), (0.7, 0.3))
        'helpful .70, harmless .30'
    """
    return ", ".join(f"{name} {_weight(weight)}" for name, weight in zip(objectives, preference, strict=True))


def _weight(weight: float) -> str:
    text = f"{weight:.2f}"
    return text if text.startswith("1") else text.lstrip("0")


def said_text(said: Any) -> str:
    """A prompt or a response of a record, text or messages, as one text."""
    if isinstance(said, str):
        return said
    messages: list[Mapping[str, Any]] = list(said)
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{str(each['role']).capitalize()}: {each['content']}" for each in messages)


def problem_markup(sentence: str | None) -> str:
    """What went wrong, so that readers of screens are told at once; nothing where nothing did."""
    return (
        f'<p class="problem" role="alert"><span aria-hidden="true">⚠ </span>{escaped(sentence)}</p>' if sentence else ""
    )


def dialogue_markup(turns: Sequence[Turn], answering: bool = False) -> str:
    """A dialogue; while an answer is ``answering`` it is not read aloud piece by piece."""
    if not turns:
        return '<p class="hint">Nothing has been asked yet. Nobody else sees what you ask here.</p>'
    shown = "".join(
        _said("you", "You", turn.question)
        + _said("model", f"The model, at {turn.heading}", turn.answer, answering and place == len(turns) - 1)
        for place, turn in enumerate(turns)
    )
    return f'<div class="dialogue" role="log" aria-busy="{str(answering).lower()}">{shown}</div>'


def _said(kind: str, who: str, text: str, answering: bool = False) -> str:
    end = '<span class="going-on" aria-hidden="true">▍</span>' if answering else ""
    words = escaped(text) or ("" if answering else "<em>(an empty answer)</em>")
    return f'<div class="turn {kind}"><p class="who">{escaped(who)}</p><p class="said">{words}{end}</p></div>'


def answers_markup(headings: Sequence[tuple[str, str]], parts: Sequence[Part]) -> str:
    """Answers to one prompt side by side, each under a title and its λ."""
    shown = []
    for (title, preference), part in zip(headings, parts, strict=True):
        text = _said("model", preference, part.text, not part.is_over) if part.text or not part.problem else ""
        shown.append(f"<article><h3>{escaped(title)}</h3>{text}{problem_markup(part.problem)}</article>")
    busy = str(not all(part.is_over for part in parts)).lower()
    return f'<div class="answers" aria-busy="{busy}">{"".join(shown)}</div>'
