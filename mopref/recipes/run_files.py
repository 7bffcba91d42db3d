"""What a run's folder holds, read without its model or its data: what a report and a model card are made of."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mopref._bounded_reading import read_bounded
from mopref.conditioning.adapter_description import CONFIG_FILE, read_config
from mopref.conditioning.adapter_folder import is_there
from mopref.front import Front
from mopref.preferences import validate_preferences
from mopref.recipes.data_statistics import DataStatistics, read_statistics
from mopref.recipes.mistakes import RecipeError, RunFolderError
from mopref.recipes.reading import read_recipe
from mopref.recipes.recipe import Recipe
from mopref.recipes.run_folder import (
    ADAPTER,
    ANSWERS,
    DATA,
    EVALUATIONS,
    FRONT,
    LOG,
    RECIPE,
    VERSIONS,
    check_no_comparison,
    newest_checkpoint,
)

__all__ = ["AnswerEntry", "RunFiles", "read_run_files"]

Content = TypeVar("Content")

# What a file of versions also says of the training: the steps trained, and the step that the adapter is of.
_STEPS = ("steps", "adapter_step")


@dataclass(frozen=True)
class AnswerEntry:
    """An answer of the model to a prompt.

    Args:
        preference: the weight of each objective.
        prompt: what was asked.
        answer: the model's text.
        tokens: how many tokens it has.
    """

    preference: dict[str, float]
    prompt: str
    answer: str
    tokens: int


@dataclass(frozen=True)
class RunFiles:
    """What is in the folder of a run; everything but the recipe may be missing.

    Args:
        folder: the folder.
        recipe: its settings, complete.
        front: what was measured at the end.
        answers: the answers at every preference.
        log: the entries of the training's log.
        evaluations: the held-out evaluations while it was trained.
        data: what the data hold.
        versions: what the run was made with, by name.
        adapter: the description of the adapter.
        notes: sentences on lines that were left out.
        steps: how many were trained; nothing where it is not recorded, as in an unfinished run.
        adapter_step: the step that the adapter is of; nothing where it is not recorded.
        checkpoint: the newest checkpoint.
    """

    folder: Path
    recipe: Recipe
    front: Front | None
    answers: tuple[AnswerEntry, ...]
    log: tuple[dict[str, Any], ...]
    evaluations: tuple[dict[str, Any], ...]
    data: DataStatistics | None
    versions: dict[str, str] | None
    adapter: dict[str, Any] | None
    notes: tuple[str, ...]
    steps: int | None = None
    adapter_step: int | None = None
    checkpoint: Path | None = None


# Of a file of a run; a log of a million entries has less.
_MOST_BYTES, _WHAT = 1 << 28, "a file of a run"
# What can still be drawn with its distances.
_LARGEST = 1e300


def read_run_files(folder: str | Path) -> RunFiles:
    """Read what a run's folder holds; no model and no data are loaded.

    A file of lines whose last line was cut off, as in a run that was stopped, is read up to it, with a note.

    Raises:
        RunFolderError: the folder holds no run, or a damaged file; file and line are named.
    """
    folder = Path(folder)
    check_no_comparison(folder)
    if not (folder / RECIPE).is_file():
        raise RunFolderError(f"{folder} holds no run: there is no {RECIPE} in it, so give the folder of a run.")
    notes: list[str] = []
    try:
        recipe = read_recipe(folder / RECIPE)
    except RecipeError as error:
        raise RunFolderError(str(error)) from error
    names = recipe.objectives
    made_with = _read(folder / VERSIONS, _versions)
    files = RunFiles(
        folder,
        recipe,
        _read(folder / FRONT, Front.load),
        _read(folder / ANSWERS, partial(_answers, names=names)) or (),
        _read(folder / LOG, partial(_lines, check=_log_problem, notes=notes)) or (),
        _read(folder / EVALUATIONS, partial(_lines, check=partial(_evaluation_problem, names=names), notes=notes))
        or (),
        _read(folder / DATA, _data),
        None if made_with is None else {name: str(value) for name, value in made_with.items() if name not in _STEPS},
        _read(folder / ADAPTER, _adapter),
        tuple(notes),
        steps=(made_with or {}).get("steps"),
        adapter_step=(made_with or {}).get("adapter_step"),
        checkpoint=_newest_checkpoint(folder),
    )
    if files.front is not None and files.front.names != names:
        raise _damaged(folder / FRONT, f"its objectives are {', '.join(files.front.names)}, and not {', '.join(names)}")
    return files


def _damaged(path: Path, problem: str) -> RunFolderError:
    return RunFolderError(f"{path} is damaged: {problem}; remove it, or write it again.")


def _read(path: Path, read: Callable[[Path], Content]) -> Content | None:
    """The content of a file, ``None`` where there is none."""
    if not path.exists():
        return None
    try:
        return read(path)
    except RunFolderError:
        raise
    except (ValueError, OSError) as error:
        # What is wrong with an adapter says itself what to do.
        remedy = "" if path.name == ADAPTER else f": remove {path}, or write it again"
        raise RunFolderError(f"{str(error).rstrip('.')}{remedy}.") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(read_bounded(path, _MOST_BYTES, _WHAT).decode("utf-8"))
    except json.JSONDecodeError as error:
        raise _damaged(path, f"line {error.lineno} is no JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it is no UTF-8 text ({error})") from error
    except RecursionError as error:
        raise _damaged(path, "it is nested too deeply") from error


def _lines(path: Path, check: Callable[[Any], str | None], notes: list[str]) -> tuple[dict[str, Any], ...]:
    """The entries of a file of JSON lines; ``notes`` gains a sentence where the last one was cut off."""
    entries: list[dict[str, Any]] = []
    lines = read_bounded(path, _MOST_BYTES, _WHAT).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line.decode("utf-8"))
        except ValueError as error:
            # A line is written with its end; one that has none was being written when the run was stopped.
            if number == len(lines):
                notes.append(f"{path.name}, line {number} was cut off when the run was stopped, and is left out.")
                break
            raise _damaged(path, f"line {number} is no JSON ({error})") from error
        except RecursionError as error:
            raise _damaged(path, f"line {number} is nested too deeply") from error
        problem = check(entry)
        if problem is not None:
            raise _damaged(path, f"line {number} {problem}")
        entries.append(entry)
    return tuple(entries)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _log_problem(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return "is no mapping"
    strange = next((key for key, value in entry.items() if value is not None and not _is_number(value)), None)
    if strange is not None:
        return f"has {strange!r:.80} of {entry[strange]!r:.80}, which is no number"
    # NaN and infinities are of a run that went wrong, and left out of pictures; these would break them.
    large = (key for key, value in entry.items() if value is not None and _LARGEST < abs(value) < math.inf)
    huge = next(large, None)
    return None if huge is None else f"has {huge!r:.80} of {entry[huge]!s:.80}, which no run comes to"


def _evaluation_problem(entry: Any, names: tuple[str, ...]) -> str | None:
    """What is wrong with a line of evaluations.jsonl."""
    if not isinstance(entry, Mapping) or not _is_number(entry.get("step")):
        return "has no step"
    if entry.get("hypervolume") is not None and not _is_number(entry["hypervolume"]):
        return f"has the hypervolume {entry['hypervolume']!r:.80}, which is no number"
    points = entry.get("points")
    if not isinstance(points, list):
        return "has no list of points"
    for place, point in enumerate(points):
        if not isinstance(point, Mapping) or not _is_preference(point.get("preference"), names):
            return (
                f"has a point {place} whose preference is no weight for each of {', '.join(names)}, at least 0 and 1 "
                "in sum"
            )
        problem = _log_problem({key: value for key, value in point.items() if key not in ("preference", "intervals")})
        problem = problem or _interval_problem(point.get("intervals"))
        if problem is not None:
            return f"has a point {place} that {problem}"
    return None


def _interval_problem(intervals: Any) -> str | None:
    """What is wrong with the intervals of a point, of which any may be missing."""
    if intervals is None:
        return None
    if not isinstance(intervals, Mapping):
        return f"has intervals of {intervals!r:.80}, which are no mapping"
    for figure, ends in intervals.items():
        is_pair = isinstance(ends, list) and len(ends) == 2 and all(end is None or _is_number(end) for end in ends)
        if ends is not None and not is_pair:
            return f"has the interval {ends!r:.80} of {figure!r}, which is no lower and upper number"
    return None


def _is_preference(weights: Any, names: tuple[str, ...]) -> bool:
    if not isinstance(weights, Mapping) or set(weights) != set(names) or not all(map(_is_number, weights.values())):
        return False
    try:
        validate_preferences([weights[name] for name in names], names)
    except ValueError:
        return False
    return True


def _answers(path: Path, names: tuple[str, ...]) -> tuple[AnswerEntry, ...]:
    tree = _json(path)
    if not isinstance(tree, list):
        raise _damaged(path, "it is no list of answers")
    for place, entry in enumerate(tree):
        is_entry = isinstance(entry, Mapping) and _is_preference(entry.get("preference"), names)
        texts = [entry.get(key) for key in ("prompt", "answer")] if is_entry else [None]
        if not all(isinstance(text, str) for text in texts) or not _is_number(entry.get("tokens")):
            raise _damaged(path, f"entry {place} is no answer with its preference, prompt and number of tokens")
    return tuple(
        AnswerEntry(dict(entry["preference"]), entry["prompt"], entry["answer"], entry["tokens"]) for entry in tree
    )


def _data(path: Path) -> DataStatistics:
    try:
        return read_statistics(_json(path))
    except RecipeError as error:
        raise _damaged(path, str(error).rstrip(".")) from error


def _versions(path: Path) -> dict[str, Any]:
    tree = _json(path)
    if not isinstance(tree, Mapping):
        raise _damaged(path, "it is no mapping of versions")
    for key in _STEPS:
        step = tree.get(key)
        if step is not None and (not isinstance(step, int) or isinstance(step, bool) or step < 0):
            raise _damaged(path, f"{key} is {step!r:.80}, which is no number of steps")
    steps, adapter_step = (tree.get(key) for key in _STEPS)
    if steps is not None and adapter_step is not None and steps < adapter_step:
        raise _damaged(path, f"the adapter is of step {adapter_step}, but only {steps} were trained")
    return dict(tree)


def _newest_checkpoint(folder: Path) -> Path | None:
    try:
        return newest_checkpoint(folder)
    except RunFolderError:
        return None


def _adapter(path: Path) -> dict[str, Any] | None:
    # A folder without a description is what an interrupted write leaves.
    return read_config(path) if is_there(path, CONFIG_FILE) else None
