"""Eight questions to a visitor, and what their choices say of λ."""

import random
from dataclasses import dataclass, field, replace

from mopref.personal import fit_choices, next_question
from mopref.serving.page.pairs import Pairs
from mopref.serving.page.region_picture import region_markup
from mopref.serving.page.simplex import nearest
from mopref.serving.page.texts import escaped, preference_text

__all__ = ["QUESTIONS", "Choices", "Verdict", "answered", "begun", "question_markup", "verdict"]

QUESTIONS = 8


@dataclass(frozen=True)
class Choices:
    """A visitor's choices so far; of nobody else's concern.

    Attributes:
        made: 0 or 1, the response that was chosen, by the number of its pair.
        asked: the pair that is asked about now; ``None`` at the end.
        swapped: whether its second response is shown first, by chance, so that always choosing A says nothing.
        wanted: how many questions there are.
    """

    made: dict[int, int] = field(default_factory=dict)
    asked: int | None = None
    swapped: bool = False
    wanted: int = QUESTIONS


@dataclass(frozen=True)
class Verdict:
    """What the choices say.

    Attributes:
        preference: λ, within the operator's bounds.
        markup: the region, and λ as found.
    """

    preference: tuple[float, ...]
    markup: str


def begun(pairs: Pairs) -> Choices:
    """No choices yet, and the first question; eight, or as many as there are different pairs."""
    wanted = min(QUESTIONS, len(set(pairs.margins.keys)))
    return _asking(pairs, Choices(wanted=wanted))


def answered(pairs: Pairs, choices: Choices, second: bool) -> Choices:
    """The choices with one more, of the response shown first or ``second``, and the next question."""
    if choices.asked is None:
        return choices
    made = {**choices.made, choices.asked: int(second) ^ int(choices.swapped)}
    return _asking(pairs, replace(choices, made=made, asked=None))


def _asking(pairs: Pairs, choices: Choices) -> Choices:
    if len(choices.made) >= choices.wanted:
        return choices
    asked = next_question(pairs.margins, choices.made).pair
    return replace(choices, asked=asked, swapped=random.random() < 0.5)


def question_markup(pairs: Pairs, choices: Choices) -> str:
    """The pair that is asked about."""
    assert choices.asked is not None
    pair = pairs.shown[choices.asked]
    first, second = reversed(pair.responses) if choices.swapped else pair.responses
    number = len(choices.made) + 1
    shown = "".join(
        f'<article><h3>{name}</h3><p class="said" tabindex="0">{escaped(text)}</p></article>'
        for name, text in (("A", first), ("B", second))
    )
    return (
        f'<div class="question" aria-live="polite"><h3>Which do you prefer? {number} of {choices.wanted}</h3>'
        f'<p class="who">Somebody asks</p><p class="said" tabindex="0">{escaped(pair.prompt)}</p>'
        f'<div class="answers">{shown}</div></div>'
    )


def verdict(pairs: Pairs, choices: Choices, minimums: tuple[float, ...]) -> Verdict:
    """λ of the choices with its region, and the λ nearest to it that the operator allows."""
    found = fit_choices(pairs.margins, choices.made)
    own = tuple(found.preference.tolist())
    allowed = nearest(own, minimums)
    markup = f'<div aria-live="polite"><h3>This is you</h3>{region_markup(found.region, own)}'
    if max(abs(a - b) for a, b in zip(own, allowed, strict=True)) > 5e-3:
        told = preference_text(pairs.margins.names, allowed)
        sentence = f"The operator set least weights; the nearest balance that they allow is {told}."
        markup += f'<p class="hint">{escaped(sentence)}</p>'
    return Verdict(allowed, markup + "</div>")
