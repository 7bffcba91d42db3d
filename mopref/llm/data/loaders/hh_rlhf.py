"""HH-RLHF: dialogues of which one is preferred, in a folder for each objective."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mopref.llm.data.records import check_objectives

from .loader import LOADERS, Record, read_rows, require_columns, usable_records

__all__ = ["load_hh_rlhf"]

_HH_ANSWER = "\n\nAssistant:"
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")


@LOADERS.register("hh-rlhf")
def load_hh_rlhf(
    source: str | os.PathLike[str] = "Anthropic/hh-rlhf",
    folders: Mapping[str, Sequence[str]] | None = None,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
) -> list[Record]:
    """Return HH-RLHF as records; a record is labelled on the objective its folder belongs to and on no other.

    ``folders`` maps an objective to folders of the data set, by default ``helpful`` to ``helpful-base`` and
    ``harmless`` to ``harmless-base``. ``chosen`` and ``rejected`` are whole dialogues; their common start up to its
    last ``Assistant:`` becomes the prompt (chat messages), the rest the two responses (text). ``seed`` decides which of
    the two becomes ``response_0``, so that the position says nothing about the label. Dialogues that part before the
    last turn are left out with a warning. ``source`` is the hub id or a local folder that holds the named folders;
    ``limit`` is the largest number of rows per folder. Raises ValueError, naming row and column, for missing columns
    and texts that are no such dialogue. Source: https://huggingface.co/datasets/Anthropic/hh-rlhf.
    """
    chosen_folders = folders if folders is not None else {"helpful": ["helpful-base"], "harmless": ["harmless-base"]}
    objectives = check_objectives(tuple(chosen_folders))
    generator = np.random.default_rng(seed)
    records = []
    for objective, names in chosen_folders.items():
        for folder in [names] if isinstance(names, str) else names:
            for number, row in enumerate(read_rows(source, split, limit, folder)):
                require_columns(row, number, ("chosen", "rejected"), folder)
                # Drawn for every row, so that a row that is left out does not change the sides of those after it.
                preferred = int(generator.integers(2))
                prompt, chosen, rejected = _split_dialogues(row, number, folder)
                responses = (chosen, rejected) if preferred == 0 else (rejected, chosen)
                record: Record = {"prompt": prompt, "response_0": responses[0], "response_1": responses[1]}
                record.update(dict.fromkeys(objectives, -1))
                record[objective] = preferred
                records.append(record)
    return usable_records(records, objectives)


def _split_dialogues(row: Mapping[str, Any], number: int, folder: str) -> tuple[list[dict[str, str]], str, str]:
    """Return prompt and both responses of an HH-RLHF row; empty if the two dialogues part before the last turn."""
    for column in ("chosen", "rejected"):
        if (
            not isinstance(row[column], str)
            or _HH_ANSWER not in row[column]
            or not row[column].startswith("\n\nHuman:")
        ):
            raise ValueError(
                f"{folder}, row {number}, column {column!r}: not a dialogue that starts with a line 'Human:' after two "
                "line breaks and has a line 'Assistant:' later"
            )
    chosen, rejected = row["chosen"], row["rejected"]
    pairs = enumerate(zip(chosen, rejected, strict=False))
    common = next((place for place, (one, other) in pairs if one != other), min(len(chosen), len(rejected)))
    start = chosen[:common].rfind(_HH_ANSWER)
    after = start + len(_HH_ANSWER)
    if start < 0 or _HH_TURN.search(chosen[after:]) or _HH_TURN.search(rejected[after:]):
        return [], "", ""
    return _messages(chosen[:start]), chosen[after:].strip(), rejected[after:].strip()


def _messages(dialogue: str) -> list[dict[str, str]]:
    """Return an HH-RLHF dialogue as chat messages; neighbouring turns of one speaker become one message."""
    messages: list[dict[str, str]] = []
    parts = _HH_TURN.split(dialogue)
    for speaker, text in zip(parts[1::2], parts[2::2], strict=True):
        role, content = "user" if speaker == "Human" else "assistant", text.strip()
        if not content:
            continue
        # Many chat templates insist on roles that alternate.
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append({"role": role, "content": content})
    return messages if messages and messages[-1]["role"] == "user" else []
