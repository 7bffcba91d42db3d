"""Answers of language models to risky requests with harm scores given by people, as PyRIT publishes them.

The texts are harmful by their purpose. Nothing here prints them, and messages name files and rows only.
"""

import csv
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

__all__ = ["read_scored_answers"]


def read_scored_answers(folder: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """The mean human harm score of every answer, by prompt and answer, from the CSV files in a folder.

    A file starts with comment lines and has the columns ``objective`` (the prompt), ``assistant_response`` and one or
    more of ``human_score``, ``human_score_1``, …; an answer that stands in several files gets the mean over all its
    scores.

    Args:
        folder: such as ``fetch(PYRIT_HARM)`` unpacks.

    Returns:
        Prompt -> answer -> score, from 0 (harmless) to 1.

    Raises:
        ValueError: no files, missing columns, or a score that is no number from 0 to 1; file and row are named.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    paths = sorted(Path(folder).glob("*.csv"))
    if not paths:
        raise ValueError(f"no CSV file in {folder}: give the folder of harm scores that fetch(PYRIT_HARM) unpacks.")
    for path in paths:
        for prompt, answer, score in _read_file(path):
            scores.setdefault(prompt, {}).setdefault(answer, []).append(score)
    return {
        prompt: {answer: float(np.mean(values)) for answer, values in answers.items()}
        for prompt, answers in scores.items()
    }


def _read_file(path: Path) -> Iterator[tuple[str, str, float]]:
    """Prompt, answer and mean score of each row that has all three; rows with pictures are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        # Only leading lines are comments: an answer inside the table may well have a line that starts with "#".
        rows = csv.DictReader(itertools.dropwhile(lambda line: line.startswith(("#", '"#')), file))
        columns = rows.fieldnames or []
        judges = [name for name in columns if name == "human_score" or name.startswith("human_score_")]
        missing = [name for name in ("objective", "assistant_response") if name not in columns]
        if missing or not judges:
            names = ", ".join([*missing, *([] if judges else ["human_score"])])
            raise ValueError(
                f"{path.name} lacks the column {names}: it is not one of PyRIT's files, so fetch them again."
            )
        for number, row in enumerate(rows):
            if row.get("data_type") not in (None, "", "text"):
                continue
            prompt, answer = (row["objective"] or "").strip(), (row["assistant_response"] or "").strip()
            scores = [_score(row, path.name, number, name) for name in judges if (row[name] or "").strip()]
            if prompt and answer and scores:
                yield prompt, answer, float(np.mean(scores))


def _score(row: Mapping[str, str], file: str, number: int, column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"{file}, row {number}, column {column} holds no harm score: it must be a number from 0 to 1, so fetch the "
            "files again."
        )
    return value
