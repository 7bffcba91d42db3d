"""What a loader leaves out, and why: counted by reason, told in one warning, and there for the caller to read.

A row is *unfit* if it says nothing that can be trained on: an empty text, two equal answers. Public data has such rows,
and they are left out and counted. A row is *malformed* if it is something else than the loader reads: a column that is
missing, tools, images, a number in place of a text. That is an error which names the row, or with ``on_malformed =
"drop"`` one more reason to be counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from mopref._warning import warn

__all__ = ["LoadReport", "MalformedRow", "OnMalformed", "UnfitRow", "check_on_malformed", "converted_rows", "tell"]

OnMalformed = Literal["error", "drop"]
_Converted = TypeVar("_Converted")


class UnfitRow(Exception):
    """A row, or an answer in it, that holds nothing to train on; its text is the reason."""


class MalformedRow(ValueError):
    """A row that is something else than a loader reads.

    Args:
        reason: in a few words, the same for all rows of a kind, to be counted.
        problem: what is wrong, to follow the row's number in a message.
    """

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass
class LoadReport:
    """How many rows a loader read, how many records it made of them, and what it left out by reason.

    Give an empty one to a loader as ``report``, and read it afterwards.

    Args:
        rows: rows read.
        records: records made.
        left_out: maps a reason to how many were left out for it. A reason counts rows, or what it names before a
            colon: prompts, answers or pairs.
        unlabelled: maps an objective and a reason to how many labels it has not, or how many ratings say nothing.
        first_rows: maps a reason of ``left_out`` to the first row left out for it.

    Example:
        >>> report = LoadReport(rows=3, records=2)
        >>> report.leave_out("empty text", "row 1")
        >>> report.unlabelled["helpful: labelled both ways"] += 1
        >>> print(report)
        3 rows made 2 records; left out: 1 empty text (first: row 1); not labelled: 1 helpful: labelled both ways
    """

    rows: int = 0
    records: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    first_rows: dict[str, str] = field(default_factory=dict)

    def leave_out(self, reason: str, place: str | None = None) -> None:
        """Count what is left out, at the place of a row if it is one's."""
        self.left_out[reason] += 1
        if place is not None:
            self.first_rows.setdefault(reason, place)

    def __str__(self) -> str:
        parts = [f"{self.rows} rows made {self.records} records"]
        for title, counts in (("left out", self.left_out), ("not labelled", self.unlabelled)):
            reasons = [f"{count} {reason}{self._first(reason)}" for reason, count in sorted(counts.items()) if count]
            if reasons:
                parts.append(f"{title}: {', '.join(reasons)}")
        return "; ".join(parts)

    def _first(self, reason: str) -> str:
        return f" (first: {self.first_rows[reason]})" if reason in self.first_rows else ""


def check_on_malformed(on_malformed: str) -> None:
    """Refuse any other word.

    Raises:
        ValueError: neither ``"error"`` nor ``"drop"``.
    """
    if on_malformed not in get_args(OnMalformed):
        raise ValueError(
            f"on_malformed is {on_malformed!r}: it must be 'error', or 'drop' to leave such rows out and count them."
        )


def converted_rows(
    rows: Iterable[Mapping[str, Any]],
    convert: Callable[[Mapping[str, Any]], _Converted],
    report: LoadReport,
    on_malformed: OnMalformed,
    part: str = "",
) -> Iterator[_Converted]:
    """What ``convert`` makes of each row; those that it refuses are counted in ``report``.

    Args:
        rows: of a data set.
        convert: raises ``UnfitRow`` or ``MalformedRow`` for a row that it cannot use.
        report: counts.
        on_malformed: what is done about a malformed row.
        part: what messages call the data set, if there are several.

    Raises:
        ValueError: a malformed row, where that is an error; part and row are named.
    """
    for number, row in enumerate(rows):
        report.rows += 1
        place = f"{part}, row {number}" if part else f"row {number}"
        try:
            value = convert(row)
        except UnfitRow as unfit:
            report.leave_out(str(unfit), place)
        except MalformedRow as malformed:
            if on_malformed == "error":
                raise ValueError(f"{place}: {malformed}") from None
            report.leave_out(malformed.reason, place)
        else:
            yield value


def tell(report: LoadReport, records: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> None:
    """Complete a report and warn of what it counts, and of objectives without a label.

    Raises:
        ValueError: there are no records.
    """
    report.records = len(records)
    if not records:
        raise ValueError(f"no record is left: {report}.")
    if report.left_out or report.unlabelled:
        warn(f"{report}.")
    for name in objectives:
        if not any(record[name] >= 0 for record in records):
            warn(
                f"no record is labelled on {name!r}, so that nothing can be learnt of it: see that its data set and "
                "columns are the right ones, or leave the objective out.",
            )
