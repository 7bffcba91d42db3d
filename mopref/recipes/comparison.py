"""Compare the fronts of two runs or more: what each is worth, where they meet, and what differs in their recipes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref._arrays import Array, real_array
from mopref._atomic_writes import write_atomically
from mopref._repr import short_repr
from mopref.argument_kinds import checked_fields, checked_kind, checks_arguments
from mopref.front import Front
from mopref.front.files import to_csv
from mopref.front.intervals import hypervolume_interval, interval_level
from mopref.indicators import coverage, shares_of_union
from mopref.recipes.compared_runs import (
    ComparedRun,
    check_comparable,
    common_reference_point,
    comparison_warnings,
    read_runs,
)
from mopref.recipes.run_folder import check_new_folder
from mopref.scalarizer import Scalarizer
from mopref.setting_types import python_value, python_values

__all__ = ["Comparison", "RunFigures", "SharedPreference", "compare", "write_comparison"]

# λ closer than this are the same λ: they are stored to about 1e-7 where they were float32.
_SAME = 1e-5
# Shown where Front.indicators gives it.
_INDICATORS = ("inner_product", "regret_mean", "regret_max", "cross_angle")


@dataclass(frozen=True)
class RunFigures:
    """The figures of one run.

    Args:
        hypervolume: under the comparison's reference point; higher is better.
        hypervolume_exact: it is no approximation.
        hypervolume_interval: lower and upper bound, where the front has them under that reference point.
        points: how many points the front has.
        non_dominated: how many of them no other one of the same front dominates.
        indicators: those of the inner product, regret and cross angle that are known.
        best: the best value of each objective, ``(m,)``.
        share_of_union: share of the distinct non-dominated points of all runs together that this one has.
        coverage: share of the other run's points that this one's dominate weakly; of two runs only.
    """

    hypervolume: float
    hypervolume_exact: bool
    hypervolume_interval: tuple[float, float] | None
    points: int
    non_dominated: int
    indicators: dict[str, float]
    best: Array
    share_of_union: float
    coverage: float | None

    def __post_init__(self) -> None:
        """Refuse fields of another kind."""
        checked_fields(self)
        for name, number in self.indicators.items():
            python_value(number, float, f"indicators[{name!r}]")
        if self.hypervolume_interval is not None and len(self.hypervolume_interval) != 2:
            raise ValueError(f"hypervolume_interval is {short_repr(self.hypervolume_interval)}: give its two bounds.")
        python_values(self.hypervolume_interval or (), float, "hypervolume_interval")


@dataclass(frozen=True)
class SharedPreference:
    """A preference at which every front was measured.

    Args:
        preference: λ, ``(m,)``, of the first run.
        values: of each run, ``(R, m)``.
        differences: to the first run, ``(R, m)``, in the values' own units and direction; 0 in row 0.
    """

    preference: Array
    values: Array
    differences: Array


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        runs: what is compared.
        reference_point: of every hypervolume, ``(m,)``.
        figures: of each run.
        shared: the preferences that all fronts share, in the order of the first.
        settings: the settings in which the recipes differ, by key, a value for each run that records it; their folders
            (``output``) are left out.
        warnings: sentences on why figures might not compare.

    ``mopref.recipes.comparison_text`` makes a text of it.
    """

    runs: tuple[ComparedRun, ...]
    reference_point: Array
    figures: tuple[RunFigures, ...]
    shared: tuple[SharedPreference, ...]
    settings: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse fields of another kind, of other numbers of runs or objectives, and runs that do not compare."""
        checked_fields(self)
        for name, kind in (("runs", ComparedRun), ("figures", RunFigures), ("shared", SharedPreference)):
            for place, entry in enumerate(getattr(self, name)):
                checked_kind(entry, kind, f"{name}[{place}]")
        for key, of_runs in self.settings.items():
            checked_kind(of_runs, dict, f"settings[{key!r}]")
        _check_writable([self.settings, self.warnings, [run.name for run in self.runs]])
        if not 0 < len(self.runs) == len(self.figures):
            raise ValueError(
                f"there are {len(self.runs)} runs and {len(self.figures)} figures: give some for each run."
            )
        for run in self.runs[1:]:
            check_comparable(self.runs[0], run)
        count = len(self.runs[0].front.names)
        _check_shape(self.reference_point, (count,), "reference_point")
        for own in self.figures:
            _check_shape(own.best, (count,), "best")
            if own.indicators.keys() != self.figures[0].indicators.keys():
                raise ValueError("the figures have other indicators than those of the first run: give them the same.")
        for shared in self.shared:
            _check_shape(shared.preference, (count,), "preference")
            _check_shape(shared.values, (len(self.runs), count), "values")
            _check_shape(shared.differences, (len(self.runs), count), "differences")


def _check_writable(value: Any) -> None:
    """Refuse settings and texts that no JSON file can hold."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"what settings, warnings and names hold cannot be written as JSON ({error}): give texts, numbers, lists "
            "and dicts."
        ) from error


