"""Compare methods: train and measure each with each seed, go on where that stopped, and write the figures."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mopref._agreement import join_processes, process_count
from mopref._atomic_writes import remove_leftovers, write_atomically
from mopref._folder_lock import LOCK, only_writer
from mopref.argument_kinds import checked_fields, checks_arguments
from mopref.baselines import (
    METHODS,
    MethodPolicy,
    PromptWriter,
    Trainings,
    make_method,
)
from mopref.front import Front
from mopref.llm.evaluation import preference_accuracies
from mopref.mixed_precision import precision_name
from mopref.recipes.held_out import evenly, sampled_columns
from mopref.recipes.method_beginning import (
    beginning_of,
    check_beginning,
    check_methods,
    content_of,
    prompt_writer,
    write_beginning,
)
from mopref.recipes.method_cells import Cell, KeptTrainings, read_cell, write_cell
from mopref.recipes.method_measurement import held_out_rows, method_options, method_trainings, preference_scores
from mopref.recipes.method_plan import (
    MethodRecipe,
    check_method_recipe,
    fingerprint_of,
    fixed_settings,
    load_method_recipe,
    options_of,
)
from mopref.recipes.method_statistics import HeldOut, MethodFigures, method_figures
from mopref.recipes.method_text import csv_text, json_text, markdown_text
from mopref.recipes.mistakes import RecipeError, RunFolderError
from mopref.recipes.reading import save_recipe
from mopref.recipes.run import Tell, silent
from mopref.recipes.run_folder import CELLS, RECIPE, changed_settings, check_new_folder, flat_settings, located
from mopref.recipes.training import Preparation, prepare
from mopref.training.provenance import made_with

__all__ = ["MethodComparison", "compare_methods"]

_JSON, _CSV, _MARKDOWN, _FRONTS, _GAPS = "methods.json", "methods.csv", "methods.md", "fronts.png", "gaps.png"


@dataclass(frozen=True)
class MethodComparison:
    """Methods side by side.

    Args:
        recipe: complete.
        folder: where everything is.
        held_out: what all were measured on.
        methods: the figures of each.
        about: versions, precision and seeds.
    """

    recipe: MethodRecipe
    folder: Path
    held_out: HeldOut
    methods: tuple[MethodFigures, ...]
    about: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuse fields of another kind."""
        checked_fields(self)

    @property
    def text(self) -> str:
        """The tables, as Markdown."""
        return markdown_text(self.methods, self.held_out, self.about)


@checks_arguments
def compare_methods(recipe: MethodRecipe, tell: Tell = silent) -> MethodComparison:
    """Train and measure every method of a recipe with every seed, and write figures and pictures into its folder.

    Each training and each cell (a method with a seed) is written when it is whole. Called again with the same recipe,
    or with more methods or seeds, it does what is missing only.

    Args:
        recipe: the settings.
        tell: says what is being done.

    Raises:
        RecipeError: a setting that cannot be, or a folder that holds something else, or a comparison with other
            settings.
        RunFolderError: a cell or a training in it that is damaged, or of other settings, data or model.
        FileNotFoundError, ValueError: data that are not there, or cannot be trained on; row and column are named.
        BlockingIOError: another process is at the comparison in the folder.
        FloatingPointError: a training that diverged, or losses that are not finite; method and seed are named.
    """
    join_processes()
    completed = located(recipe.completed())
    assert isinstance(completed, MethodRecipe)
    recipe = completed
    check_method_recipe(recipe)
    if process_count() > 1:
        raise RecipeError("", f"is compared on one process, and here are {process_count()}: call it alone.")
    folder = Path(recipe.output)
    _check_folder(folder)
    with _at_work(folder):
        _check_settings(folder, recipe)
        return _compared(recipe, folder, tell)


