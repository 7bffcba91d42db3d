"""What the data of a run hold, counted: labels, agreement and conflict, lengths, leaks, and what loaders left out.

``mopref data inspect`` prints these counts as lines; a training writes them as ``data.json``, which its report shows as
tables. They come from the records and from the rows that are tokenised anyway.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from mopref.llm.data import LoadReport
from mopref.llm.data.records import prompt_key, record_dimensions
from mopref.recipes.recipe import DataSettings
from mopref.recipes.rows import RowKind, summary
from mopref.recipes.typed import typed

__all__ = [
    "Agreement",
    "DataStatistics",
    "LabelStatistics",
    "LoadStatistics",
    "SideStatistics",
    "TokenLengths",
    "data_statistics",
    "read_statistics",
    "side_statistics",
    "statistics_lines",
    "statistics_tree",
]

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class LabelStatistics:
    """The labels of one objective.

    Args:
        name: the objective.
        labelled: records that have a label on it.
        counts: how many records have each label: those by which "response_0" or "response_1" is better, or of one
            response whether it is "good" or "bad".
        unlabelled: records that are tied or not labelled on it.
    """

    name: str
    labelled: int
    counts: dict[str, int]
    unlabelled: int


@dataclass(frozen=True)
class Agreement:
    """How often the labels of two objectives are the same, among the records that have both.

    Args:
        names: the two objectives.
        both: records that are labelled on both.
        agree: those of them with equal labels.
        conflict: the others.
    """

    names: tuple[str, ...]
    both: int
    agree: int
    conflict: int


@dataclass(frozen=True)
class TokenLengths:
    """How long prompts or responses are, in tokens.

    Args:
        part: "prompt" or "response".
        texts: how many there are.
        median: the middle length; of an even number of texts the upper one.
        longest: the largest length.
        limit: the most tokens of the recipe.
        beyond: how many are longer than the limit; null where the texts were counted within it, as they are trained.
        at_limit: how many have just that length; a response among them was cut, or ends there.
    """

    part: str
    texts: int
    median: int
    longest: int
    limit: int
    beyond: int | None
    at_limit: int


@dataclass(frozen=True)
class SideStatistics:
    """The records of one side, to train or to evaluate on.

    Args:
        side: "train" or "held out".
        records: how many there are.
        rows: how many of them are left as rows; the others have too long a prompt.
        prompts: how many different prompts they have.
        summary: records, prompts and labels in one line.
        labels: of each objective that the records are labelled on.
        responses: how many responses there are of each objective, where they are told apart so.
        agreements: of every two objectives.
        lengths: of prompts, and of responses where there are any.
    """

    side: str
    records: int
    rows: int
    prompts: int
    summary: str
    labels: tuple[LabelStatistics, ...] = ()
    responses: dict[str, int] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()
    lengths: tuple[TokenLengths, ...] = ()


@dataclass(frozen=True)
class LoadStatistics:
    """What a loader read and left out.

    Args:
        source: "train", "held out", or "all" where one source was split.
        rows: rows read.
        records: records made of them.
        left_out: how many were left out, by reason.
        unlabelled: how many labels are missing, by objective and reason.
    """

    source: str
    rows: int
    records: int
    left_out: dict[str, int]
    unlabelled: dict[str, int]


@dataclass(frozen=True)
class DataStatistics:
    """What the data of a run hold.

    Args:
        sides: to train and to evaluate on.
        leaks: held-out records whose prompt is one of the training data.
        loads: of the loaders that count.
    """

    sides: tuple[SideStatistics, ...]
    leaks: int
    loads: tuple[LoadStatistics, ...] = ()


# What the labels of a record say, for each kind of records that has label columns.
_LABELS = {"pairs": {0: "response_0", 1: "response_1"}, "unpaired answers": {1: "good", 0: "bad"}}


def data_statistics(
    kind: RowKind,
    sides: Mapping[str, tuple[Records, Records]],
    names: Sequence[str],
    data: DataSettings,
    reports: Mapping[str, LoadReport] | None = None,
    within_limits: bool = True,
) -> DataStatistics:
    """Count what is in records and rows.

    Args:
        kind: what the records are.
        sides: "train" and "held out" to their records and rows of token ids.
        names: the objectives.
        data: the limits.
        reports: of the loaders that were given one, by source; a loader that does not count leaves its own empty.
        within_limits: the rows are cut to the limits, as they are trained; else they are whole.
    """
    counted = tuple(
        side_statistics(side, kind, records, rows, names, data, within_limits)
        for side, (records, rows) in sides.items()
    )
    train, held_out = (sides[side][0] for side in ("train", "held out"))
    known = {prompt_key(record["prompt"]) for record in train}
    leaks = sum(prompt_key(record["prompt"]) in known for record in held_out)
    loads = tuple(
        LoadStatistics(source, report.rows, report.records, dict(report.left_out), dict(report.unlabelled))
        for source, report in (reports or {}).items()
        if report.rows
    )
    return DataStatistics(counted, leaks, loads)


def side_statistics(
    side: str,
    kind: RowKind,
    records: Records,
    rows: Records,
    names: Sequence[str],
    data: DataSettings,
    within_limits: bool,
) -> SideStatistics:
    """Count what is in the records and rows of one side, with arguments as :func:`data_statistics` takes them."""
    responses = {}
    if kind.records == "responses":
        responses = {name: sum(name in record_dimensions(record) for record in records) for name in names}
    labels: dict[str, list[int]] = {}
    if kind.records in _LABELS:
        labels = {name: [int(record[name]) for record in records] for name in names}
    return SideStatistics(
        side,
        len(records),
        len(rows),
        len({prompt_key(record["prompt"]) for record in records}),
        summary(kind, list(map(dict, records)), names),
        tuple(_label_statistics(name, column, _LABELS[kind.records]) for name, column in labels.items()),
        responses,
        tuple(_agreement(labels, pair) for pair in combinations(labels, 2)),
        tuple(_lengths(rows, data, within_limits)),
    )


def _label_statistics(name: str, labels: Sequence[int], meanings: Mapping[int, str]) -> LabelStatistics:
    counts = {meaning: labels.count(label) for label, meaning in meanings.items()}
    labelled = sum(counts.values())
    return LabelStatistics(name, labelled, counts, len(labels) - labelled)


def _agreement(labels: Mapping[str, Sequence[int]], names: tuple[str, str]) -> Agreement:
    both = [pair for pair in zip(*(labels[name] for name in names), strict=True) if min(pair) >= 0]
    agree = sum(one == other for one, other in both)
    return Agreement(names, len(both), agree, len(both) - agree)


def _lengths(rows: Records, data: DataSettings, within_limits: bool) -> Iterator[TokenLengths]:
    columns = [name for name in rows[0] if name.endswith("_ids")] if rows else []
    for part, limit in (("prompt", data.max_prompt_length), ("response", data.max_response_length)):
        lengths = sorted(len(row[name]) for row in rows for name in columns if name.startswith(part))
        if lengths:
            beyond = None if within_limits else sum(length > limit for length in lengths)
            middle, at_limit = lengths[len(lengths) // 2], lengths.count(limit)
            yield TokenLengths(part, len(lengths), middle, lengths[-1], limit, beyond, at_limit)


def statistics_lines(statistics: DataStatistics) -> Iterator[str]:
    """The counts as lines of text."""
    for load in statistics.loads:
        made = LoadReport(load.rows, load.records)
        made.left_out.update(load.left_out)
        made.unlabelled.update(load.unlabelled)
        yield f"{'source' if load.source == 'all' else load.source}: {made}"
    for side in statistics.sides:
        yield from (f"{side.side}: {line}" for line in _side_lines(side))
    total = next((side.records for side in statistics.sides if side.side == "held out"), 0)
    yield f"leaks: {statistics.leaks} of {total} held-out records have a prompt of the training data"


def _side_lines(side: SideStatistics) -> Iterator[str]:
    yield side.summary
    if side.responses:
        yield "responses of " + ", ".join(f"{name} {number}" for name, number in side.responses.items())
    for labels in side.labels:
        is_pair = "response_0" in labels.counts
        verb, open_ = ("prefer ", "tied or not labelled") if is_pair else ("", "not labelled")
        (one, first), (other, second) = labels.counts.items()
        counts = f"{first} {verb}{one}, {second} {other}"
        yield f"{labels.name}: {labels.labelled} labelled ({counts}), {labels.unlabelled} {open_}"
    for pair in side.agreements:
        one, other = pair.names
        yield f"{one} and {other}: {pair.both} labelled on both, {pair.agree} agree, {pair.conflict} conflict"
    if side.rows < side.records:
        yield f"{side.records - side.rows} of {side.records} records are left out: their prompts are too long"
    for lengths in side.lengths:
        over = f"{lengths.beyond} of {lengths.texts} beyond the limit of {lengths.limit}"
        at = f"{lengths.at_limit} of {lengths.texts} at the limit of {lengths.limit}"
        extent = f"median {lengths.median}, most {lengths.longest}"
        yield f"{lengths.part} tokens: {extent}; {at if lengths.beyond is None else over}"


def statistics_tree(statistics: DataStatistics) -> dict[str, Any]:
    """The counts as JSON holds them; :func:`read_statistics` reads them."""
    return asdict(statistics)


def read_statistics(tree: Any) -> DataStatistics:
    """The counts of a ``data.json``.

    Raises:
        RecipeError: what :func:`statistics_tree` did not make; the entry is named.
    """
    read: DataStatistics = typed(tree, DataStatistics, "")
    return read
