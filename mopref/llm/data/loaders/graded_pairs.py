"""Pairs of answers with a grade that says which one is better, and by how much."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mopref.argument_kinds import checks_arguments

from .dialogues import PROMPT_COLUMNS, explicit_prompt, refuse_rendered_inputs, text_or_messages
from .labelled_pairs import LabelledPair, checked_pair, joined_records
from .loader import LOADERS, Record
from .ratings import Attribute, Attributes, Margin, checked_attributes, checked_margins, label, read_rating
from .report import LoadReport, OnMalformed, check_on_malformed, converted_rows, tell
from .shapes import missing_column
from .sources import ColumnMap, DataSource, Rows, check_columns_map

__all__ = ["load_graded_pairs"]

# The two answers, under the names that data sets give them.
_ANSWERS = (("response_1", "response_2"), ("response1", "response2"))
_COLUMNS = (*PROMPT_COLUMNS, "input", "history", "system", "response_1", "response_2")


@LOADERS.register("graded-pairs")
@checks_arguments(but=("source",))
def load_graded_pairs(
    source: Rows,
    grades: Attributes,
    *,
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
    """Pairs with a signed grade as preference records: above 0 the second answer is better, below 0 the first one.

    Rows have ``response_1`` and ``response_2`` (or ``response1``, ``response2``), the columns of a prompt that
    ``load_preference_pairs`` reads (HelpSteer3 has the chat messages ``context``), and grades. Where a grade is a list,
    as HelpSteer3's ``individual_preference``, the mean of its numbers or ``score`` counts. A grade that is missing or
    no number is counted, and its pair not labelled by it; a pair without any label is left out.

    Args:
        source: a hub id, a local file or folder, or rows.
        grades: names of grades, which name the objectives, or maps an objective to the name of its grade; with
            ``"lower"``, as in ``{"helpful": ("grade", "lower")}``, below 0 the second answer is better.
        margin: the smallest grade, but for its sign, that is a preference; 0 is none.
        columns: maps the names above to the data's columns.
        split: the split of a folder or hub data set.
        limit: only so many rows from the start; ``None`` for all.
        folder: the folder of the data set that holds the rows, such as HelpSteer3's ``preference``.
        subset: the configuration of a hub data set that has several.
        revision: the branch, tag or commit of a hub data set.
        seed: decides which of two answers becomes ``response_0``.
        on_malformed: ``"error"``, or ``"drop"`` to leave out and count rows that are something else.
        report: is filled with counts by reason.

    Raises:
        FileNotFoundError: no such file, folder or data set.
        ValueError: rows of another shape (their columns are named, and the loader that reads them), a malformed row, or
            no record left.

    Source: https://huggingface.co/datasets/nvidia/HelpSteer3 and the folder ``preference`` of
        https://huggingface.co/datasets/nvidia/HelpSteer2.

    Example:
        >>> rows = [{"context": "Why?", "response1": "So.", "response2": "No.", "overall_preference": -2}]
        >>> record, = load_graded_pairs(rows, {"helpful": "overall_preference"})
        >>> record[f"response_{record['helpful']}"]
        'So.'
    """
    check_on_malformed(on_malformed)
    check_columns_map(columns or {}, _COLUMNS)
    named = checked_attributes(grades)
    objectives = tuple(named)
    margins = checked_margins(margin, objectives)
    report = LoadReport() if report is None else report
    data_set = DataSource(source, split, limit, folder, subset, revision, columns or {})
    pairs = converted_rows(data_set.rows(), _pair_maker(named, margins, report), report, on_malformed)
    records = joined_records(pairs, objectives, seed, report)
    tell(report, records, objectives)
    return records


def _pair_maker(
    grades: Mapping[str, Attribute], margins: Sequence[float], report: LoadReport
) -> Callable[[Mapping[str, Any]], LabelledPair]:
    """What makes a labelled pair of a row."""

    def make(row: Mapping[str, Any]) -> LabelledPair:
        refuse_rendered_inputs(row)
        prompt = explicit_prompt(row)
        if prompt is None:
            raise missing_column("prompt", row)
        names = next((names for names in _ANSWERS if row.get(names[0]) is not None), _ANSWERS[0])
        for name in names:
            if row.get(name) is None:
                raise missing_column(name, row)
        first, second = (text_or_messages(row[name], name) for name in names)
        pair = checked_pair(prompt, first, second, {})
        labels = {}
        for (objective, grade), margin in zip(grades.items(), margins, strict=True):
            number = read_rating(_mean_grade(row.get(grade.column)), grade, objective, report.unlabelled)
            # A grade is how much better the second answer is than the first.
            labels[objective] = -1 if number is None else label(0.0, number, margin)
            if number is not None and labels[objective] < 0:
                report.unlabelled[f"{objective}: tie"] += 1
        return pair._replace(labels=labels)

    return make


def _mean_grade(value: Any) -> Any:
    """The mean of several annotators' grades; one that is missing or no number makes the others' mean unknown, too."""
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        return value
    grades = [entry.get("score") if isinstance(entry, Mapping) else entry for entry in value]
    numbers = [grade for grade in grades if isinstance(grade, int | float) and not isinstance(grade, bool)]
    return sum(numbers) / len(numbers) if len(numbers) == len(grades) > 0 else None
