"""The folder of a run: which files are in it, and that no run is written over another."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mopref._paths import checked_path
from mopref.conditioning.base_origin import is_path
from mopref.recipes.mistakes import RecipeError, RunFolderError, joined, settings_at
from mopref.recipes.recipe import Recipe
from mopref.training.checkpoints import checkpoints_in
from mopref.training.provenance import package_versions

__all__ = [
    "ADAPTER",
    "ANSWERS",
    "BEST",
    "CELLS",
    "DATA",
    "EVALUATIONS",
    "FRONT",
    "LOG",
    "RECIPE",
    "REPORT",
    "VERSIONS",
    "changed_settings",
    "check_finished",
    "check_new_folder",
    "check_no_comparison",
    "check_same_recipe",
    "check_same_records",
    "check_unfinished",
    "claim_folder",
    "fingerprint",
    "flat_settings",
    "located",
    "newest_checkpoint",
    "read_versions",
    "versions",
    "wherever_files_lie",
]

RECIPE, VERSIONS, ADAPTER, LOG, FRONT, ANSWERS = (
    "recipe.yaml",
    "versions.json",
    "adapter",
    "log.jsonl",
    "front.json",
    "answers.json",
)
# What methods of a comparison were measured to be.
CELLS = "cells"
# The adapter of the best evaluation so far.
BEST = "best"
DATA, EVALUATIONS, REPORT = "data.json", "evaluations.jsonl", "report.html"
_PACKAGES = ("mopref", "torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "bitsandbytes")
# Where data and models come from, and what stands in place of a path there.
_SOURCES, _MODEL, _MOVABLE = ("data.source", "data.test_source"), ("model.name", "model.tokenizer"), "<a path>"
# What may differ when a run is resumed: how far it goes, what is shown and what is measured after it.
_FREE = (
    "training.steps",
    "training.epochs",
    "training.cache_references",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.progress",
    "monitoring",
    "evaluation",
    "output",
)


def check_new_folder(folder: Path, for_run: bool = True) -> None:
    """Refuse to write a run, or something else where it is not ``for_run``, over what is there.

    Raises:
        RecipeError: the folder holds anything, is a file, or cannot be made.
    """
    with settings_at("output", []):
        checked_path(folder, "the folder")
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        raise RecipeError(
            "output", f"is {str(folder)!r}: only a shell knows whose folder '~' is, so write the whole path."
        )
    try:
        is_taken = folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError("output", f"is {str(folder)!r}, which cannot be read ({reason}): choose another.") from error
    if is_taken:
        is_comparison = _is_comparison(folder)
        is_run = (folder / RECIPE).is_file() and not is_comparison
        what = "a comparison of methods" if is_comparison else "a run" if is_run else "files"
        remedy = "choose another folder" + (", or go on with that run (--resume)" if for_run and is_run else "")
        raise RecipeError("output", f"is {str(folder)!r}, which holds {what} already: {remedy}.")
    # A link that leads nowhere is there, and no folder.
    existing = next(part for part in (folder, *folder.absolute().parents) if os.path.lexists(part))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RecipeError("output", f"is {str(folder)!r}: nothing can be written into {existing}; choose another.")


def check_finished(folder: Path) -> None:
    """Refuse a folder that holds no run, or one that has no adapter yet.

    Raises:
        RunFolderError: such a folder.
    """
    check_no_comparison(folder)
    for name, remedy in (
        (RECIPE, "give the folder of a run"),
        (ADAPTER, "go on with it by `mopref train RECIPE --resume`"),
    ):
        if not (folder / name).exists():
            raise RunFolderError(f"{folder} is no finished run: there is no {name} in it; {remedy}.")


def _is_comparison(folder: Path) -> bool:
    return (folder / CELLS).is_dir()


def check_no_comparison(folder: Path) -> None:
    """Refuse the folder of a comparison of methods, whose trainings are no runs.

    Raises:
        RunFolderError: such a folder.
    """
    if _is_comparison(folder):
        raise RunFolderError(
            f"{folder} holds a comparison of methods, and no run: go on with it by `mopref compare RECIPE`, or give "
            "the folder of a run."
        )


def claim_folder(folder: Path) -> None:
    """Make the folder of a new run, whose recipe's file no other run can make from now on.

    Raises:
        RecipeError: it cannot be made, or another run has begun in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECIPE).touch(exist_ok=False)
    except FileExistsError:
        problem = f"is {str(folder)!r}, where another run has begun: choose another folder."
        raise RecipeError("output", problem) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError("output", f"is {str(folder)!r}, which cannot be made ({reason}): choose another.") from error


def check_unfinished(folder: Path, steps: int) -> None:
    """Refuse to go on with a run that has been trained for so many steps already.

    Raises:
        RunFolderError: it has.
    """
    done = read_versions(folder).get("steps")
    if (folder / ADAPTER).exists() and isinstance(done, int) and done >= steps:
        raise RunFolderError(
            f"the run in {folder} is finished, after {done} steps: nothing is left to resume; give more "
            "training.steps, or measure it again with `mopref evaluate`."
        )