def _compared(recipe: MethodRecipe, folder: Path, tell: Tell) -> MethodComparison:
    """Do what is missing, and write figures and pictures."""
    # What takes long waits until it is known that something is missing.
    ready = prepare(recipe, tell, precompute=False)
    writer = prompt_writer(ready.tokenizer, recipe)
    check_methods(ready, recipe, writer)
    beginning = beginning_of(ready)
    check_beginning(folder, recipe.model.name, beginning)
    fingerprints = _fingerprints(recipe, content_of(beginning))
    kept = _kept_cells(recipe, fingerprints)
    for place in (folder, folder / CELLS, *(folder / "runs").glob("*")):
        remove_leftovers(place, "")
    save_recipe(recipe, folder / RECIPE)
    write_beginning(folder, beginning)
    cells = _cells(ready, recipe, writer, tell, fingerprints, kept)
    held_out = held_out_rows(recipe, ready.objective, ready.parts.preferences, ready.test_rows)
    tell("Resampling prompts …")
    methods = tuple(method_figures(cells, held_out))
    about = {"seeds": list(recipe.comparison.seeds), "records": ready.records, "split_seed": recipe.seed}
    about |= {"model": recipe.model.name, "precision": _precision(ready), **made_with(process_count())}
    comparison = MethodComparison(recipe, folder, held_out, methods, about)
    _write(comparison)
    return comparison


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a comparison, or than what is left of one that was killed."""
    is_left = folder.is_dir() and [path.name for path in folder.iterdir()] == [LOCK]
    if not is_left and not (folder / CELLS).is_dir():
        check_new_folder(folder, for_run=False)


def _check_settings(folder: Path, recipe: MethodRecipe) -> None:
    """Refuse other settings than those of the comparison in a folder, where there is one."""
    if not (folder / RECIPE).is_file():
        return  # Killed before there was anything.
    earlier = load_method_recipe(folder / RECIPE)
    new, old = (flat_settings(asdict(own.completed())) for own in (recipe, earlier))
    for key in changed_settings(fixed_settings(recipe), fixed_settings(earlier)):
        raise RecipeError(
            key,
            f"is {new.get(key)!r}, and the comparison in {folder} was begun with {old.get(key)!r}: go on with that, or "
            "choose another output.",
        )


@contextmanager
def _at_work(folder: Path) -> Iterator[None]:
    """Within this block no other comparison is in the folder, which is as it was where nothing is written."""
    # Removed only where they are empty.
    made = [place for place in (folder / CELLS, folder) if not place.exists()]
    try:
        with only_writer(folder):
            (folder / CELLS).mkdir(parents=True, exist_ok=True)
            yield
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()


def _fingerprints(recipe: MethodRecipe, content: str) -> dict[str | None, str]:
    """Of each method's cells, and of the trainings, under ``None``."""
    return {name: fingerprint_of(recipe, content, name) for name in (*recipe.comparison.methods, None)}


def _kept_cells(recipe: MethodRecipe, fingerprints: Mapping[str | None, str]) -> dict[tuple[str, int], Cell]:
    """The cells that are there already, by method and seed; what is there, trainings too, is looked at.

    Raises:
        RunFolderError: it is damaged, or of other settings, data or model.
    """
    folder, kept = Path(recipe.output), {}
    for seed in recipe.comparison.seeds:
        for name in recipe.comparison.methods:
            try:
                cell = read_cell(folder, name, seed, fingerprints[name])
            except RunFolderError as error:
                if not (own := options_of(name)):
                    raise
                raise RunFolderError(f"{error} (The method's own settings are {' and '.join(own)}.)") from error
            if cell is not None:
                kept[name, seed] = cell
        if any((name, seed) not in kept for name in recipe.comparison.methods):
            KeptTrainings(folder, seed, fingerprints[None]).check()
    return kept


def _cells(
    ready: Preparation,
    recipe: MethodRecipe,
    writer: PromptWriter | None,
    tell: Tell,
    fingerprints: Mapping[str | None, str],
    kept: Mapping[tuple[str, int], Cell],
) -> dict[str, list[Cell]]:
    """All cells, measured now where they are not kept."""
    comparison = recipe.comparison
    total = len(comparison.methods) * len(comparison.seeds)
    cells: dict[str, list[Cell]] = {name: [] for name in METHODS if name in comparison.methods}
    number, is_computed = 0, False
    for seed in comparison.seeds:
        trainings: Trainings | None = None
        for name in cells:
            number += 1
            cell = kept.get((name, seed))
            if cell is None:
                if not is_computed:
                    ready, is_computed = ready.precomputed(tell), True
                tell(f"{number} of {total}: {METHODS[name].title}, seed {seed} …")
                trainings = trainings or method_trainings(ready, recipe, seed, fingerprints[None])
                with _named(name, seed):
                    policy = make_method(name, trainings, method_options(ready, recipe, writer, seed))
                    cell = _measured(ready, recipe, policy, seed)
                write_cell(Path(recipe.output), cell, fingerprints[name])
            cells[name].append(cell)
    return cells