def _check_shape(values: Any, shape: tuple[int, ...], name: str) -> None:
    checked_kind(values, np.ndarray, name)
    if real_array(values, name).shape != shape:
        raise ValueError(f"{name} is of shape {values.shape}, but the runs and their objectives ask for {shape}.")


@checks_arguments
def compare(
    paths: Sequence[str | Path],
    reference_point: Sequence[float] | None = None,
    scalarizer: Scalarizer | None = None,
) -> Comparison:
    """Compare the fronts of two runs or more; no model and no data are loaded, and nothing is written.

    Args:
        paths: folders of finished runs, or .json files of fronts.
        reference_point: one number for each objective, in the objectives' own direction; by default the one that the
            fronts record.
        scalarizer: also measure each front's regret under it, against the best of the points of all runs.

    Raises:
        RunFolderError: fewer than two runs, one twice, a folder without a front, fronts that do not compare, or no
            reference point, or two of them.
        ValueError: a scalarizer of another convention than the preferences'.

    Example:
        >>> from mopref import Front
        >>> Front([[1, 0], [0, 1]], [[0.0, 2.0], [2.0, 0.0]], ("a", "b")).save("runs/one.json")  # doctest: +SKIP
        >>> print(comparison_text(compare(["runs/one.json", "runs/two"], reference_point=[3, 3])))  # doctest: +SKIP
    """
    runs = read_runs(paths)
    point = common_reference_point(runs, reference_point)
    fronts = [run.front for run in runs]
    shares = shares_of_union([front.values for front in fronts], fronts[0].maximize)
    union = np.concatenate([front.values for front in fronts])
    figures = []
    for place, front in enumerate(fronts):
        others = [fronts[1 - place]] if len(fronts) == 2 else []
        figures.append(_figures(front, point, others, float(shares[place]), scalarizer, union))
    settings = _differing_settings(runs)
    return Comparison(runs, point, tuple(figures), _shared(fronts), settings, tuple(comparison_warnings(runs, point)))


@checks_arguments
def write_comparison(comparison: Comparison, folder: str | Path) -> None:
    """Write ``comparison.png``, ``.json`` (everything) and ``.csv`` (a line a run) into a new or empty folder.

    Raises:
        RecipeError: the folder holds anything, or cannot be made.
        ValueError: fronts of one objective, of which there is no picture.
    """
    from mopref.plotting import plot_comparison

    folder = Path(folder)
    check_new_folder(folder, for_run=False)
    documents = {"comparison.json": _json(comparison), "comparison.csv": _csv(comparison)}
    # The picture first: it alone can be refused.
    fronts = {run.name: run.front for run in comparison.runs}
    plot_comparison(fronts, folder / "comparison.png", comparison.reference_point)
    for name, text in documents.items():
        write_atomically(folder / name, text.encode("utf-8"))


def _figures(
    front: Front, point: Array, others: Sequence[Front], share: float, scalarizer: Scalarizer | None, union: Array
) -> RunFigures:
    numbers = front.indicators(point, scalarizer=scalarizer)
    if scalarizer is not None:
        numbers["regret_mean"], numbers["regret_max"], _ = front.regret(scalarizer, union)
    recorded = front.metadata.get("reference_point")
    is_own = recorded is not None and front.indicators()["reference_point"] == point.tolist()
    best = np.where(front.is_maximized(), front.values.max(axis=0), front.values.min(axis=0))
    return RunFigures(
        numbers["hypervolume"],
        numbers["hypervolume_exact"],
        hypervolume_interval(front.metadata) if is_own else None,
        len(front),
        numbers["non_dominated"],
        {name: float(numbers[name]) for name in _INDICATORS if name in numbers},
        best,
        share,
        coverage(front.values, others[0].values, front.maximize) if others else None,
    )


