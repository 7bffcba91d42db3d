"""Labelled pairs of answers as preference records, in which the same pair stands once.

A pair is the same if its prompt and its two answers are, in either order; prompts that differ in white space count as
one, as in ``split_by_prompt``, and so do answers that differ in white space around them. A pair that one objective
labels both ways is a tie on it. Which answer becomes ``response_0`` follows from the texts and a seed, so that the
position says nothing about a label, and records do not depend on the order of the rows but for their own order.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mopref.llm.data.records import prompt_key

from .dialogues import Text, checked_prompt, checked_response, split_pair
from .loader import Record
from .report import LoadReport, UnfitRow

__all__ = ["LabelledPair", "answer_key", "checked_pair", "joined_records", "side_key", "smaller_text"]

# The labels that an objective gave a pair, 0 and 1, as bits.
_LABELS = {0b00: -1, 0b01: 0, 0b10: 1, 0b11: -1}


class LabelledPair(NamedTuple):
    """Two answers to a prompt, and for each objective which one is preferred: 0, 1 or −1."""

    prompt: Text
    answers: tuple[Text, Text]
    labels: Mapping[str, int]


@dataclass
class _JoinedPair:
    """The texts of a pair, in the order of the record, and which labels each objective gave it."""

    prompt: Text
    answers: list[Text]
    labels: dict[str, int] = field(default_factory=dict)


def checked_pair(prompt: Text | None, first: Text, second: Text, labels: Mapping[str, int]) -> LabelledPair:
    """A pair whose texts are those of a record.

    Args:
        prompt: ``None`` if the answers are dialogues that share it.
        first: an answer, or a dialogue that ends with one.
        second: the other.
        labels: for each objective which one is preferred, 0 or 1; −1 for none.

    Raises:
        UnfitRow: an empty text, two equal answers, or dialogues that part before their last turn.
        MalformedRow: what is no prompt or response.
    """
    prompt, first, second = split_pair(first, second, prompt)
    pair = LabelledPair(checked_prompt(prompt), (checked_response(first), checked_response(second)), labels)
    if answer_key(pair.answers[0]) == answer_key(pair.answers[1]):
        raise UnfitRow("two equal answers")
    return pair


def answer_key(answer: Text) -> str:
    """A text that is equal for two answers exactly if they say the same, apart from white space around them."""
    return (answer if isinstance(answer, str) else "\n\n".join(message["content"] for message in answer)).strip()


def side_key(seed: int, prompt: str, answer: str) -> bytes:
    """What an answer's place is decided by: the same for the same texts, and no more likely early than late.

    Args:
        seed: another seed, another place.
        prompt: its ``prompt_key``.
        answer: its ``answer_key``.
    """
    return hashlib.blake2b(f"{seed}\0{prompt}\0{answer}".encode(), digest_size=16).digest()


def smaller_text(first: Text, second: Text) -> Text:
    """One of two forms of the same text, whatever their order."""
    return first if first == second else min(first, second, key=lambda text: json.dumps(text, sort_keys=True))


def joined_records(
    pairs: Iterable[LabelledPair], objectives: Sequence[str], seed: int, report: LoadReport
) -> list[Record]:
    """One preference record for each distinct pair that has a label, in the order in which the pairs come first.

    Args:
        pairs: with two distinct answers each.
        objectives: the label columns of the records.
        seed: decides which answer becomes ``response_0``.
        report: counts labels in conflict, and pairs without a label.
    """
    joined: dict[tuple[str, str, str], _JoinedPair] = {}
    for prompt, answers, labels in pairs:
        text, keys = prompt_key(prompt), list(map(answer_key, answers))
        is_turned = side_key(seed, text, keys[0]) > side_key(seed, text, keys[1])
        order = (1, 0) if is_turned else (0, 1)
        key = (text, keys[order[0]], keys[order[1]])
        pair = joined.get(key)
        if pair is None:
            pair = joined[key] = _JoinedPair(prompt, [answers[side] for side in order])
        else:
            pair.prompt = smaller_text(pair.prompt, prompt)
            pair.answers = [smaller_text(pair.answers[side], answers[order[side]]) for side in (0, 1)]
        for name, label in labels.items():
            if label >= 0:
                pair.labels[name] = pair.labels.get(name, 0) | 1 << (label ^ is_turned)
    return [record for pair in joined.values() if (record := _record(pair, objectives, report)) is not None]


def _record(pair: _JoinedPair, objectives: Sequence[str], report: LoadReport) -> Record | None:
    for name, bits in pair.labels.items():
        if bits == 0b11:
            report.unlabelled[f"{name}: labelled both ways"] += 1
    labels = {name: _LABELS[pair.labels.get(name, 0)] for name in objectives}
    if max(labels.values()) < 0:
        report.leave_out("pairs: no label on any objective")
        return None
    return {"prompt": pair.prompt, "response_0": pair.answers[0], "response_1": pair.answers[1], **labels}
