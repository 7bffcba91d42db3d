"""Which settings are best on prompts that are not measured on? Candidates, on folds of the training prompts.

    python benchmarks/choose_settings.py examples/recipes/compare_demo.yaml benchmarks/choices/demo.yaml
    python benchmarks/choose_settings.py RECIPE CANDIDATES --only first second --measured 1

The held-out rows of the recipe are not looked at. Its training prompts are dealt into folds; each candidate is trained
once for each fold, on the others, and measured on the fold, so that every training row is measured once by a model that
did not see its prompt. A front is of the means over all of them, and gaps are to the first candidate, with the interval
of a paired bootstrap over prompts. Trainings and measurements are folders that are whole or not there: called again, or
beside another one with `--only`, the command does what is missing.

A file of candidates is a list of `name`, `method` (of `mopref compare`, "ours" by default) and `settings`, by their
whole keys.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mopref.baselines import make_method
from mopref.llm.evaluation import prompt_units
from mopref.recipes.method_cells import Cell, read_cell, write_cell
from mopref.recipes.method_measurement import held_out_rows, method_options, method_trainings, preference_scores
from mopref.recipes.method_plan import MethodRecipe, fingerprint_of, load_method_recipe
from mopref.recipes.method_statistics import HeldOut, method_figures
from mopref.recipes.training import Preparation, prepare


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
    folder = options.output or Path("outputs/choices") / options.candidates.stem
    for name in options.only or []:
        if name not in {candidate.name for candidate in candidates}:
            parser.error(f"--only names {name!r}, which is no candidate of {options.candidates}.")
    whole: dict[str, Cell] = {}
    for candidate in candidates:
        do = options.only is None or candidate.name in options.only
        own = folder / candidate.name
        if (cell := _measured(candidate, options, own, do)) is not None:
            whole[candidate.name] = cell
    if candidates[0].name not in whole:
        print(f"{candidates[0].name}, which gaps are to, is not whole yet.")
        return
    print(table(whole, _held_out_of(candidates[0], options, folder)))


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of a file.

    Raises:
        OSError: there is no such file.
        ValueError: none, another key than a candidate's, or a name that is no folder's own, or stands twice.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} holds no list of candidates: give each a name, and settings.")
    for entry in entries:
        if not isinstance(entry, dict) or not {"name"} <= entry.keys() <= {"name", "method", "settings"}:
            raise ValueError(f"{path} has the candidate {entry!r:.200}: give name, method and settings only.")
    candidates = [Candidate(**entry) for entry in entries]
    names = [candidate.name for candidate in candidates]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or names.count(name) > 1:
            raise ValueError(f"{path} has the name {name!r:.80}: it must be a folder's own, and stand once.")
    return candidates


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


def _measured(candidate: Candidate, options: argparse.Namespace, folder: Path, do: bool) -> Cell | None:
    """The losses of the measured folds' rows by models that did not see them; ``None`` where not whole nor wanted."""
    recipe = candidate.recipe(options.recipe, folder, options.seed)
    key = fingerprint_of(replace(recipe, output=""), f"{options.folds} folds")
    pooled_name = f"pooled-{options.measured}"
    found = read_cell(folder, pooled_name, options.seed, key)
    if found is not None or not do:
        return found
    ready = prepare(recipe, print)
    folds = dealt(prompt_units(ready.train_rows), options.folds, options.seed)
    losses: np.ndarray | None = None
    for fold in range(options.measured):
        print(f"{candidate.name}, fold {fold + 1} of {options.folds} …", flush=True)
        own, held = _of_fold(ready, recipe, candidate.method, folder / f"fold-{fold}", folds == fold, options.seed, key)
        losses = np.empty((len(own.losses), len(folds), own.losses.shape[2])) if losses is None else losses
        losses[:, held] = own.losses
    assert losses is not None
    pooled = replace(own, method=pooled_name, losses=losses[:, folds < options.measured])
    write_cell(folder, pooled, key)
    return pooled


def _of_fold(
    ready: Preparation, recipe: MethodRecipe, method: str, folder: Path, held: np.ndarray, seed: int, key: str
) -> tuple[Cell, np.ndarray]:
    """One fold's cell, measured now where it is not there, and the rows that it is of."""
    places = np.flatnonzero(held)
    found = read_cell(folder, method, seed, key)
    if found is None:
        objective: Any = ready.objective
        rows = [ready.train_rows[place] for place in np.flatnonzero(~held)]
        own = replace(ready, train_rows=rows, test_rows=[ready.train_rows[place] for place in places])
        of_fold = replace(recipe, output=str(folder))
        trainings = method_trainings(own, of_fold, seed, key)
        policy = make_method(method, trainings, method_options(own, of_fold, None, seed))
        losses = objective.pair_losses(preference_scores(own, of_fold, policy.model), objective.labels(own.test_rows))
        found = Cell(method, seed, losses.numpy(), {}, policy.budget, dict(policy.notes))
        write_cell(folder, found, key)
    return found, places


def _held_out_of(candidate: Candidate, options: argparse.Namespace, folder: Path) -> HeldOut:
    """What all were measured on: the training rows of the measured folds."""
    from mopref.recipes.models import load_tokenizer
    from mopref.recipes.parts import make_parts
    from mopref.recipes.rows import tokenized
    from mopref.recipes.run import read_data, run_objective

    recipe = candidate.recipe(options.recipe, folder, options.seed)
    parts, tokenizer = make_parts(recipe), load_tokenizer(recipe.model)
    rows = tokenized(parts.kind, tokenizer, read_data(recipe, parts)[0], recipe.objectives, recipe.data)
    measured = dealt(prompt_units(rows), options.folds, options.seed) < options.measured
    own = [row for row, is_measured in zip(rows, measured, strict=True) if is_measured]
    return held_out_rows(recipe, run_objective(recipe, tokenizer), parts.preferences, own)


if __name__ == "__main__":
    main()
