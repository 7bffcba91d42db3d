"""Preference pairs with a conflict between two objectives, made from packages of the package index, without a hub.

PyRIT publishes answers of language models to risky requests with harm scores given by people (MIT licence). Two answers
to the same request make a pair: the less harmful one is preferred on ``harmless``, and the one nearer to the request is
preferred on ``helpful``. Nearness, the cosine of sentence embeddings of request and answer, stands in for a human
helpfulness label, which this data lacks: an answer that takes up the request is nearer to it than a refusal is. Read
results on ``helpful`` with that in mind.

Everyday requests, which these data lack as well, come with an answer that was written for this project, preferred on
``helpful`` to a refusal or to the answer to another request; neither is harmful, so that ``harmless`` has no label.

The texts are harmful by their purpose. Nothing here prints them.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mopref._cache import build_once, cache_folder
from mopref.llm.data.loaders import LOADERS
from mopref.llm.rewards.embedder import Embedder
from mopref.setting_types import checked_numpy_seed

from .assets import MINILM, PYRIT_HARM, fetch, minilm
from .benign_answers import benign_answers
from .scored_answers import read_scored_answers

__all__ = ["PAIR_OBJECTIVES", "harm_pairs"]

# The label columns of the pairs.
PAIR_OBJECTIVES = ("helpful", "harmless")

# Raised whenever the way pairs are made changes, so that older prepared files are not taken for new ones.
_FORMAT = 1
# Mean scores such as (.25 + .5 + .5) / 3 are not exact in binary: a gap that equals the threshold must count on every
# machine.
_ROUNDING = 1e-6
# What is worse than an answer to an everyday request.
_REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I am sorry, but I cannot provide that information.",
    "As an AI, I am unable to assist with this request.",
    "I can't answer that. Is there anything else that I can do for you?",
    "I'm not able to discuss this topic.",
    "Unfortunately, this is not something I can talk about.",
)


@LOADERS.register("harm-pairs")
def harm_pairs(
    cache_dir: str | os.PathLike[str] | None = None,
    max_characters: int = 500,
    pairs_per_prompt: int = 6,
    harm_gap: float = 0.25,
    relevance_gap: float = 0.08,
    seed: int = 0,
    prefer_labelled_on_both: bool = False,
    everyday: bool = False,
    progress: bool = True,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Preference records labelled on ``helpful`` and ``harmless``, made once and kept in the cache folder.

    Pairs without any label are left out. Which answer is ``response_0`` is drawn at random, so that the position says
    nothing about the labels. The same arguments always give the same records. The first call downloads about 94 MB and
    embeds some 750 texts (seconds to a minute on two cores).

    Args:
        cache_dir: the cache folder, see ``mopref.llm.demo.assets``.
        max_characters: only answers that are shorter are paired.
        pairs_per_prompt: so many of a prompt's pairs are drawn at random.
        harm_gap: ``harmless`` prefers the lower mean human harm score (0 to 1) where the two differ by at least this;
            otherwise the label is −1.
        relevance_gap: ``helpful`` prefers the higher cosine of answer and prompt where the two differ by at least this;
            otherwise the label is −1.
        seed: of all draws.
        prefer_labelled_on_both: draw pairs that are labelled on both objectives first.
        everyday: behind these pairs also one for each everyday request, labelled on ``helpful`` alone.
        progress: show progress bars.
        limit: only so many records from the start; ``None`` for all.

    Raises:
        AssetError: a download fails.
        ValueError: an argument out of range.

    Source: PyRIT 1.1.0, folder ``scorer_evals/harm``, MIT licence.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: no record would be left, so it must be ≥ 1, or None for all records.")
    sizes, gaps = (max_characters, pairs_per_prompt), (harm_gap, relevance_gap)
    settings = _PairSettings(*sizes, *gaps, seed, prefer_labelled_on_both, everyday)
    key = {"format": _FORMAT, "sources": [PYRIT_HARM.key, MINILM.key], **asdict(settings)}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        answers = _pairable(read_scored_answers(fetch(PYRIT_HARM, cache_dir, progress)), max_characters)
        relevance = _relevance(answers, Embedder(minilm(cache_dir, progress)), progress)
        with (folder / "records.jsonl").open("w", encoding="utf-8") as file:
            for record in _make_records(answers, relevance, settings):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

    folder = build_once(cache_folder(cache_dir) / f"harm-pairs-{digest}", key, build)
    with (folder / "records.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in itertools.islice(lines, limit)]


@dataclass(frozen=True)
class _PairSettings:
    """How pairs are made; part of the name of what is kept in the cache."""

    max_characters: int
    pairs_per_prompt: int
    harm_gap: float
    relevance_gap: float
    seed: int
    prefer_labelled_on_both: bool
    everyday: bool

    def __post_init__(self) -> None:
        for name, lowest in (("max_characters", 2), ("pairs_per_prompt", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}: no pair could be made, so it must be ≥ {lowest}.")
        for name, highest in (("harm_gap", 1.0), ("relevance_gap", 2.0)):
            if not 0.0 < getattr(self, name) <= highest:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: the largest difference there can be is {highest:g}, so it must "
                    f"be above 0 and at most {highest:g}."
                )

    def labels(
        self, pair: tuple[str, str], harm: Mapping[str, float], relevance: Mapping[str, float]
    ) -> tuple[int, int]:
        """The labels on helpful and harmless: the index of the preferred answer, −1 where the two are too close."""
        first, second = pair
        return (
            _preferred(relevance[first] - relevance[second], self.relevance_gap),
            _preferred(harm[second] - harm[first], self.harm_gap),
        )


def _preferred(advantage_of_first: float, gap: float) -> int:
    if abs(advantage_of_first) < gap - _ROUNDING:
        return -1
    return 0 if advantage_of_first > 0 else 1


def _pairable(answers: Mapping[str, Mapping[str, float]], max_characters: int) -> dict[str, dict[str, float]]:
    """Prompt -> answer -> harm, of answers that are short enough and prompts with at least two of them."""
    candidates = {
        prompt: {answer: harm for answer, harm in scores.items() if len(answer) < max_characters}
        for prompt, scores in answers.items()
    }
    return {prompt: scores for prompt, scores in candidates.items() if len(scores) > 1}


def _relevance(
    answers: Mapping[str, Mapping[str, float]], embedder: Embedder, progress: bool
) -> dict[str, dict[str, float]]:
    """Prompt -> answer -> cosine of the two."""
    texts = sorted({*answers, *itertools.chain.from_iterable(answers.values())})
    vectors = dict(zip(texts, embedder.embed(texts, progress=progress), strict=True))
    return {
        prompt: {answer: float(vectors[answer] @ vectors[prompt]) for answer in scores}
        for prompt, scores in answers.items()
    }


def _make_records(
    answers: Mapping[str, Mapping[str, float]], relevance: Mapping[str, Mapping[str, float]], settings: _PairSettings
) -> Iterator[dict[str, Any]]:
    """The records; every draw is made for every pair, so that what is left out does not change the others."""
    generator = np.random.default_rng(checked_numpy_seed(settings.seed))
    for prompt, harm in answers.items():
        pairs = list(itertools.combinations(harm, 2))
        pairs = [pairs[index] for index in generator.permutation(len(pairs))]
        labelled = [(pair, settings.labels(pair, harm, relevance[prompt])) for pair in pairs]
        if settings.prefer_labelled_on_both:
            labelled.sort(key=lambda item: -sum(label >= 0 for label in item[1]))
        for (first, second), (helpful, harmless) in labelled[: settings.pairs_per_prompt]:
            swap = bool(generator.integers(2))
            if max(helpful, harmless) < 0:
                continue
            if swap:
                first, second = second, first
                helpful, harmless = (label if label < 0 else 1 - label for label in (helpful, harmless))
            responses = {"response_0": first, "response_1": second}
            yield {"prompt": prompt, **responses, "helpful": helpful, "harmless": harmless}
    if settings.everyday:
        yield from _everyday_records(generator)


def _everyday_records(generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """A pair for each everyday request: its answer, and by turns a refusal or the answer to another request."""
    known = benign_answers()
    for place, (prompt, answer) in enumerate(known):
        if place % 2:
            worse = known[(place + int(generator.integers(1, len(known)))) % len(known)][1]
        else:
            worse = _REFUSALS[int(generator.integers(len(_REFUSALS)))]
        preferred = int(generator.integers(2))
        first, second = (answer, worse) if preferred == 0 else (worse, answer)
        yield {"prompt": prompt, "response_0": first, "response_1": second, "helpful": preferred, "harmless": -1}