def _shared(fronts: Sequence[Front]) -> tuple[SharedPreference, ...]:
    """The preferences of the first front that all others have, each row of a front taken once."""
    free = [np.ones(len(front), dtype=bool) for front in fronts]
    found = []
    for preference in fronts[0].preferences:
        rows = [_row(front, preference, unused) for front, unused in zip(fronts, free, strict=True)]
        if None in rows:
            continue
        for unused, row in zip(free, rows, strict=True):
            unused[row] = False
        values = np.array([front.values[row] for front, row in zip(fronts, rows, strict=True)])
        found.append(SharedPreference(preference, values, values - values[0]))
    return tuple(found)


def _row(front: Front, preference: Array, unused: NDArray[np.bool_]) -> int | None:
    rows = np.flatnonzero(unused & (np.abs(front.preferences - preference) <= _SAME).all(axis=1))
    return int(rows[0]) if len(rows) else None


def _differing_settings(runs: Sequence[ComparedRun]) -> dict[str, dict[str, Any]]:
    recorded = {run.name: run.settings for run in runs if run.settings is not None}
    if len(recorded) < 2:
        return {}
    keys = dict.fromkeys(key for settings in recorded.values() for key in settings if key != "output")
    values = {key: {name: settings[key] for name, settings in recorded.items() if key in settings} for key in keys}
    return {
        key: of_runs
        for key, of_runs in values.items()
        if len(of_runs) < len(recorded) or len({json.dumps(value, default=str) for value in of_runs.values()}) > 1
    }


def _json(comparison: Comparison) -> str:
    first = comparison.runs[0].front
    names = first.names

    def named(numbers: Array) -> dict[str, float]:
        return dict(zip(names, numbers.tolist(), strict=True))

    def of_runs(rows: Array) -> dict[str, dict[str, float]]:
        return {run.name: named(row) for run, row in zip(comparison.runs, rows, strict=True)}

    tree: dict[str, Any] = {
        "objectives": list(names),
        "maximize": list(first.is_maximized()),
        "convention": first.convention,
        "reference_point": comparison.reference_point.tolist(),
        "warnings": list(comparison.warnings),
        "runs": [
            {
                "name": run.name,
                "path": str(run.path),
                "hypervolume": own.hypervolume,
                "hypervolume_exact": own.hypervolume_exact,
                "hypervolume_interval": own.hypervolume_interval,
                "interval_level": interval_level(run.front.metadata),
                "points": own.points,
                "non_dominated": own.non_dominated,
                **own.indicators,
                "best": named(own.best),
                "share_of_union": own.share_of_union,
                **({} if own.coverage is None else {"coverage": own.coverage}),
            }
            for run, own in zip(comparison.runs, comparison.figures, strict=True)
        ],
        "preferences": [
            {
                "preference": named(shared.preference),
                "values": of_runs(shared.values),
                "differences": of_runs(shared.differences),
            }
            for shared in comparison.shared
        ],
        "settings": comparison.settings,
    }
    return json.dumps(tree, indent=1, ensure_ascii=False, default=str) + "\n"


def _csv(comparison: Comparison) -> str:
    """A line a run; a number that is not known is an empty cell."""
    figures = comparison.figures
    bounds = [own.hypervolume_interval or (np.nan, np.nan) for own in figures]
    columns: dict[str, Sequence[Any]] = {
        "run": [run.name for run in comparison.runs],
        "hypervolume": [own.hypervolume for own in figures],
        "hypervolume_low": [low for low, _ in bounds],
        "hypervolume_high": [high for _, high in bounds],
        "hypervolume_exact": [own.hypervolume_exact for own in figures],
        "points": [own.points for own in figures],
        "non_dominated": [own.non_dominated for own in figures],
    }
    columns |= {name: [own.indicators[name] for own in figures] for name in figures[0].indicators}
    for objective, name in enumerate(comparison.runs[0].front.names):
        columns[f"best_{name}"] = [float(own.best[objective]) for own in figures]
    columns["share_of_union"] = [own.share_of_union for own in figures]
    if figures[0].coverage is not None:
        columns["coverage"] = [own.coverage for own in figures]
    return to_csv(list(columns), [np.array(column) for column in columns.values()])
