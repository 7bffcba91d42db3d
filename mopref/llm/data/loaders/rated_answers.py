"""Answers that are rated on several attributes, an objective for each attribute."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from mopref._repr import quoted_list
from mopref.argument_kinds import checks_arguments

from .dialogues import (
    PROMPT_COLUMNS,
    Text,
    checked_prompt,
    checked_response,
    explicit_prompt,
    refuse_rendered_inputs,
    text_or_messages,
)
from .labelled_pairs import joined_records
from .loader import LOADERS, Record
from .ratings import (
    Attribute,
    Attributes,
    Margin,
    PairChoice,
    RatedAnswer,
    checked_attributes,
    checked_margins,
    checked_pair_choice,
    rated_pairs,
    read_rating,
)
from .report import LoadReport, MalformedRow, OnMalformed, UnfitRow, check_on_malformed, converted_rows, tell
from .shapes import missing_column
from .sources import ColumnMap, DataSource, Rows, check_columns_map

__all__ = ["load_rated_answers"]

_COLUMNS = (*PROMPT_COLUMNS, "input", "history", "system", "response", "completions")
# Where ratings of an answer stand, beside the answer itself.
_RATING_PARTS = ("annotations", "ratings", "scores")


@LOADERS.register("rated-answers")
@checks_arguments(but=("source",))
def load_rated_answers(
    source: Rows,
    attributes: Attributes,
    *,
    pairs: PairChoice = "all",
    margin: Margin = 0.0,
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
    """Rated answers as preference records: pairs of answers to a prompt, labelled by the difference of their ratings.

    Rows are read in these shapes, by their columns:

    * one answer a row: ``prompt``, ``response`` and a column for each rating, as HelpSteer and HelpSteer2 have it.
      Answers to the same prompt belong together, wherever they stand;
    * a list of answers a row: ``prompt`` or ``instruction``, and ``completions``. An entry is a dict with ``response``
      and the ratings beside it or under ``annotations`` (as in UltraFeedback), ``ratings`` or ``scores``; or a text,
      and then the ratings are lists in the row's own columns.

    Prompts are read as by ``load_preference_pairs``; HelpSteer's marked turns become chat messages. A rating is a
    number, a text that is one, or a dict that holds it as ``Rating``. Where it is missing (``N/A``) or no number, the
    answer's pairs are not labelled on that attribute, which is counted. An answer that is there twice has the mean of
    its ratings. A pair without any label is left out.

    Args:
        source: a hub id, a local file or folder, or rows.
        attributes: names of ratings, which name the objectives; or maps an objective to the name of its rating, or to
            that and ``"lower"`` where less of it is better, as ``{"concise": ("verbosity", "lower")}``.
        pairs: ``"all"`` pairs of a prompt's answers; ``"best-worst"``: for each attribute the answer rated best and the
            one rated worst; or a number, so many of each prompt's pairs at random, of those that have a label.
        margin: the smallest difference of two ratings that is a preference, for all objectives or by objective; equal
            ratings are none.
        columns: maps the names above to the data's columns, ``response`` also within an entry of a list.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; ``None`` for all.
        folder: the folder of the data set that holds the rows.
        subset: the configuration of a hub data set that has several.
        revision: the branch, tag or commit of a hub data set.
        seed: decides random pairs, and which of two answers becomes ``response_0``.
        on_malformed: ``"error"``, or ``"drop"`` to leave out and count rows that are something else.
        report: is filled with counts by reason.

    Raises:
        FileNotFoundError: no such file, folder or data set.
        ValueError: rows of another shape (their columns are named, and the loader that reads them), a malformed row, an
            attribute of which no rating is a number, or no record left.

    Source: https://huggingface.co/datasets/openbmb/UltraFeedback, https://huggingface.co/datasets/nvidia/HelpSteer,
        https://huggingface.co/datasets/nvidia/HelpSteer2.

    Example:
        >>> answers = [
        ...     {"prompt": "Why?", "response": "So.", "helpfulness": 4, "verbosity": 0},
        ...     {"prompt": "Why?", "response": "Well, because.", "helpfulness": 1, "verbosity": 3},
        ... ]
        >>> record, = load_rated_answers(answers, {"helpful": "helpfulness", "concise": ("verbosity", "lower")})
        >>> record[f"response_{record['helpful']}"], record["helpful"] == record["concise"]
        ('So.', True)
    """
    check_on_malformed(on_malformed)
    check_columns_map(own_columns := columns or {}, _COLUMNS)
    objectives = tuple(named := checked_attributes(attributes))
    margins, pairs = checked_margins(margin, objectives), checked_pair_choice(pairs)
    report = LoadReport() if report is None else report
    # An entry of a list has the response, so its name is looked up there or in the row, whichever it is in.
    row_columns = {name: column for name, column in own_columns.items() if name != "response"}
    data_set = DataSource(source, split, limit, folder, subset, revision, row_columns)
    convert = _answers_maker(named, own_columns.get("response") or "response", report)
    answers = list(chain.from_iterable(converted_rows(data_set.rows(), convert, report, on_malformed)))
    _refuse_no_ratings(answers, named, report)
    records = joined_records(rated_pairs(answers, objectives, margins, pairs, seed, report), objectives, seed, report)
    tell(report, records, objectives)
    return records


def _answers_maker(
    attributes: Mapping[str, Attribute], response_name: str, report: LoadReport
) -> Callable[[Mapping[str, Any]], list[RatedAnswer]]:
    """What makes rated answers of a row."""

    def make(row: Mapping[str, Any]) -> list[RatedAnswer]:
        refuse_rendered_inputs(row)
        prompt = explicit_prompt(row)
        if prompt is None:
            raise missing_column("prompt", row)
        prompt = checked_prompt(prompt)
        if row.get("completions") is not None:
            entries = list(_entries(row, attributes, response_name))
        elif row.get(response_name) is not None:
            entries = [_entry(row, attributes, response_name)]
        else:
            raise missing_column(response_name, row)
        if not entries:
            raise UnfitRow("no answers")
        return [answer for entry in entries if (answer := _rated(prompt, *entry)) is not None]

    def _rated(prompt: Text, response: Text, values: Sequence[Any]) -> RatedAnswer | None:
        try:
            response = checked_response(response)
        except UnfitRow:
            report.leave_out("answers: empty text")
            return None
        ratings = tuple(
            read_rating(value, attribute, objective, report.unlabelled)
            for value, (objective, attribute) in zip(values, attributes.items(), strict=True)
        )
        return RatedAnswer(prompt, response, ratings)

    return make


def _entry(
    answer: Mapping[str, Any], attributes: Mapping[str, Attribute], response_name: str
) -> tuple[Text, list[Any]]:
    """The response of an answer, and what it is rated for each attribute."""
    response = text_or_messages(answer[response_name], response_name)
    return response, [_rating_cell(answer, attribute.column) for attribute in attributes.values()]


def _entries(
    row: Mapping[str, Any], attributes: Mapping[str, Attribute], response_name: str
) -> Iterator[tuple[Text, list[Any]]]:
    """The same for each answer in a row's list."""
    completions = row["completions"]
    if isinstance(completions, str | Mapping) or not isinstance(completions, Sequence):
        raise MalformedRow("no list", f"column 'completions' is a {type(completions).__name__}: it must be a list.")
    for place, completion in enumerate(completions):
        if not isinstance(completion, Mapping):
            text = text_or_messages(completion, f"completions, entry {place}")
            values = [_rating_cell(row, attribute.column) for attribute in attributes.values()]
            yield text, [_part(value, place, len(completions)) for value in values]
        elif completion.get(response_name) is None:
            raise MalformedRow(
                "no response",
                f"column 'completions', entry {place} has {quoted_list(completion)}, but no "
                f"{response_name!r}: name what holds the answer by columns={{'response': …}}.",
            )
        else:
            yield _entry(completion, attributes, response_name)


def _rating_cell(container: Mapping[str, Any], column: str) -> Any:
    """A rating that stands beside an answer, or under one of the names that hold ratings; ``None`` if there is none."""
    if column in container:
        return container[column]
    parts = (container.get(name) for name in _RATING_PARTS)
    return next((part[column] for part in parts if isinstance(part, Mapping) and column in part), None)


def _part(values: Any, place: int, count: int) -> Any:
    """The rating of one of a row's answers."""
    if values is None:
        return None
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence) or len(values) != count:
        raise MalformedRow("ratings do not match", f"the ratings are no list of {count}, as the answers are.")
    return values[place]


def _refuse_no_ratings(answers: Sequence[RatedAnswer], attributes: Mapping[str, Attribute], report: LoadReport) -> None:
    """Refuse an attribute of which nothing is known, most often by a slip in its name."""
    for place, (objective, attribute) in enumerate(attributes.items()):
        if answers and all(answer.ratings[place] is None for answer in answers):
            counts = ", ".join(
                f"{count} {why}" for why, count in report.unlabelled.items() if why.startswith(objective)
            )
            raise ValueError(
                f"none of {len(answers)} answers has a number as {attribute.column!r} ({counts}): correct the name of "
                "the rating."
            )
