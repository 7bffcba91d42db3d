"""Which settings are best on prompts that are not measured on? Candidates, on folds of the training prompts.

    python benchmarks/choose_settings.py examples/recipes/compare_demo.yaml benchmarks/choices/demo.yaml
    python benchmarks/choose_settings.py RECIPE CANDIDATES --only first second --measured 1

The held-out rows of the recipe are not looked at. Its training prompts are dealt into folds; each candidate is trained
once for each fold, on the others, and measured on the fold, so that every training row is measured once by a model that
did not see its prompt. A front is of the means over all of them, and gaps are to the first candidate, with the interval
of a paired bootstrap over prompts. Trainings and measurements are folders that are whole or not there: called again, or
beside another one with `--only`, the command does what is missing, on the same data and weights.

A file of candidates is a list of `name`, `method` (of `mopref compare`, "ours" by default) and `settings`, by their
whole keys. Data, model, objective and what the evaluation measures by are the same for all candidates; what cannot be
compared is refused before anything is trained.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mopref._paths import checked_path
from mopref._repr import short_repr
from mopref.baselines import METHODS, make_method
from mopref.llm.evaluation import prompt_units
from mopref.recipes.method_beginning import beginning_of, check_beginning, prompt_writer, write_beginning
from mopref.recipes.method_cells import Cell, KeptTrainings, read_cell, write_cell
from mopref.recipes.method_measurement import held_out_rows, method_options, method_trainings, preference_scores
from mopref.recipes.method_plan import MethodRecipe, fingerprint_of, load_method_recipe
from mopref.recipes.method_statistics import HeldOut, method_figures
from mopref.recipes.mistakes import RecipeError, RunFolderError, nearest, settings_at
from mopref.recipes.models import adapted_model, load_tokenizer
from mopref.recipes.parts import make_parts
from mopref.recipes.recipe import AdapterSettings
from mopref.recipes.rows import tokenized
from mopref.recipes.run import read_data, run_objective
from mopref.recipes.run_folder import fingerprint
from mopref.recipes.training import Preparation, prepare
from mopref.recipes.typed import settings_of

# What all candidates must have alike, as whole keys and sections, and why: what decides on which rows they are measured
# on and by what. A setting that is not here, such as a learning rate, is one that may be chosen.
_ALIKE = {
    "seed": "it decides which rows are trained on and measured",
    "objectives": "their losses are what is measured",
    "data": "it decides which rows are trained on and measured",
    "model": "the losses are of one base model, whose tokens the rows are",
    "objective": "it decides which losses are measured",
    "evaluation.points": "the losses are measured at one set of preferences",
    "evaluation.preferences": "the losses are measured at one set of preferences",
    "evaluation.reference_point": "all hypervolumes are under one point",
    "evaluation.interval_level": "all intervals of the table are of one level",
}
# What this command gives itself, and how it is told to.
_GIVEN = {
    "comparison.methods": "give the candidate's method",
    "comparison.seeds": "give --seed",
    "output": "give --output",
}


@dataclass(frozen=True)
class Candidate:
    """Settings that are tried.

    Args:
        name: what the table calls it.
        method: what is trained with them.
        settings: by their whole keys, in place of the recipe's.
    """

    name: str
    method: str = "ours"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, path: Path, folder: Path, seed: int) -> MethodRecipe:
        """The recipe with these settings; its seeds are none of those that are measured."""
        given = {**self.settings, "comparison.methods": ["ours", self.method][self.method == "ours" :]}
        given |= {"comparison.seeds": [seed], "output": str(folder)}
        flags = [word for key, value in given.items() for word in (f"--{key}", yaml.safe_dump(value).split("\n...")[0])]
        recipe = load_method_recipe(path, flags).completed()
        assert isinstance(recipe, MethodRecipe)
        return recipe


def main(words: list[str] | None = None) -> None:
    """Train and measure what is missing, and print a table of the candidates that are whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("candidates", type=Path)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--measured", type=int, help="measure on the first folds only, so many; on all by default")
    parser.add_argument("--seed", type=int, default=100, help="of folds, adapters and trainings")
    parser.add_argument("--only", nargs="+", help="names of candidates to do now; the table has those that are whole")
    parser.add_argument("--output", type=Path, help="a folder; outputs/choices/<candidates' file> by default")
    options = parser.parse_args(words)
    options.measured = options.folds if options.measured is None else options.measured
    if not 1 <= options.measured <= options.folds:
        parser.error(f"--measured is {options.measured}: there are {options.folds} folds.")
    if options.folds < 2:
        parser.error(f"--folds is {options.folds}: all but the measured one are trained on, so give 2 or more.")
    try:
        candidates = read_candidates(options.candidates)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    options.output = options.output or Path("outputs/choices") / options.candidates.stem
    for name in options.only or []:
        if name not in {candidate.name for candidate in candidates}:
            parser.error(f"--only names {name!r}, which is no candidate of {options.candidates}.")
    try:
        print(_done(candidates, options))
    except (RecipeError, RunFolderError) as error:
        parser.exit(1, f"{error}\n")


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of a file.

    Raises:
        OSError: there is no such file.
        ValueError: no YAML, no candidates, another key than a candidate's, a name that is no folder's own or stands
            twice, a method that is none, or settings that are no mapping or that the command gives itself.
    """
    entries = _read_entries(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} holds no list of candidates: give each a name, and settings.")
    for entry in entries:
        if not isinstance(entry, dict) or not {"name"} <= entry.keys() <= {"name", "method", "settings"}:
            raise ValueError(f"{path} has the candidate {entry!r:.200}: give name, method and settings only.")
    candidates = [Candidate(**entry) for entry in entries]
    names = [candidate.name for candidate in candidates]
    for name in names:
        if not _is_folder_name(name) or names.count(name) > 1:
            raise ValueError(
                f"{path} has the name {name!r:.80}: what is trained goes into a folder of that name, so it must be a "
                "folder's own, and stand once."
            )
    for candidate in candidates:
        _check_candidate(candidate, f"{path}, candidate {candidate.name!r}")
    return candidates


def _read_entries(path: Path) -> Any:
    """What a YAML file holds."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, ValueError) as error:
        # Others than YAML's own are of a text that is none of its tag's kind, or no UTF-8.
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{path} cannot be read ({reason}): correct it, or put a text in quotes.") from error