def located(recipe: Recipe) -> Recipe:
    """The recipe with whole paths in place of relative ones, so that its run can be opened from any folder.

    Hub ids, and what is not there, stay as they are.
    """
    model = {name: _whole(getattr(recipe.model, name)) for name in ("name", "tokenizer")}
    data = {name: _whole_source(getattr(recipe.data, name)) for name in ("source", "test_source")}
    return replace(recipe, model=replace(recipe.model, **model), data=replace(recipe.data, **data))


def _whole_source(source: Any) -> Any:
    """A data set, or those of all objectives; of one with options of its own only the source is a path."""
    if not isinstance(source, Mapping):
        return _whole(source)
    return {
        name: {**own, "source": _whole(own.get("source"))} if isinstance(own, Mapping) else _whole(own)
        for name, own in source.items()
    }


def _whole(name: Any) -> Any:
    return str(Path(name).absolute()) if isinstance(name, str) and Path(name).exists() else name


def check_same_recipe(folder: Path, recipe: Recipe, earlier: Recipe) -> None:
    """Refuse to go on with a run by another recipe than it was begun with.

    Raises:
        RecipeError: a setting that differs.
    """
    new, old = (flat_settings(asdict(own.completed())) for own in (recipe, earlier))
    for key in changed_settings(wherever_files_lie(new), wherever_files_lie(old)):
        if not _is_within(key, _FREE):
            was = f"the run in {folder} was begun with {old.get(key)!r}"
            raise RecipeError(key, f"is {new.get(key)!r}, and {was}: resume it with that.")


def changed_settings(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """The keys of flat settings whose values differ, or that stand in one of them only.

    Example:
        >>> changed_settings({"seed": 0, "output": "a"}, {"seed": 1, "output": "a"})
        ['seed']
    """
    return [key for key in {**old, **new} if old.get(key) != new.get(key)]


def check_same_records(folder: Path, records: str) -> None:
    """Refuse to go on with a run, or to evaluate it, on other data, of which this is the fingerprint.

    Raises:
        RunFolderError: it is another one, or there is none to compare it with.
    """
    if read_versions(folder)["records"] != records:
        raise RunFolderError(
            f"the data of the run in {folder} have changed since it was begun, so that rows it was trained on may be "
            "among those to evaluate on: put the data back as they were, or begin a new run."
        )


def read_versions(folder: Path) -> dict[str, Any]:
    """What a run was made with, and which step its adapter is of.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    path = folder / VERSIONS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is no run: there is no {VERSIONS} in it; give the folder of a run.") from None
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}): the run's folder is damaged.") from error
    if not isinstance(content, dict) or not isinstance(content.get("records"), str):
        raise RunFolderError(f"{path} has no fingerprint of the records: the run's folder is damaged.")
    return content


def flat_settings(tree: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Settings by their whole keys; an empty section is a value.

    Example:
        >>> flat_settings({"seed": 0, "data": {"loader": "records", "options": {}}})
        {'seed': 0, 'data.loader': 'records', 'data.options': {}}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        place = joined(key, name)
        flat |= flat_settings(value, place) if isinstance(value, Mapping) and value else {place: value}
    return flat


def wherever_files_lie(settings: Mapping[str, Any], model: bool = False) -> dict[str, Any]:
    """Flat settings with a mark in place of the path of data on this machine.

    What data hold is compared by the fingerprint of their records; files that were moved, or a copy of them beside that
    of a run, are the same data.

    Args:
        settings: by their whole keys.
        model: so, too, for the paths of model and tokenizer, where weights and tokens are compared otherwise.

    Example:
        >>> wherever_files_lie({"data.source": str(Path("rows.jsonl").absolute()), "data.test_source": "hub/id"})
        {'data.source': '<a path>', 'data.test_source': 'hub/id'}
    """
    movable = _SOURCES + _MODEL * model
    return {
        key: _MOVABLE if _is_within(key, movable) and isinstance(value, str) and is_path(value) else value
        for key, value in settings.items()
    }


def _is_within(key: str, sections: Iterable[str]) -> bool:
    """Whether a key is one of these, or in one of them."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def newest_checkpoint(folder: Path) -> Path:
    """The newest checkpoint whose manifest is whole.

    Raises:
        RunFolderError: there is no run in the folder, or one without a checkpoint.
    """
    check_no_comparison(folder)
    if not (folder / RECIPE).is_file():
        raise RunFolderError(f"{folder} holds no run: there is no {RECIPE} in it, so begin one without resuming.")
    found = checkpoints_in(folder)
    if found:
        return found[0].folder
    if (folder / ADAPTER).exists():
        raise RunFolderError(f"the run in {folder} is finished, and has no checkpoint to go on from: begin a new run.")
    raise RunFolderError(
        f"the run in {folder} has no whole checkpoint to resume from, since it ended before the first one, or "
        "training.checkpoint_every is not set: remove the folder and begin anew."
    )


def fingerprint(records: Iterable[Mapping[str, Any]]) -> str:
    """The SHA-256 of records, in their order, whatever the order of their columns.

    Example:
        >>> fingerprint([{"a": 1, "b": 2}]) == fingerprint([{"b": 2, "a": 1}])
        True
    """
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record, sort_keys=True, default=str).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def versions(records: str) -> dict[str, Any]:
    """What a run was made with: Python, packages, and the fingerprint of its records."""
    packages = package_versions(_PACKAGES)
    return {"python": packages["python"], "system": platform.platform(), **packages, "records": records}