@contextmanager
def _named(method: str, seed: int) -> Iterator[None]:
    """Within this block numbers that are not finite are told with the method, and how to go on without it."""
    try:
        yield
    except FloatingPointError as error:
        text = str(error).rstrip(".")
        raise FloatingPointError(
            f"{METHODS[method].title}, seed {seed}: {text}. To go on without it, leave {method!r} out of "
            "comparison.methods; other settings need another output."
        ) from error


def _measured(ready: Preparation, recipe: MethodRecipe, policy: MethodPolicy, seed: int) -> Cell:
    """One cell: losses of every held-out row at every preference, accuracies and, where asked for, sampled answers."""
    objective: Any = ready.objective
    preferences, evaluation = ready.parts.preferences, recipe.evaluation
    scores, labels = preference_scores(ready, recipe, policy.model), objective.labels(ready.test_rows)
    losses = objective.pair_losses(scores, labels)
    if not (scores.isfinite().all() and losses.isfinite().all()):
        raise FloatingPointError("held-out losses are not finite: what was trained, or its settings, went too far")
    accuracies = preference_accuracies(scores[..., 0] - scores[..., 1], labels)
    columns = {f"accuracy_{name}": accuracies[:, place].tolist() for place, name in enumerate(objective.names)}
    prompts = evenly(ready.test_prompts, evaluation.sampled_prompts)
    sampled = sampled_columns(ready.run(), preferences, prompts, progress=False, model=policy.model)
    columns |= {name: np.asarray(column).tolist() for name, column in sampled.items()}
    return Cell(policy.name, seed, losses.numpy(), columns, policy.budget, dict(policy.notes))


def _precision(ready: Preparation) -> str:
    return precision_name(ready.model, ready.recipe.training.mixed_precision)


def _write(comparison: MethodComparison) -> None:
    """Figures and pictures, in the folder."""
    from mopref.plotting import plot_comparison, plot_gaps

    folder, methods, held_out = comparison.folder, comparison.methods, comparison.held_out
    first = methods[0].seeds[0].seed
    title = f"Held-out losses, seed {first}"
    plot_comparison(dict(_fronts(comparison)), folder / _FRONTS, held_out.reference_point, title)
    gaps = {METHODS[own.method].title: own.gaps["hypervolume"] for own in methods if own.gaps}
    if gaps:
        point = ", ".join(f"{number:g}" for number in held_out.reference_point)
        label = f"hypervolume less ours, reference point ({point})"
        bounds = {name: (gap.value, gap.low, gap.high) for name, gap in gaps.items()}
        plot_gaps(bounds, folder / _GAPS, label, held_out.interval_level, _gaps_title(comparison))
    else:
        # One that an earlier call drew shows methods that these tables do not have.
        (folder / _GAPS).unlink(missing_ok=True)
    documents = {
        _JSON: json_text(methods, held_out, comparison.about),
        _CSV: csv_text(methods, held_out),
        _MARKDOWN: comparison.text,
    }
    for name, text in documents.items():
        write_atomically(folder / name, text.encode())


def _gaps_title(comparison: MethodComparison) -> str:
    seeds = [str(own.seed) for own in comparison.methods[0].seeds]
    return f"Means over seeds {', '.join(seeds)}" if len(seeds) > 1 else f"Seed {seeds[0]}"


def _fronts(comparison: MethodComparison) -> Iterator[tuple[str, Front]]:
    """The first seed's fronts, but for the controls."""
    held_out = comparison.held_out
    for own in comparison.methods:
        if not METHODS[own.method].is_control:
            yield METHODS[own.method].title, Front(held_out.preferences, own.seeds[0].values, held_out.names)
