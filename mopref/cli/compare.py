"""``mopref compare``: the fronts of two runs or more, side by side."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from mopref.cli.arguments import command_parser, parsed, take_value
from mopref.cli.mistakes import UsageError
from mopref.cli.output import show, tell
from mopref.recipes import compare, comparison_text, write_comparison
from mopref.recipes.run_folder import check_new_folder

__all__ = ["parser", "run"]

_DESCRIPTION = """Compare the fronts of two runs or more: hypervolumes, best values, how much of the union each holds,
which covers the other, the values at every preference that all share, and the settings in which the recipes differ.

  mopref compare runs/first runs/second
  mopref compare runs/first runs/second runs/third --reference-point 1,1 --output runs/comparison

Reads front.json, recipe.yaml and versions.json of every folder, or .json files of fronts. Fronts of other objectives or
directions are refused; what was measured on other held-out data is told by a warning. Writes comparison.png, .json and
.csv into the folder of --output, new or empty; without it nothing but the tables."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("compare", "RUN RUN … [--reference-point NUMBER,…] [--output FOLDER]", _DESCRIPTION)
    made.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a run, or the .json file of a front")
    made.add_argument(
        "--reference-point",
        metavar="NUMBER,…",
        help="of the hypervolumes, a number for each objective in their order, as in 1,1; by default the runs' own",
    )
    made.add_argument("--output", metavar="FOLDER", help="where pictures and figures go, a new or empty folder")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
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


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--reference-point is {text!r}: write a number for each objective, as in 1,1.") from None