def _is_folder_name(name: Any) -> bool:
    """Whether a folder within another one can have the name."""
    if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
        return False
    try:
        checked_path(name, "name")
    except ValueError:
        return False
    return True


def _check_candidate(candidate: Candidate, place: str) -> None:
    """Refuse what no recipe is needed to see."""
    method, settings = candidate.method, candidate.settings
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"{place}: method is {method!r:.80}, which is none: {nearest(str(method), METHODS)}")
    if not isinstance(settings, dict):
        raise ValueError(
            f"{place}: settings is {settings!r:.80}: they stand by their whole keys, so write a mapping such as "
            "{training.steps: 100}, or leave it out."
        )
    for key, value in settings.items():
        if not isinstance(key, str):
            raise ValueError(f"{place}: settings has the key {key!r:.80}: that of a setting is a text.")
        if key in _GIVEN:
            raise ValueError(
                f"{place}, {key} is {short_repr(value)}: the command gives it, so leave it out; {_GIVEN[key]}."
            )
        # The parser of flags has some of its own, such as one for another file of settings.
        if key.partition(".")[0] not in (known := settings_of(MethodRecipe)):
            raise ValueError(f"{place}, {key}: there is no such setting; {nearest(key.partition('.')[0], known)}")


def agreeing_recipes(candidates: Sequence[Candidate], options: argparse.Namespace) -> dict[str, MethodRecipe]:
    """The recipes of candidates that can be compared, complete, by the candidates' names; nothing is loaded.

    Raises:
        RecipeError: settings that cannot be, or others than the first candidate's where all must be measured alike; the
            candidate and the key are named.
    """
    recipes: dict[str, MethodRecipe] = {}
    for candidate in candidates:
        with _of_candidate(candidate, options):
            recipes[candidate.name] = candidate.recipe(options.recipe, options.output / candidate.name, options.seed)
    first = candidates[0].name
    expected = _alike(recipes[first])
    for candidate in candidates[1:]:
        with _of_candidate(candidate, options):
            for key, (value, reason) in _alike(recipes[candidate.name]).items():
                if value != expected[key][0]:
                    raise RecipeError(
                        key,
                        f"is {short_repr(value)}, and for the first candidate {first!r}, which gaps are to, "
                        f"{short_repr(expected[key][0])}: {reason}, so give all candidates the same, or compare this "
                        "one in another file.",
                    )
    return recipes


def _alike(recipe: MethodRecipe) -> dict[str, tuple[Any, str]]:
    """The settings that all candidates must have alike, by their whole keys, and why."""
    tree, alike = json.loads(json.dumps(asdict(recipe))), {}
    for key, reason in _ALIKE.items():
        value = tree
        for name in key.split("."):
            value = value[name]
        own = {f"{key}.{name}": entry for name, entry in value.items()} if isinstance(value, dict) else {key: value}
        alike |= {whole_key: (entry, reason) for whole_key, entry in own.items()}
    return alike


