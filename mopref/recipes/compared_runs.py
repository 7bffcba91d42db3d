"""Fronts that are to be compared: read from runs or files, named apart, and refused where they do not compare."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mopref._arrays import Array, real_array
from mopref._terminal import visible_line
from mopref.argument_kinds import checked_fields, checked_path
from mopref.front import Front
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.rows import KINDS
from mopref.recipes.run_files import read_run_files
from mopref.recipes.run_folder import FRONT, RECIPE, check_no_comparison, flat_settings

__all__ = ["ComparedRun", "check_comparable", "common_reference_point", "comparison_warnings", "read_runs"]

# What decides on which held-out rows the figures are measured; the seed does where it splits them off.
_ROWS = ("data.test_source", "data.test_options", "data.test_fraction", "data.max_", "data.on_long_prompt")
_RECORDS = ("data.loader", "data.source", "data.options")
# What decides what a value is: of a reward, how answers are sampled and judged; of a loss, also whose tokens and, where
# it is relative to the base model, whose log-probabilities it is of; so is the pull to it.
_REWARD = ("rewards.", "objective.options.sampling", "objective.options.truncation_penalty")
_PULL = "objective.options.pull"
_BASE = ("model.name", "model.tokenizer", "model.revision")
_LOSS = ("objective.", "rewards.", *_BASE)
_DIRECTIONS = {False: "minimised", True: "maximised"}


@dataclass(frozen=True)
class ComparedRun:
    """A run, or the file of a front.

    Args:
        name: by which it is told from the others.
        path: as it was given.
        front: what was measured.
        settings: the recipe's by their whole keys; ``None`` where none is recorded.
        records: the fingerprint of its data; ``None`` where it is not recorded.
    """

    name: str
    path: Path
    front: Front
    settings: Mapping[str, Any] | None
    records: str | None

    def __post_init__(self) -> None:
        """Refuse fields of another kind."""
        checked_fields(self)


def read_runs(paths: Sequence[str | Path]) -> tuple[ComparedRun, ...]:
    """The runs in these folders, or the fronts in these files, whose values compare.

    A folder needs a ``front.json``; what it has of ``recipe.yaml`` and ``versions.json`` is read, too. Without a
    recipe that which the front records is taken. A run is called as its folder, with as many of the folders above it
    as tell it from the others.

    Args:
        paths: two or more folders of runs, or .json files of fronts.

    Raises:
        RunFolderError: fewer than two, the same one twice, a folder without a front, a damaged file, or fronts of other
            objectives or directions, or whose preferences do not say the same.
    """
    places = [checked_path(path, f"paths[{place}]") for place, path in enumerate(paths)]
    if len(places) < 2:
        raise RunFolderError(f"{len(places)} run is too few to compare: give the folders of two or more.")
    files = [_front_file(path) for path in places]
    for place, file in enumerate(files):
        earlier = next((i for i in range(place) if files[i].resolve() == file.resolve()), None)
        if earlier is not None:
            raise RunFolderError(
                f"{places[place]} is the same as {places[earlier]}: compare different runs, so name each once."
            )
    runs = tuple(_run(*parts) for parts in zip(_names(files), places, files, strict=True))
    for run in runs[1:]:
        check_comparable(runs[0], run)
    return runs


def common_reference_point(runs: Sequence[ComparedRun], given: Sequence[float] | None = None) -> Array:
    """The reference point of every hypervolume, ``(m,)``: the one that is given, else the one that the fronts record.

    Raises:
        RunFolderError: none is known, the fronts have different ones, or the one given is none of m finite numbers.
    """
    names = runs[0].front.names
    if given is not None:
        point = real_array(given, "reference_point")
        if point.shape != (len(names),) or not np.isfinite(point).all():
            raise RunFolderError(
                f"the reference point is {', '.join(map(str, point.ravel().tolist()))}, but the objectives are "
                f"{', '.join(names)}: give one finite number for each, in this order (--reference-point)."
            )
        return point
    known = {run.name: _own_reference_point(run) for run in runs}
    told = {name: point for name, point in known.items() if point is not None}
    if not told:
        raise RunFolderError(
            "no front has a reference point, and hypervolumes compare only under the same one: give one number for "
            f"each of {', '.join(names)}, worse than all that count (--reference-point)."
        )
    first, *others = told
    for name in others:
        if told[name] != told[first]:
            raise RunFolderError(
                f"the reference point of {first} is {_listed(told[first])}, and that of {name} {_listed(told[name])}: "
                "hypervolumes compare only under the same one, so give one (--reference-point)."
            )
    return np.array(told[first])


def comparison_warnings(runs: Sequence[ComparedRun], reference_point: Array) -> list[str]:
    """Sentences on what makes figures differ that has nothing to do with how good the runs are."""
    sentences = []
    first, *others = runs
    for run in others:
        rows = _differing_rows(first, run)
        if rows:
            sentences.append(
                f"{first.name} and {run.name} were measured on different held-out data (they differ in {rows}): "
                "figures on other rows do not compare."
            )
        measures = _differing(first, run, _measures(first))
        if measures:
            sentences.append(
                f"{first.name} and {run.name} do not measure the same (they differ in {', '.join(measures)}): "
                "values of other losses or rewards do not compare."
            )
        if not _same_preferences(first.front.preferences, run.front.preferences):
            sentences.append(
                f"{first.name} and {run.name} were measured at different preferences: more of them alone make a larger "
                "hypervolume, and inner products are means over them."
            )
    unknown = [run.name for run in runs if run.settings is None or run.records is None]
    if unknown:
        sentences.append(
            f"on which records {_joined(unknown)} {'was' if len(unknown) == 1 else 'were'} measured is not recorded, "
            "and figures on other rows do not compare: make sure that all are of the same."
        )
    if first.front.convention == "unrecorded":
        sentences.append("what the preferences say is not recorded, so equal ones may have asked for opposite things.")
    for run in runs:
        beyond = _beyond(run.front, reference_point)
        if beyond:
            sentences.append(
                f"{beyond} of {len(run.front)} points of {run.name} are not better than the reference point in every "
                "objective, and add nothing to its hypervolume."
            )
    return sentences


def _front_file(path: Path) -> Path:
    if path.is_dir():
        check_no_comparison(path)
        if not (path / FRONT).is_file():
            remedy = "measure it with `mopref evaluate`" if (path / RECIPE).is_file() else "give the folder of a run"
            raise RunFolderError(f"{path} has no front: there is no {FRONT} in it; {remedy}.")
        return path / FRONT
    if not path.is_file():
        raise RunFolderError(f"{path} is not there: give the folder of a run, or the .json file of a front.")
    if path.suffix.lower() != ".json":
        raise RunFolderError(
            f"{path} is no .json file, which alone holds the directions of a front: give that, or the folder of a run."
        )
    return path


def _run(name: str, path: Path, file: Path) -> ComparedRun:
    if path.is_dir() and (path / RECIPE).is_file():
        files = read_run_files(path)
        assert files.front is not None
        settings = _settings(asdict(files.recipe))
        return ComparedRun(name, path, files.front, settings, (files.versions or {}).get("records"))
    try:
        front = Front.load(file)
    except (ValueError, OSError) as error:
        raise RunFolderError(f"{str(error).rstrip('.')}: give another file, or write it again.") from error
    recipe = front.metadata.get("recipe")
    return ComparedRun(name, path, front, _settings(recipe) if isinstance(recipe, Mapping) else None, None)


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's settings by their whole keys; a section without any is none."""
    return {key: _plain(value) for key, value in flat_settings(recipe).items() if value != {}}


