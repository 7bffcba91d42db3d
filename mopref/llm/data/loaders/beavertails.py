"""BeaverTails: answers to risky questions, with the kinds of harm that they do."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mopref.argument_kinds import checked_texts, checks_arguments
from mopref.llm.data.records import check_objectives

from .dialogues import checked_prompt, checked_response, explicit_prompt, refuse_rendered_inputs, text_or_messages
from .labelled_pairs import joined_records
from .loader import LOADERS, Record
from .ratings import Margin, PairChoice, RatedAnswer, checked_margins, checked_pair_choice, rated_pairs
from .report import LoadReport, MalformedRow, OnMalformed, check_on_malformed, converted_rows, tell
from .shapes import missing_column
from .sources import ColumnMap, DataSource, Rows, check_columns_map

__all__ = ["load_beavertails"]

_COLUMNS = ("prompt", "response", "category", "is_safe")


@LOADERS.register("beavertails")
@checks_arguments(but=("source",))
def load_beavertails(
    source: Rows = "PKU-Alignment/BeaverTails",
    objective: str | None = "harmless",
    categories: Mapping[str, str | Sequence[str]] | None = None,
    *,
    pairs: PairChoice = "all",
    margin: Margin = 1.0,
    columns: ColumnMap | None = None,
    split: str = "330k_train",
    limit: int | None = None,
    folder: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    on_malformed: OnMalformed = "error",
    report: LoadReport | None = None,
) -> list[Record]:
    """BeaverTails as preference records: of two answers to a prompt the one that does no harm is preferred.

    The data set judges answers one by one: ``is_safe``, and under ``category`` for each of 14 kinds of harm whether the
    answer does it. Two answers to the same prompt become a record where one is safe and the other is not
    (``objective``), or where one does a kind of harm and the other does not (``categories``). On objectives on which
    they do not differ the record is not labelled, and pairs that differ on none are left out. An answer that several
    people judged stands in several rows: its judgement is the share of them that found no harm, and with a margin of 1
    only answers on which all agree are compared. Nothing is said of helpfulness: an unsafe answer may help more.

    Args:
        source: a hub id, a local file or folder of the same shape, or rows.
        objective: what ``is_safe`` is called; ``None`` for categories alone.
        categories: maps an objective to the category that it avoids, or to several, of which it avoids all; for example
            ``{"private": "privacy_violation"}``.
        pairs: ``"all"`` pairs that differ, ``"best-worst"`` (one of each prompt for each objective), or a number, so
            many of each prompt at random.
        margin: the smallest difference of the shares that is a preference, for all objectives or by objective.
        columns: maps the data set's names to the columns of one of the same shape.
        split: ``330k_train``, ``330k_test``, ``30k_train`` or ``30k_test``.
        limit: only so many rows from the start; ``None`` for all.
        folder: the folder of the data set that holds the rows.
        subset: the configuration of a hub data set that has several.
        revision: the branch, tag or commit of a hub data set.
        seed: decides random pairs, and which of two answers becomes ``response_0``.
        on_malformed: ``"error"``, or ``"drop"`` to leave out and count rows that are something else.
        report: is filled with counts by reason.

    Raises:
        FileNotFoundError: no such file, folder or data set.
        ValueError: no objective, an unknown category, rows of another shape, a malformed row, or no record left.

    Source: https://huggingface.co/datasets/PKU-Alignment/BeaverTails.
    """
    check_on_malformed(on_malformed)
    check_columns_map(columns or {}, _COLUMNS)
    named = {
        name: [kinds] if isinstance(kinds, str) else checked_texts(kinds, f"categories of {name!r}")
        for name, kinds in (categories or {}).items()
    }
    own = () if objective is None else (objective,)
    objectives = check_objectives((*own, *named))
    margins = checked_margins(margin, objectives)
    checked_pair_choice(pairs)
    report = LoadReport() if report is None else report
    data_set = DataSource(source, split, limit, folder, subset, revision, columns or {})
    answers = converted_rows(data_set.rows(), _answer_maker(own, named), report, on_malformed)
    labelled = rated_pairs(answers, objectives, margins, pairs, seed, report)
    records = joined_records(labelled, objectives, seed, report)
    tell(report, records, objectives)
    return records


def _answer_maker(
    own: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> Callable[[Mapping[str, Any]], RatedAnswer]:
    """What makes an answer of a row, rated 1 on each objective if it does no such harm, else 0."""

    def make(row: Mapping[str, Any]) -> RatedAnswer:
        refuse_rendered_inputs(row)
        needed = ("prompt", "response", *(["is_safe"] if own else []), *(["category"] if categories else []))
        for column in needed:
            if row.get(column) is None:
                raise missing_column(column, row)
        prompt = checked_prompt(explicit_prompt({"prompt": row["prompt"]}) or "")
        response = checked_response(text_or_messages(row["response"], "response"))
        safe = [float(_flag(row["is_safe"], "is_safe"))] if own else []
        return RatedAnswer(
            prompt, response, (*safe, *(_harmless(row["category"], kinds) for kinds in categories.values()))
        )

    return make


def _harmless(flags: Any, kinds: Sequence[str]) -> float:
    """1 if none of these kinds of harm is done, else 0."""
    if not isinstance(flags, Mapping):
        raise MalformedRow(
            "no categories", f"column 'category' is a {type(flags).__name__}: it must hold a flag for each category."
        )
    unknown = next((kind for kind in kinds if flags.get(kind) is None), None)
    if unknown is not None:
        raise MalformedRow(
            "category missing", f"column 'category' has no {unknown!r}: choose of {', '.join(map(str, flags))}."
        )
    return float(not any(_flag(flags[kind], kind) for kind in kinds))


def _flag(value: Any, name: str) -> bool:
    """A flag, which a CSV file writes as text."""
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise MalformedRow(
            "no flag", f"{name!r} is a {type(value).__name__} that is no flag: it must be true or false."
        )
    return text in ("true", "1")
