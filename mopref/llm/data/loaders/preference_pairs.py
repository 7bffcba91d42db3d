"""Pairs of a chosen and a rejected answer, a data set for each objective."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mopref._warning import warn
from mopref.argument_kinds import checks_arguments
from mopref.llm.data.records import check_objectives

from .dialogue_texts import is_dialogue_text
from .dialogues import PROMPT_COLUMNS, Text, explicit_prompt, refuse_rendered_inputs, text_or_messages
from .labelled_pairs import LabelledPair, answer_key, checked_pair, joined_records
from .loader import LOADERS, Record
from .report import LoadReport, MalformedRow, OnMalformed, check_on_malformed, converted_rows, tell
from .shapes import missing_column, shape_advice
from .sources import ColumnMap, DataSource, Rows, check_columns_map, source_of_each

__all__ = ["load_preference_pairs"]

# In characters: shorter prompts, such as a greeting, are repeated for good reasons.
_LONG_PROMPT = 20
_COLUMNS = (*PROMPT_COLUMNS, "input", "history", "system", "chosen", "rejected")


@LOADERS.register("preference-pairs")
@checks_arguments(but=("sources",))
def load_preference_pairs(
    sources: Mapping[str, Rows | DataSource],
    *,
    columns: ColumnMap | None = None,
    split: str = "train",
    limit: int | None = None,
    folder: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    on_malformed: OnMalformed = "error",
    report: LoadReport | None = None,
) -> list[Record]:
    """Pairs of a chosen and a rejected answer as preference records, a data set for each objective.

    A pair that is in several data sets becomes one record with several labels; on the objectives in whose data sets it
    is not, it is not labelled (−1). One that an objective's data set labels both ways is a tie (−1), and is counted.
    The same file may stand for several objectives, with another ``columns`` in a ``DataSource`` for each.

    Rows have ``chosen`` and ``rejected``, and are read in these shapes, by their columns:

    * ``prompt``: text or chat messages; the answers are text, or the assistant's messages, or whole dialogues;
    * no prompt: the answers are dialogues, as chat messages or as text, and the beginning that they share is the
      prompt. Texts are parted at the last ``Assistant:`` that they share, or without turns at the last white space.
      Since answers without their prompt look the same, other texts beside them are refused, unless ``columns`` says
      ``{"prompt": None}``;
    * ``instruction`` with ``input`` and ``history``: alpaca's columns;
    * ``conversations`` or ``messages``: turns, in ShareGPT's words (``from``, ``value``) or chat messages;
    * ``system`` beside any of them: text, which becomes the first message.

    Left out and counted: empty texts, two equal answers, dialogues that part before their last turn. If most answers
    begin with their prompt, a warning says so.

    Args:
        sources: maps an objective to its data set: a hub id, a local file or folder, rows, or a ``DataSource``, which
            has its own options.
        columns: maps the names above to the data's columns; ``None`` in place of a column says that there is none.
        split: the split of folders and hub data sets.
        limit: only so many rows from the start of each; ``None`` for all.
        folder: the folder of the data sets that holds the rows.
        subset: the configuration of hub data sets that have several.
        revision: the branch, tag or commit of hub data sets.
        seed: decides which of two answers becomes ``response_0``, so that the position says nothing about the label.
        on_malformed: ``"error"``, or ``"drop"`` to leave out and count rows that are something else than such pairs.
        report: is filled with counts by reason.

    Raises:
        FileNotFoundError: no such file, folder or data set.
        ValueError: rows of another shape (their columns are named, and the loader that reads them), a malformed row, or
            no record left.

    Source: https://huggingface.co/docs/trl/dataset_formats (preference) and
        https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md (preference dataset).

    Example:
        >>> helpful = [{"prompt": "Why?", "chosen": "So.", "rejected": "No."}]
        >>> harmless = [{"prompt": "Why?", "chosen": "No.", "rejected": "So."}]
        >>> record, = load_preference_pairs({"helpful": helpful, "harmless": harmless})
        >>> record["helpful"] + record["harmless"]
        1
    """
    check_on_malformed(on_malformed)
    own = DataSource("", split, limit, folder, subset, revision, columns or {})
    data_sets = source_of_each(sources, own, "load_preference_pairs")
    objectives = check_objectives(tuple(data_sets))
    for source in data_sets.values():
        check_columns_map(source.columns, _COLUMNS)
    report = LoadReport() if report is None else report

    pairs = _labelled_pairs(data_sets, on_malformed, report)
    records = joined_records(pairs, objectives, seed, report)
    tell(report, records, objectives)
    return records


def _labelled_pairs(
    data_sets: Mapping[str, DataSource], on_malformed: OnMalformed, report: LoadReport
) -> Iterator[LabelledPair]:
    """The pairs of every objective's data set; a warning tells prompts that are said twice."""
    for objective, source in data_sets.items():
        convert = _pair_maker(objective, has_prompt=source.columns.get("prompt", "") is not None)
        count = repeats = 0
        for pair in converted_rows(source.rows(), convert, report, on_malformed, objective):
            count += 1
            repeats += _repeats_prompt(pair)
            yield pair
        if 2 * repeats > count:
            warn(
                f"{objective}: in {repeats} of {count} rows both answers begin with the prompt, which is then said "
                "twice: if they are whole texts, say by columns={'prompt': None} that the prompt is in them.",
            )


def _pair_maker(objective: str, has_prompt: bool) -> Callable[[Mapping[str, Any]], LabelledPair]:
    """What makes a labelled pair of a row; the chosen answer is the first one."""

    def make(row: Mapping[str, Any]) -> LabelledPair:
        refuse_rendered_inputs(row)
        for column in ("chosen", "rejected"):
            if row.get(column) is None:
                raise missing_column(column, row)
        chosen, rejected = (text_or_messages(row[column], column) for column in ("chosen", "rejected"))
        prompt = explicit_prompt(row) if has_prompt else None
        if has_prompt and prompt is None:
            _refuse_answers_alone(row, chosen, rejected)
        return checked_pair(prompt, chosen, rejected, {objective: 0})

    return make


def _repeats_prompt(pair: LabelledPair) -> bool:
    """Whether both answers say a prompt of some length once more."""
    prompt = pair.prompt if isinstance(pair.prompt, str) else pair.prompt[-1]["content"]
    start = prompt.strip()
    return len(start) >= _LONG_PROMPT and all(answer_key(answer).startswith(start) for answer in pair.answers)


def _refuse_answers_alone(row: Mapping[str, Any], chosen: Text, rejected: Text) -> None:
    """Refuse answers without a prompt that are no dialogues, as they are where the prompt is under another name."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        others = [name for name, value in row.items() if name not in ("chosen", "rejected") and isinstance(value, str)]
        is_alone = bool(others) and not (is_dialogue_text(chosen) and is_dialogue_text(rejected))
    else:
        dialogues = [answer for answer in (chosen, rejected) if not isinstance(answer, str)]
        is_alone = all(message["role"] == "assistant" for answer in dialogues for message in answer)
    if is_alone:
        raise MalformedRow(
            "no prompt",
            f"there is no prompt; {shape_advice(row)}. If the answers are whole texts that begin with it, say so by "
            "columns={'prompt': None}.",
        )