def _names(files: Sequence[Path]) -> list[str]:
    """The folder of each front.json, or the name of any other file, with folders above it until all differ."""
    parts = [(file.parent if file.name == FRONT else file).resolve().parts for file in files]
    counts = [1] * len(parts)
    while True:
        names = ["/".join(own[-count:]) for own, count in zip(parts, counts, strict=True)]
        longer = [
            names.count(name) > 1 and count < len(own) for name, count, own in zip(names, counts, parts, strict=True)
        ]
        if not any(longer):
            return list(map(visible_line, names))
        counts = [count + more for count, more in zip(counts, longer, strict=True)]


def check_comparable(first: ComparedRun, run: ComparedRun) -> None:
    """Refuse a run of other objectives, directions or another convention of λ than the first one's."""
    one, other = first.front, run.front
    if one.names != other.names:
        raise RunFolderError(
            f"the objectives of {first.name} are {', '.join(one.names)}, and those of {run.name} "
            f"{', '.join(other.names)}: fronts compare only on the same ones in the same order, so leave one out."
        )
    for name, flag, other_flag in zip(one.names, one.is_maximized(), other.is_maximized(), strict=True):
        if flag != other_flag:
            raise RunFolderError(
                f"{name} is {_DIRECTIONS[flag]} in {first.name}, and {_DIRECTIONS[other_flag]} in {run.name}: fronts "
                "compare only in the same direction, so leave one out."
            )
    if one.convention != other.convention:
        raise RunFolderError(
            f"the convention of λ is {one.convention!r} in {first.name}, and {other.convention!r} in {run.name}: equal "
            "preferences ask for other things there, so leave one out."
        )


