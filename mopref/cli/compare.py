"""``mopref compare``: the fronts of two runs or more, or the methods of a recipe, side by side."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from mopref.cli.arguments import command_parser, first_argument, parsed, take_value
from mopref.cli.mistakes import UsageError
from mopref.cli.output import show, tell
from mopref.recipes import (
    MethodRecipe,
    compare,
    compare_methods,
    comparison_text,
    load_method_recipe,
    write_comparison,
)
from mopref.recipes.reading import add_recipe_flags
from mopref.recipes.run_folder import check_new_folder

__all__ = ["methods_parser", "parser", "run"]

_RECIPES = (".yaml", ".yml")

_DESCRIPTION = """Compare the fronts of two runs or more: hypervolumes, best values, how much of the union each holds,
which covers the other, the values at every preference that all share, and the settings in which the recipes differ.

  mopref compare runs/first runs/second
  mopref compare runs/first runs/second runs/third --reference-point 1,1 --output runs/comparison

Reads front.json, recipe.yaml and versions.json of every folder, or .json files of fronts. Fronts of other objectives or
directions are refused; what was measured on other held-out data is told by a warning. Writes comparison.png, .json and
.csv into the folder of --output, new or empty; without it nothing but the tables.

  mopref compare methods.yaml --comparison.seeds "[0, 1]"

With a recipe, every method of its section `comparison` is trained with every seed and measured on the same held-out
rows; its other sections are as of a run, and each of its settings is a flag (methods.yaml --help). Writes methods.json,
.csv and .md, fronts.png, gaps.png, beginning.json, cells/ and runs/ into the folder of `output`. Called again it goes
on: with what is missing, also with more methods or seeds."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser(
        "compare",
        "RUN RUN … [--reference-point NUMBER,…] [--output FOLDER] | RECIPE.yaml [--SETTING VALUE …]",
        _DESCRIPTION,
    )
    made.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a run, or the .json file of a front")
    made.add_argument(
        "--reference-point",
        metavar="NUMBER,…",
        help="of the hypervolumes, a number for each objective in their order, as in 1,1; by default the runs' own",
    )
    made.add_argument("--output", metavar="FOLDER", help="where pictures and figures go, a new or empty folder")
    return made


def methods_parser() -> ArgumentParser:
    """The parser of a comparison of a recipe's methods, each of whose settings is a flag."""
    made = command_parser("compare", "RECIPE.yaml [--SETTING VALUE …]", _DESCRIPTION)
    made.add_argument("file", metavar="RECIPE.yaml", help="the recipe")
    add_recipe_flags(made, MethodRecipe)
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    if arguments and Path(arguments[0]).suffix in _RECIPES:
        first_argument(arguments, methods_parser, "the recipe")
        _compare_methods(arguments[0], arguments[1:])
        return
    # A negative number would be taken for a flag.
    text, others = take_value(arguments, "--reference-point")
    given = parsed(parser(), others)
    point = None if text is None else _numbers(text)
    if given.output is not None:
        check_new_folder(Path(given.output), for_run=False)
    comparison = compare(given.runs, point)
    show(comparison_text(comparison))
    if given.output is not None:
        write_comparison(comparison, given.output)
        tell(f"Written to {given.output}.")


def _compare_methods(path: str, flags: Sequence[str]) -> None:
    comparison = compare_methods(load_method_recipe(path, flags), tell)
    show(comparison.text)
    tell(f"Written to {comparison.folder}.")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--reference-point is {text!r}: write a number for each objective, as in 1,1.") from None
