"""HH-RLHF: dialogues of which one is preferred, in a folder for each objective."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.llm.data.records import check_objectives, surrogate_problem
from mopref.setting_types import checked_numpy_seed

from .dialogue_texts import is_dialogue_text, split_dialogue_texts
from .loader import LOADERS, Record, read_rows, require_columns, usable_records
from .sources import ColumnMap, check_columns_map, renamed_rows

__all__ = ["load_hh_rlhf"]


@LOADERS.register("hh-rlhf")
@checks_arguments(but=("source", "folders"))
def load_hh_rlhf(
    source: str | os.PathLike[str] = "Anthropic/hh-rlhf",
    folders: Mapping[str, Sequence[str]] | None = None,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
    columns: ColumnMap | None = None,
    revision: str | None = None,
) -> list[Record]:
    """HH-RLHF as preference records; one is labelled on the objective its folder belongs to and on no other.

    ``chosen`` and ``rejected`` are whole dialogues; their common start up to its last ``Assistant:`` becomes the prompt
    (chat messages), the rest the two responses (text). Dialogues that part before the last turn are left out with a
    warning.

    Args:
        source: a hub id, or a local folder that holds the folders.
        folders: maps an objective to folders of the data set; by default ``helpful`` to ``helpful-base`` and
            ``harmless`` to ``harmless-base``.
        split: the split of the data set.
        limit: only so many rows from the start of each folder; ``None`` for all.
        seed: decides which of the two becomes ``response_0``, so that the position says nothing about the label.
        columns: maps ``chosen`` and ``rejected`` to the columns of a data set of the same shape.
        revision: the branch, tag or commit of a hub data set.

    Raises:
        FileNotFoundError: no such folder or data set.
        ValueError: a missing folder or column, or a text that is no such dialogue; row and column are named.
        TypeError: an argument of another type.

    Source: https://huggingface.co/datasets/Anthropic/hh-rlhf.
    """
    folders = folders if folders is not None else {"helpful": ["helpful-base"], "harmless": ["harmless-base"]}
    if not isinstance(folders, Mapping):
        raise TypeError(f"folders is {folders!r}: give a dict of an objective to the list of its folders.")
    objectives = check_objectives(tuple(folders))
    columns = columns or {}
    check_columns_map(columns, ("chosen", "rejected"))
    generator = np.random.default_rng(checked_numpy_seed(seed))
    records = []
    for objective, names in folders.items():
        for folder in _folders(objective, names):
            for prompt, chosen, rejected in _dialogues(source, folder, split, limit, columns, revision):
                # Drawn for every row, so that a row that is left out does not change the sides of those after it.
                preferred = int(generator.integers(2))
                responses = (chosen, rejected) if preferred == 0 else (rejected, chosen)
                record: Record = {"prompt": prompt, "response_0": responses[0], "response_1": responses[1]}
                record.update(dict.fromkeys(objectives, -1))
                record[objective] = preferred
                records.append(record)
    return usable_records(records, objectives)


def _folders(objective: str, names: Any) -> list[str]:
    return list(checked_kind([names] if isinstance(names, str) else names, Sequence[str], f"folders of {objective!r}"))


def _dialogues(
    source: str | os.PathLike[str], folder: str, split: str, limit: int | None, columns: ColumnMap, revision: str | None
) -> Iterator[tuple[list[dict[str, str]], str, str]]:
    """Prompt, chosen and rejected response of each row of a folder; empty if they part before the last turn."""
    for number, row in enumerate(renamed_rows(read_rows(source, split, limit, folder, revision=revision), columns)):
        require_columns(row, number, ("chosen", "rejected"), folder)
        for column in ("chosen", "rejected"):
            if not is_dialogue_text(row[column]):
                raise ValueError(
                    f"{folder}, row {number}, column {column!r} is no dialogue: it must start with a line 'Human:' "
                    "after two line breaks and have a line 'Assistant:' later."
                )
            problem = surrogate_problem(row[column])
            if problem:
                raise ValueError(f"{folder}, row {number}, column {column!r} {problem}")
        yield split_dialogue_texts(row["chosen"], row["rejected"])