def _own_reference_point(run: ComparedRun) -> list[float] | None:
    if run.front.metadata.get("reference_point") is None:
        return None
    point: list[float] = run.front.indicators()["reference_point"]
    return point


def _listed(point: Sequence[float]) -> str:
    return f"({', '.join(f'{number:g}' for number in point)})"


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + [names[-1]])


def _differing_rows(first: ComparedRun, run: ComparedRun) -> str:
    """What tells that two runs were measured on other rows; nothing where nothing does."""
    is_known = None not in (first.records, run.records)
    reasons = _differing(first, run, _ROWS if is_known else (*_ROWS, *_RECORDS))
    is_split = any((one.settings or {}).get("data.test_fraction") is not None for one in (first, run))
    if is_split and _differing(first, run, ("seed",)):
        reasons.append("seed")
    if is_known and first.records != run.records:
        reasons.insert(0, "the fingerprint of the records")
    return ", ".join(reasons)


def _measures(run: ComparedRun) -> tuple[str, ...]:
    """The beginnings of the keys that decide what a run's values are."""
    settings = run.settings or {}
    kind = KINDS.get(str(settings.get("objective.name")))
    if kind is None or kind.front != "rewards":
        return _LOSS
    return _REWARD if settings.get(_PULL) is None else (*_REWARD, _PULL, *_BASE)


def _differing(first: ComparedRun, run: ComparedRun, beginnings: tuple[str, ...]) -> list[str]:
    """The settings that begin so and differ, where both runs have recorded theirs."""
    if first.settings is None or run.settings is None:
        return []
    keys = [key for key in {**first.settings, **run.settings} if key.startswith(beginnings)]
    return [key for key in keys if first.settings.get(key) != run.settings.get(key)]


def _plain(value: Any) -> Any:
    """As JSON holds it, where a tuple is a list."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _same_preferences(preferences: Array, others: Array) -> bool:
    """Whether two fronts are of the same preferences, whatever their order."""
    from scipy.spatial import cKDTree

    pairs = ((preferences, others), (others, preferences))
    # They are stored to about 1e-7 where they were float32.
    return len(preferences) == len(others) and all(
        bool((cKDTree(own).query(of_other, p=np.inf)[0] <= 1e-5).all()) for own, of_other in pairs
    )


def _beyond(front: Front, reference_point: Array) -> int:
    """How many points are not better than the reference point in every objective."""
    better = [
        front.values[:, place] > number if flag else front.values[:, place] < number
        for place, (flag, number) in enumerate(zip(front.is_maximized(), reference_point, strict=True))
    ]
    return int((~np.all(better, axis=0)).sum())
