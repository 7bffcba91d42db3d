"""Public preference data as preference records (see `mopref.llm.records`), from the Hugging Face hub or local files.

A loader is a function that returns a list of records; `LOADERS` knows it by name. To add one: write the function, add a
line to `LOADERS`. Rows with an empty prompt or response cannot be trained on; public data has some, and loaders leave
them out with a warning.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mopref.llm.offline import harm_pairs
from mopref.llm.records import TEXT_COLUMNS, check_objectives, text_problem, validate_records

__all__ = ["LOADERS", "load", "load_hh_rlhf", "load_pku_saferlhf", "load_records"]

Record = dict[str, Any]

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_HH_ANSWER = "\n\nAssistant:"
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def load_pku_saferlhf(
    source: str | os.PathLike[str] = "PKU-Alignment/PKU-SafeRLHF", split: str = "train", limit: int | None = None
) -> list[Record]:
    """Return PKU-SafeRLHF as records with the objectives ``helpful`` and ``harmless``.

    ``better_response_id`` (the more helpful response, apart from safety) becomes ``helpful`` and ``safer_response_id``
    ``harmless``. ``source`` is a hub id or a local file or folder of the same shape (JSON lines, JSON, CSV, parquet;
    gzip works); only the first ``limit`` rows are taken if given. Raises ValueError, naming row and column, for missing
    columns and other labels than 0 and 1. Source: https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF.
    """
    columns = {"better_response_id": "helpful", "safer_response_id": "harmless"}
    records = []
    for number, row in enumerate(_rows(source, split, limit)):
        _require(row, number, (*TEXT_COLUMNS, *columns))
        for old in columns:
            if type(row[old]) is not int or row[old] not in (0, 1):
                raise ValueError(f"row {number}, column {old!r}: {row[old]!r} is not the index of a response, 0 or 1")
        record: Record = {name: row[name] for name in TEXT_COLUMNS}
        record.update({new: row[old] for old, new in columns.items()})
        records.append(record)
    return _usable(records, ("helpful", "harmless"))


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
            for number, row in enumerate(_rows(source, split, limit, folder)):
                _require(row, number, ("chosen", "rejected"), folder)
                # Drawn for every row, so that a row that is left out does not change the sides of those after it.
                preferred = int(generator.integers(2))
                prompt, chosen, rejected = _split_dialogues(row, number, folder)
                responses = (chosen, rejected) if preferred == 0 else (rejected, chosen)
                record: Record = {"prompt": prompt, "response_0": responses[0], "response_1": responses[1]}
                record.update(dict.fromkeys(objectives, -1))
                record[objective] = preferred
                records.append(record)
    return _usable(records, objectives)


def load_records(
    path: str | os.PathLike[str], objectives: Sequence[str], split: str = "train", limit: int | None = None
) -> list[Record]:
    """Return your own records from a file or folder that holds them as they are: JSON lines, JSON, CSV or parquet.

    The columns are ``prompt``, ``response_0``, ``response_1`` and one integer column per objective; other columns are
    left out. ``path`` may be a hub id, too. Raises ValueError, naming row and column, for everything `validate_records`
    refuses; no row is dropped silently.
    """
    names = check_objectives(objectives)
    records = []
    for number, row in enumerate(_rows(path, split, limit)):
        _require(row, number, (*TEXT_COLUMNS, *names))
        records.append({name: row[name] for name in (*TEXT_COLUMNS, *names)})
    validate_records(records, names)
    return records


LOADERS: dict[str, Callable[..., list[Record]]] = {
    "pku-saferlhf": load_pku_saferlhf,
    "hh-rlhf": load_hh_rlhf,
    "harm-pairs": harm_pairs,
    "records": load_records,
}


def load(name: str, **options: Any) -> list[Record]:
    """Return the records of the loader called ``name``, called with ``options``; ValueError names the known ones."""
    if name not in LOADERS:
        raise ValueError(f"there is no loader {name!r}; known are {', '.join(sorted(LOADERS))}")
    return LOADERS[name](**options)


def _rows(
    source: str | os.PathLike[str], split: str, limit: int | None, folder: str | None = None
) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a hub data set or of local files, the first ``limit`` if given."""
    from datasets import load_dataset  # type: ignore[import-untyped]

    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, but must be at least 1, or None for all rows")
    path = Path(source)
    if path.is_file():
        if folder is not None:
            raise ValueError(f"{path} is a file, but must be the folder that holds the folder {folder!r}")
        # "answers.jsonl.gz" is read as JSON lines; datasets unpacks it.
        kinds = [suffix for suffix in path.suffixes[-2:] if suffix in _BUILDERS]
        if not kinds:
            raise ValueError(
                f"{path.name} is none of the files that can be read: {', '.join(_BUILDERS)}, also with .gz"
            )
        table = load_dataset(_BUILDERS[kinds[-1]], data_files=str(path), split="train")
    else:
        if folder is not None and path.is_dir() and not (path / folder).is_dir():
            raise ValueError(
                f"{path} holds no folder {folder!r}; it has {', '.join(sorted(p.name for p in path.iterdir()))}"
            )
        table = load_dataset(str(source), data_dir=folder, split=split)
    return table if limit is None else table.select(range(min(limit, len(table))))


def _require(row: Mapping[str, Any], number: int, columns: Sequence[str], place: str | None = None) -> None:
    for column in columns:
        if column not in row or row[column] is None:
            where = f"{place}, row {number}" if place else f"row {number}"
            raise ValueError(f"{where}: column {column!r} is missing or blank; there are {', '.join(map(repr, row))}")


def _usable(records: list[Record], objectives: Sequence[str]) -> list[Record]:
    """Leave out records with an empty prompt or response, with a warning that counts them, and check the others."""
    kept = [
        record for record in records if not any(text_problem(record[name], name != "prompt") for name in TEXT_COLUMNS)
    ]
    if len(kept) < len(records):
        warnings.warn(
            f"left out {len(records) - len(kept)} of {len(records)} rows: their prompt or a response is empty, or "
            "their dialogues part "
            "before the last turn",
            stacklevel=3,
        )
    validate_records(kept, objectives)
    return kept


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
