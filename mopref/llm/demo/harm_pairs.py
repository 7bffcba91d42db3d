"""Preference pairs with a conflict between two objectives, made from packages of the package index, without a hub.

PyRIT publishes answers of language models to risky requests with harm scores given by people (MIT licence). Two answers
to the same request make a pair: the less harmful one is preferred on ``harmless``, and the one nearer to the request is
preferred on ``helpful``. Nearness, the cosine of sentence embeddings of request and answer, stands in for a human
helpfulness label, which this data lacks: an answer that takes up the request is nearer to it than a refusal is. Read
results on ``helpful`` with that in mind.

The texts are harmful by their purpose. Nothing here prints them, and messages name files and rows only.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mopref.llm.data.loaders import LOADERS
from mopref.llm.demo.assets import MINILM, PYRIT_HARM, build_once, cache_folder, embed_texts, fetch, minilm

__all__ = ["OBJECTIVES", "harm_pairs", "read_scored_answers"]

OBJECTIVES = ("helpful", "harmless")

# Raised whenever the way pairs are made changes, so that older prepared files are not taken for new ones.
_FORMAT = 1
# Mean scores such as (.25 + .5 + .5) / 3 are not exact in binary: a gap that equals the threshold must count on every
# machine.
_ROUNDING = 1e-6


@LOADERS.register("harm-pairs")
def harm_pairs(
    cache_dir: str | os.PathLike[str] | None = None,
    max_characters: int = 500,
    pairs_per_prompt: int = 6,
    harm_gap: float = 0.25,
    relevance_gap: float = 0.08,
    seed: int = 0,
    prefer_labelled_on_both: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Return preference records labelled on ``helpful`` and ``harmless``, prepared once and kept in the cache folder.

    Answers shorter than ``max_characters`` to one prompt are paired; of a prompt's pairs ``pairs_per_prompt`` are drawn
    at random, or, with ``prefer_labelled_on_both``, those labelled on both objectives first. ``harmless`` prefers the
    lower mean human harm score (0 to 1) if the two differ by at least ``harm_gap``; ``helpful`` prefers the higher
    cosine of answer and prompt if the two differ by at least ``relevance_gap``; otherwise the label is −1. Pairs
    without any label are left out. Which answer is ``response_0`` is drawn at random, too, so the position says nothing
    about the labels. The same arguments always give the same records.

    The first call downloads about 94 MB and embeds some 750 texts (seconds to a minute on two cores). Raises
    `AssetError` if the download fails and ValueError for arguments out of range. Source: PyRIT 1.1.0, folder
    ``scorer_evals/harm``, MIT licence.
    """
    for name, value, lowest in (("max_characters", max_characters, 2), ("pairs_per_prompt", pairs_per_prompt, 1)):
        if value < lowest:
            raise ValueError(f"{name} is {value}, but must be at least {lowest}: no pair could be made")
    for name, gap, highest in (("harm_gap", harm_gap, 1.0), ("relevance_gap", relevance_gap, 2.0)):
        if not 0.0 < gap <= highest:
            raise ValueError(
                f"{name} is {gap}, but must be above 0 and at most {highest:g}, the largest difference there can be"
            )
    key = {
        "format": _FORMAT,
        "sources": [PYRIT_HARM.key, MINILM.key],
        "max_characters": max_characters,
        "pairs_per_prompt": pairs_per_prompt,
        "harm_gap": harm_gap,
        "relevance_gap": relevance_gap,
        "seed": seed,
        "prefer_labelled_on_both": prefer_labelled_on_both,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        answers = read_scored_answers(fetch(PYRIT_HARM, cache_dir, progress))
        groups = {
            prompt: kept
            for prompt, scored in answers.items()
            if len(kept := {text: harm for text, harm in scored.items() if len(text) < max_characters}) > 1
        }
        texts = sorted({*groups, *itertools.chain.from_iterable(groups.values())})
        vectors = dict(zip(texts, embed_texts(texts, minilm(cache_dir, progress), progress=progress), strict=True))
        generator = np.random.default_rng(seed)
        records: list[dict[str, Any]] = []
        for prompt, scored in groups.items():
            relevance = {text: float(vectors[text] @ vectors[prompt]) for text in scored}
            pairs = list(itertools.combinations(scored, 2))
            pairs = [pairs[index] for index in generator.permutation(len(pairs))]
            labelled = [(pair, _labels(pair, scored, relevance, harm_gap, relevance_gap)) for pair in pairs]
            if prefer_labelled_on_both:
                labelled.sort(key=lambda item: -sum(label >= 0 for label in item[1]))
            for (first, second), (helpful, harmless) in labelled[:pairs_per_prompt]:
                swap = bool(generator.integers(2))
                if max(helpful, harmless) < 0:
                    continue
                if swap:
                    first, second = second, first
                    helpful, harmless = (label if label < 0 else 1 - label for label in (helpful, harmless))
                responses = {"response_0": first, "response_1": second}
                records.append({"prompt": prompt, **responses, "helpful": helpful, "harmless": harmless})
        _write_lines(folder / "records.jsonl", records)

    folder = build_once(cache_folder(cache_dir) / f"harm-pairs-{digest}", key, build)
    with (folder / "records.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_scored_answers(folder: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """Return prompt -> answer -> mean human harm score (0 harmless to 1), from the CSV files in ``folder``.

    A file starts with comment lines and has the columns ``objective`` (the prompt), ``assistant_response`` and one or
    more of ``human_score``, ``human_score_1``, …; an answer that stands in several files gets the mean over all its
    scores. Raises ValueError, naming file and row, for missing columns and for scores that are no number in 0..1.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    paths = sorted(Path(folder).glob("*.csv"))
    if not paths:
        raise ValueError(
            f"no CSV file in {folder}: the folder should hold the harm scores that `fetch(PYRIT_HARM)` unpacks"
        )
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            # Only leading lines are comments: an answer inside the table may well have a line that starts with "#".
            rows = csv.DictReader(itertools.dropwhile(lambda line: line.startswith(("#", '"#')), file))
            columns = rows.fieldnames or []
            judges = [name for name in columns if name == "human_score" or name.startswith("human_score_")]
            missing = [name for name in ("objective", "assistant_response") if name not in columns]
            if missing or not judges:
                raise ValueError(
                    f"{path.name} lacks the column {', '.join([*missing, *([] if judges else ['human_score'])])}"
                )
            for number, row in enumerate(rows):
                if row.get("data_type") not in (None, "", "text"):
                    continue
                prompt, answer = (row["objective"] or "").strip(), (row["assistant_response"] or "").strip()
                given = [_score(row[name], path.name, number, name) for name in judges if (row[name] or "").strip()]
                if prompt and answer and given:
                    scores.setdefault(prompt, {}).setdefault(answer, []).append(float(np.mean(given)))
    return {
        prompt: {text: float(np.mean(values)) for text, values in found.items()} for prompt, found in scores.items()
    }


def _score(text: str, file: str, row: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{file}, row {row}, column {column}: {text[:20]!r} is not a harm score, a number from 0 to 1")
    return value


def _labels(
    pair: tuple[str, str], harm: dict[str, float], relevance: dict[str, float], harm_gap: float, relevance_gap: float
) -> tuple[int, int]:
    """Return the labels on (helpful, harmless): the index of the preferred answer, −1 where the two are too close."""
    first, second = pair
    return (
        _preferred(relevance[first] - relevance[second], relevance_gap),
        _preferred(harm[second] - harm[first], harm_gap),
    )


def _preferred(advantage_of_first: float, gap: float) -> int:
    if abs(advantage_of_first) < gap - _ROUNDING:
        return -1
    return 0 if advantage_of_first > 0 else 1


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