@contextmanager
def _of_candidate(candidate: Candidate, options: argparse.Namespace) -> Iterator[None]:
    """Within this block a mistake is told with the file and the name of the candidate that it is of."""
    place = f"{options.candidates}, candidate {candidate.name!r}"
    try:
        yield
    except RecipeError as error:
        # A candidate's settings are given as flags, and are none in its file.
        before, problem = error.place.removeprefix("--"), error.problem.replace(" --", " ")
        raise RecipeError(error.key, problem, f"{place}, {before}") from error
    except FileNotFoundError as error:
        raise RecipeError("", f": {error}", place) from error
    except RunFolderError as error:
        raise RunFolderError(f"{place}, with --folds {options.folds}: {error}") from error


def dealt(units: list[Any], folds: int, seed: int) -> np.ndarray:
    """The fold of each row, ``(rows,)``: rows of one prompt are in one, and folds have as many prompts, or one more."""
    prompts = sorted(set(units))
    order = np.random.default_rng(seed).permutation(len(prompts))
    fold_of = {prompts[place]: number % folds for number, place in enumerate(order)}
    return np.array([fold_of[unit] for unit in units])


def table(cells: Mapping[str, Cell], held_out: HeldOut) -> str:
    """A Markdown table, the first candidate's line first."""
    first = next(iter(cells))
    # Gaps are to what is called ours.
    figures = method_figures({"ours" if name == first else name: [cell] for name, cell in cells.items()}, held_out)
    lines = ["| | hypervolume | gap | inner product | corners' losses |", "|---|---|---|---|---|"]
    for name, own in zip(cells, figures, strict=True):
        gap = own.gaps.get("hypervolume")
        told = "–" if gap is None else f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        # The lattice has objective i's corner where λ_i is 1.
        corners = ", ".join(
            f"{own.seeds[0].values[held_out.preferences[:, place].argmax(), place]:.3f}"
            for place in range(len(held_out.names))
        )
        parts = [name, f"{own.mean('hypervolume'):.4f}", told, f"{own.mean('inner_product'):.4f}", corners]
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def _done(candidates: Sequence[Candidate], options: argparse.Namespace) -> str:
    """The table of candidates, after what is missing was done; all that can be refused is refused before."""
    recipes = agreeing_recipes(candidates, options)
    with _of_candidate(candidates[0], options):
        _check_records(recipes[candidates[0].name], options)
    missing: list[Candidate] = []
    for candidate in candidates:
        with _of_candidate(candidate, options):
            if _is_missing(candidate, recipes[candidate.name], options):
                missing.append(candidate)
    _check_models(missing, recipes, options)
    for candidate in missing:
        with _of_candidate(candidate, options):
            _measure(candidate, recipes[candidate.name], options)
    # Read at the end, since others may have been made by a command beside this one.
    whole: dict[str, Cell] = {}
    for candidate in candidates:
        with _of_candidate(candidate, options):
            if (cell := _pooled(recipes[candidate.name], options)) is not None:
                whole[candidate.name] = cell
    first = candidates[0].name
    if first not in whole:
        return f"{first}, which gaps are to, is not whole yet."
    return table(whole, _held_out_of(recipes[first], options))


def _key_of(recipe: MethodRecipe, options: argparse.Namespace) -> str:
    """The fingerprint of what a candidate's trainings and measurements are made with."""
    return fingerprint_of(replace(recipe, output=""), f"{options.folds} folds", recipe.comparison.methods[-1])


def _pooled_name(options: argparse.Namespace) -> str:
    return f"pooled-{options.measured}"


def _pooled(recipe: MethodRecipe, options: argparse.Namespace) -> Cell | None:
    """A candidate's losses of all measured folds; ``None`` where they are not whole."""
    return read_cell(Path(recipe.output), _pooled_name(options), options.seed, _key_of(recipe, options))


def _is_missing(candidate: Candidate, recipe: MethodRecipe, options: argparse.Namespace) -> bool:
    """Whether a candidate is to be trained or measured now; what is there of it already is looked at.

    Raises:
        RunFolderError: something in the candidate's folder is damaged, or of other settings, data or folds.
    """
    is_wanted = options.only is None or candidate.name in options.only
    if _pooled(recipe, options) is not None or not is_wanted:
        return False
    key = _key_of(recipe, options)
    for fold in range(options.measured):
        own = Path(recipe.output) / f"fold-{fold}"
        if read_cell(own, candidate.method, options.seed, key) is None:
            KeptTrainings(own, options.seed, key).check()
    return True


