"""Answers with a thumb up or down, a data set for each objective."""

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from mopref._warning import warn
from mopref.argument_kinds import checks_arguments
from mopref.llm.data.records import prompt_key
from mopref.llm.data.unpaired_records import check_unpaired_objectives

from .dialogues import (
    PROMPT_COLUMNS,
    Text,
    checked_prompt,
    checked_response,
    explicit_prompt,
    last_turn,
    refuse_rendered_inputs,
    text_or_messages,
)
from .labelled_pairs import answer_key, smaller_text
from .loader import LOADERS, Record
from .report import LoadReport, MalformedRow, OnMalformed, check_on_malformed, converted_rows, tell
from .shapes import missing_column
from .sources import ColumnMap, DataSource, Rows, check_columns_map, source_of_each

__all__ = ["load_unpaired_preferences"]

# Under which names the answer and the label stand, the first that is there.
_RESPONSES = ("response", "completion", "output")
_LABEL_COLUMNS = ("label", "kto_tag")
_COLUMNS = (*PROMPT_COLUMNS, "input", "history", "system", "response", "label")
_WORDS = {"true": 1, "false": 0, "1": 1, "0": 0, "-1": -1, "": -1, "n/a": -1}


@LOADERS.register("unpaired-preferences")
@checks_arguments(but=("sources",))
def load_unpaired_preferences(
    sources: Mapping[str, Rows | DataSource],
    *,
    columns: ColumnMap | None = None,
    split: str = "train",
    limit: int | None = None,
    folder: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    on_malformed: OnMalformed = "error",
    report: LoadReport | None = None,
) -> list[Record]:
    """Answers with a thumb up or down as unpaired records, a data set for each objective.

    An answer that is in several data sets becomes one record with several labels; on the others it is not labelled
    (−1). One that an objective's data set labels both good and bad is not labelled by it, and is counted. See
    ``mopref.llm.data.unpaired_records``; ``tokenize_unpaired`` makes rows of the records.

    Rows have a prompt, as ``load_preference_pairs`` reads it, the answer as ``response``, ``completion`` (TRL) or
    ``output`` (alpaca), and ``label`` or ``kto_tag``; or ``messages`` or ``conversations`` whose last turn is the
    answer. A label is true or 1 for good, false or 0 for bad, blank or −1 for not labelled.

    Args:
        sources: maps an objective to its data set: a hub id, a local file or folder, rows, or a ``DataSource``, which
            has its own options.
        columns: maps the names above to the data's columns.
        split: the split of folders and hub data sets.
        limit: only so many rows from the start of each; ``None`` for all.
        folder: the folder of the data sets that holds the rows.
        subset: the configuration of hub data sets that have several.
        revision: the branch, tag or commit of hub data sets.
        on_malformed: ``"error"``, or ``"drop"`` to leave out and count rows that are something else.
        report: is filled with counts by reason.

    Raises:
        FileNotFoundError: no such file, folder or data set.
        ValueError: rows of another shape (their columns are named, and the loader that reads them), a malformed row, or
            no record left.

    Source: https://huggingface.co/docs/trl/dataset_formats (unpaired preference).

    Example:
        >>> long = {"prompt": "Why?", "completion": "Well, because.", "label": True}
        >>> short = {"prompt": "Why?", "completion": "So.", "label": False}
        >>> sources = {"helpful": [long, short], "brief": [{**long, "label": False}, {**short, "label": True}]}
        >>> load_unpaired_preferences(sources)[1]
        {'prompt': 'Why?', 'response': 'So.', 'helpful': 0, 'brief': 1}
    """
    check_on_malformed(on_malformed)
    own = DataSource("", split, limit, folder, subset, revision, columns or {})
    data_sets = source_of_each(sources, own, "load_unpaired_preferences")
    objectives = check_unpaired_objectives(tuple(data_sets))
    for source in data_sets.values():
        check_columns_map(source.columns, _COLUMNS)
    report = LoadReport() if report is None else report
    records: dict[tuple[str, str], Record] = {}
    labels: dict[tuple[str, str], dict[str, int]] = {}
    for objective, source in data_sets.items():
        for prompt, response, label in converted_rows(source.rows(), _answer, report, on_malformed, objective):
            key = (prompt_key(prompt), answer_key(response))
            record = records.setdefault(key, {"prompt": prompt, "response": response})
            record["prompt"] = smaller_text(record["prompt"], prompt)
            record["response"] = smaller_text(record["response"], response)
            bits = labels.setdefault(key, {})
            bits[objective] = bits.get(objective, 0) | (1 << label if label >= 0 else 0)
    made = [record | _labels(labels[key], objectives, report) for key, record in records.items()]
    kept = [record for record in made if max(record[name] for name in objectives) >= 0]
    for _ in range(len(made) - len(kept)):
        report.leave_out("answers: no label on any objective")
    tell(report, kept, objectives)
    _warn_of_one_kind(kept, objectives)
    return kept


def _warn_of_one_kind(records: Sequence[Record], objectives: Sequence[str]) -> None:
    for name in objectives:
        kinds = {record[name] for record in records} - {-1}
        if len(kinds) == 1:
            word = "good" if kinds == {0} else "bad"
            warn(
                f"no answer is labelled {word} on {name!r}, and both kinds are needed to learn what it is: add some, "
                "and where −1 stands for a thumb down give 0, since −1 says not labelled.",
            )


def _labels(bits: Mapping[str, int], objectives: tuple[str, ...], report: LoadReport) -> dict[str, int]:
    """The label of each objective from those that its rows gave: bit 0 is bad, bit 1 good."""
    for name, value in bits.items():
        if value == 0b11:
            report.unlabelled[f"{name}: labelled both ways"] += 1
    return {name: {0b01: 0, 0b10: 1}.get(bits.get(name, 0), -1) for name in objectives}


def _answer(row: Mapping[str, Any]) -> tuple[Text, Text, int]:
    """The prompt, answer and label of a row."""
    refuse_rendered_inputs(row)
    label_column = next((name for name in _LABEL_COLUMNS if name in row), None)
    if label_column is None:
        raise missing_column("label", row)
    prompt = explicit_prompt(row)
    if prompt is None:
        raise missing_column("prompt", row)
    column = next((name for name in _RESPONSES if row.get(name) is not None), None)
    if column is not None:
        response = text_or_messages(row[column], column)
    elif isinstance(prompt, list):
        prompt, response = last_turn(prompt, "messages")
    else:
        raise missing_column("response", row)
    return checked_prompt(prompt), checked_response(response), _label(row[label_column], label_column)


def _label(value: Any, column: str) -> int:
    if value is None or value != value:
        return -1
    text = str(value).strip().lower()
    if isinstance(value, Number) and value in (0, 1, -1):
        text = str(int(value))  # type: ignore[call-overload]
    if text not in _WORDS:
        raise MalformedRow(
            "unreadable label",
            f"column {column!r} is a {type(value).__name__} that is no label: it must be true or 1 (good), false or 0 "
            "(bad), or blank or −1 (not labelled).",
        )
    return _WORDS[text]
