"""Ratings of several answers to a prompt, and the labelled pairs that they make.

A pair is labelled on an attribute by the difference of its two ratings; where one is missing, or the two are equal or
nearer to each other than a margin, it is not labelled.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from mopref._repr import short_repr
from mopref.llm.data.records import check_objectives, prompt_key

from .dialogues import Text
from .labelled_pairs import LabelledPair, answer_key, side_key, smaller_text
from .report import LoadReport

__all__ = [
    "Attribute",
    "Attributes",
    "Margin",
    "PairChoice",
    "RatedAnswer",
    "Ratings",
    "checked_attributes",
    "checked_margins",
    "checked_pair_choice",
    "label",
    "rated_pairs",
    "read_rating",
]

Direction = Literal["higher", "lower"]
# Names of rated columns, or what each objective is rated in, and whether the higher or the lower rating is better.
Attributes: TypeAlias = Sequence[str] | Mapping[str, str | tuple[str, Direction]]
# The smallest difference of ratings that is a preference, of all objectives or of each.
Margin: TypeAlias = float | Mapping[str, float]
# All pairs of a prompt, the best answer against the worst on each attribute, or so many at random.
PairChoice: TypeAlias = Literal["all", "best-worst"] | int
# A rating for each objective, the higher the better; ``None`` where there is none.
Ratings: TypeAlias = tuple[float | None, ...]

_NO_RATING = ("", "n/a", "na", "nan", "none", "null", "-")
# Means of ratings are rounded: a difference that is the margin but for that reaches it.
_ROUNDING = 1e-9


class Attribute(NamedTuple):
    """What an objective is rated in, and whether the higher or the lower rating is better."""

    column: str
    direction: Direction


class RatedAnswer(NamedTuple):
    """An answer to a prompt, with a rating for each objective."""

    prompt: Text
    response: Text
    ratings: Ratings


@dataclass
class _Answer:
    """An answer, and all ratings of it."""

    response: Text
    ratings: list[Ratings] = field(default_factory=list)


@dataclass
class _Prompt:
    """A prompt, and its distinct answers by their ``answer_key``."""

    prompt: Text
    answers: dict[str, _Answer] = field(default_factory=dict)


def checked_attributes(attributes: Attributes) -> dict[str, Attribute]:
    """What each objective is rated in.

    Raises:
        ValueError: names that are no objectives, or a direction other than ``"higher"`` and ``"lower"``.

    Example:
        >>> checked_attributes({"concise": ("verbosity", "lower")})
        {'concise': Attribute(column='verbosity', direction='lower')}
    """
    objectives = check_objectives(tuple(attributes) if isinstance(attributes, Mapping) else attributes)
    columns: Mapping[str, Any] = attributes if isinstance(attributes, Mapping) else {name: name for name in objectives}
    checked = {}
    for objective, column in columns.items():
        parts = (column, "higher") if isinstance(column, str) else column
        are_two_texts = isinstance(parts, list | tuple) and len(parts) == 2 and all(isinstance(p, str) for p in parts)
        if not are_two_texts or parts[1] not in get_args(Direction):
            raise ValueError(
                f"attributes of {objective!r} is {short_repr(column)}: give the name of a rating, or with it whether "
                "the higher or the lower one is better, as ('verbosity', 'lower')."
            )
        checked[objective] = Attribute(*parts)
    return checked


def checked_margins(margin: Margin, objectives: Sequence[str]) -> tuple[float, ...]:
    """The margin of each objective.

    Raises:
        ValueError: a margin below 0 or not finite, or one of an unknown objective.
    """
    margins = margin if isinstance(margin, Mapping) else dict.fromkeys(objectives, margin)
    for name, value in margins.items():
        if name not in objectives:
            raise ValueError(f"margin names {name!r}, which is none of the objectives {', '.join(objectives)}.")
        if not (isinstance(value, Real) and 0 <= value < math.inf):
            raise ValueError(f"margin is {value!r}: it is a difference of ratings, so it must be finite and ≥ 0.")
    return tuple(float(margins.get(name, 0.0)) for name in objectives)


def checked_pair_choice(pairs: PairChoice) -> PairChoice:
    """The choice itself.

    Raises:
        ValueError: neither ``"all"`` nor ``"best-worst"`` nor a number ≥ 1.
    """
    is_number = isinstance(pairs, int) and not isinstance(pairs, bool) and pairs >= 1
    if is_number or pairs in ("all", "best-worst"):
        return pairs
    raise ValueError(f"pairs is {pairs!r}: it must be 'all', 'best-worst', or how many of each prompt, ≥ 1.")


def read_rating(value: Any, attribute: Attribute, objective: str, counts: Counter[str]) -> float | None:
    """A rating as a number of which more is better; ``None``, counted by its reason, if there is none.

    Args:
        value: a number, a text that is one, or a dict that holds it as ``Rating``, ``rating`` or ``score``.
        attribute: whether more is better.
        objective: whose rating it is.
        counts: counts what is missing, and what is no number.

    Example:
        >>> counts = Counter()
        >>> read_rating({"Rating": "4", "Rationale": "Fine."}, Attribute("verbosity", "lower"), "concise", counts)
        -4.0
        >>> read_rating("N/A", Attribute("verbosity", "lower"), "concise", counts), dict(counts)
        (None, {'concise: missing rating': 1})
    """
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("Rating", "rating", "score") if name in value), None)
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_RATING):
        counts[f"{objective}: missing rating"] += 1
        return None
    number = _number(value)
    if number is None or math.isinf(number):
        counts[f"{objective}: unreadable rating"] += 1
        return None
    if math.isnan(number):
        counts[f"{objective}: missing rating"] += 1
        return None
    return number if attribute.direction == "higher" else -number


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | Real):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def label(first: float | None, second: float | None, margin: float) -> int:
    """Which of two ratings is better: 0, 1, or −1 if none is by the margin.

    Example:
        >>> label(4.0, 2.0, margin=1.0), label(4.0, 4.5, margin=1.0), label(None, 2.0, margin=0.0)
        (0, -1, -1)
    """
    if first is None or second is None:
        return -1
    difference = first - second
    if difference == 0 or abs(difference) < margin - _ROUNDING:
        return -1
    return 0 if difference > 0 else 1


def rated_pairs(
    answers: Iterable[RatedAnswer],
    objectives: Sequence[str],
    margins: Sequence[float],
    pairs: PairChoice,
    seed: int,
    report: LoadReport,
) -> Iterator[LabelledPair]:
    """The labelled pairs of answers to the same prompt, in the order in which prompts come first.

    An answer that is there several times has the mean of its ratings. Which pairs are chosen at random depends on the
    texts and the seed, not on the order of the answers; they are drawn from those that have a label.

    Args:
        answers: of all prompts, in any order.
        objectives: m names.
        margins: one for each objective.
        pairs: which pairs of a prompt.
        seed: decides the random ones.
        report: counts prompts with fewer than two answers, ties, and pairs without a label.
    """
    for key, prompt in _by_prompt(answers).items():
        if len(prompt.answers) < 2:
            report.leave_out("prompts: fewer than two answers")
            continue
        texts = sorted(prompt.answers, key=lambda text: side_key(seed, key, text))
        responses = [prompt.answers[text].response for text in texts]
        ratings = [_mean_ratings(prompt.answers[text].ratings) for text in texts]
        candidates = (
            sorted(set(_best_and_worst(ratings))) if pairs == "best-worst" else combinations(range(len(texts)), 2)
        )
        labelled = []
        for first, second in candidates:
            labels = _labels(ratings[first], ratings[second], objectives, margins, report)
            if max(labels.values()) < 0:
                report.leave_out("pairs: no label on any objective")
            else:
                labelled.append(LabelledPair(prompt.prompt, (responses[first], responses[second]), labels))
        if isinstance(pairs, int) and pairs < len(labelled):
            labelled = random.Random(f"{seed} {key}").sample(labelled, pairs)
        yield from labelled


def _labels(
    first: Ratings, second: Ratings, objectives: Sequence[str], margins: Sequence[float], report: LoadReport
) -> dict[str, int]:
    """The label of each objective; ties are counted."""
    labels = {}
    for name, one, other, margin in zip(objectives, first, second, margins, strict=True):
        labels[name] = label(one, other, margin)
        if labels[name] < 0 and one is not None and other is not None:
            report.unlabelled[f"{name}: tie"] += 1
    return labels


def _by_prompt(answers: Iterable[RatedAnswer]) -> dict[str, _Prompt]:
    prompts: dict[str, _Prompt] = {}
    for prompt, response, ratings in answers:
        own = prompts.setdefault(prompt_key(prompt), _Prompt(prompt))
        own.prompt = smaller_text(own.prompt, prompt)
        answer = own.answers.setdefault(answer_key(response), _Answer(response))
        answer.response = smaller_text(answer.response, response)
        answer.ratings.append(ratings)
    return prompts


def _mean_ratings(ratings: Sequence[Ratings]) -> Ratings:
    if len(ratings) == 1:
        return ratings[0]
    present = [[value for value in values if value is not None] for values in zip(*ratings, strict=True)]
    # Exact sums, so that the mean does not depend on the order.
    return tuple(math.fsum(values) / len(values) if values else None for values in present)


def _best_and_worst(ratings: Sequence[Ratings]) -> Iterator[tuple[int, int]]:
    """The best and the worst answer on each attribute, the first of equal ones, unless all are equal."""
    for values in zip(*ratings, strict=True):
        places: dict[float, int] = {}
        for place, value in enumerate(values):
            if value is not None:
                places.setdefault(value, place)
        if len(places) > 1:
            yield tuple(sorted((places[max(places)], places[min(places)])))  # type: ignore[misc]