def _check_records(recipe: MethodRecipe, options: argparse.Namespace) -> None:
    """Refuse other data than those of folds that are kept.

    Raises:
        RunFolderError: such data.
    """
    train, test = read_data(recipe, make_parts(recipe))
    check_beginning(options.output, recipe.model.name, {"records": fingerprint([*train, *test])})


def _check_models(
    candidates: Sequence[Candidate], recipes: Mapping[str, MethodRecipe], options: argparse.Namespace
) -> None:
    """Refuse what the model or its tokenizer cannot do for some candidate, before another one is trained.

    Raises:
        RecipeError: a tokenizer that cannot write λ for the method that needs it, or adapters that the model cannot
            have.
    """
    for candidate in candidates:
        recipe = recipes[candidate.name]
        if candidate.method == "prompt":
            with _of_candidate(candidate, options):
                prompt_writer(load_tokenizer(recipe.model), recipe)
    # The first one's are tried when it is prepared, and nothing is trained before that.
    tried = [recipes[candidate.name].adapter for candidate in candidates[:1]]
    for candidate in candidates[1:]:
        recipe = recipes[candidate.name]
        if recipe.adapter not in tried:
            tried.append(recipe.adapter)
            parts, names = make_parts(recipe), [setting.name for setting in fields(AdapterSettings)]
            with _of_candidate(candidate, options), settings_at("adapter", names):
                adapted_model(recipe.model, parts.adapter, parts.device)


def _measure(candidate: Candidate, recipe: MethodRecipe, options: argparse.Namespace) -> None:
    """Write the losses of the measured folds' rows by models that did not see them."""
    folder, key = Path(recipe.output), _key_of(recipe, options)
    places = [folder / f"fold-{fold}" for fold in range(options.measured)]
    cells = [read_cell(place, candidate.method, options.seed, key) for place in places]
    if None in cells:
        with settings_at("", []):
            ready = prepare(recipe, print)
        beginning = beginning_of(ready)
        check_beginning(options.output, recipe.model.name, beginning)
        write_beginning(options.output, beginning)
        rows = ready.train_rows
    else:
        rows = _training_rows(recipe)
    folds = dealt(prompt_units(rows), options.folds, options.seed)
    losses: np.ndarray | None = None
    for fold, (place, own) in enumerate(zip(places, cells, strict=True)):
        if own is None:
            print(f"{candidate.name}, fold {fold + 1} of {options.folds} …", flush=True)
            own = _of_fold(ready, recipe, candidate.method, place, folds == fold, options.seed, key)
        losses = np.empty((len(own.losses), len(folds), own.losses.shape[2])) if losses is None else losses
        losses[:, folds == fold] = own.losses
    assert losses is not None
    pooled = replace(own, method=_pooled_name(options), losses=losses[:, folds < options.measured])
    write_cell(folder, pooled, key)


def _of_fold(
    ready: Preparation, recipe: MethodRecipe, method: str, folder: Path, held: np.ndarray, seed: int, key: str
) -> Cell:
    """One fold's cell, trained on the rows that are not held and measured on those that are."""
    objective: Any = ready.objective
    train_rows, test_rows = ([ready.train_rows[place] for place in np.flatnonzero(side)] for side in (~held, held))
    own, of_fold = replace(ready, train_rows=train_rows, test_rows=test_rows), replace(recipe, output=str(folder))
    trainings = method_trainings(own, of_fold, seed, key)
    writer = prompt_writer(ready.tokenizer, recipe)
    policy = make_method(method, trainings, method_options(own, of_fold, writer, seed))
    losses = objective.pair_losses(preference_scores(own, of_fold, policy.model), objective.labels(test_rows))
    cell = Cell(method, seed, losses.numpy(), {}, policy.budget, dict(policy.notes))
    write_cell(folder, cell, key)
    return cell


def _held_out_of(recipe: MethodRecipe, options: argparse.Namespace) -> HeldOut:
    """What all were measured on: the training rows of the measured folds."""
    rows = _training_rows(recipe)
    measured = dealt(prompt_units(rows), options.folds, options.seed) < options.measured
    own = [row for row, is_measured in zip(rows, measured, strict=True) if is_measured]
    return held_out_rows(
        recipe, run_objective(recipe, load_tokenizer(recipe.model)), make_parts(recipe).preferences, own
    )


def _training_rows(recipe: MethodRecipe) -> Any:
    """The rows that folds are made of, without the model."""
    parts = make_parts(recipe)
    records, _ = read_data(recipe, parts)
    return tokenized(parts.kind, load_tokenizer(recipe.model), records, recipe.objectives, recipe.data)


if __name__ == "__main__":
    main()
