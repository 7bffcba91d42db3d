"""``mopref data inspect``: look at the data of a recipe."""

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from mopref._terminal import visible
from mopref.cli.arguments import command_parser, first_argument, take_value
from mopref.cli.mistakes import UsageError
from mopref.cli.output import show
from mopref.recipes import load_recipe
from mopref.recipes.inspection import RenderedRow, inspect_data
from mopref.recipes.reading import add_recipe_flags

__all__ = ["parser", "run"]

_DESCRIPTION = """Look at the data of a recipe before training on them: labels of each objective, agreement and conflict
between objectives, lengths against the limits, prompts that are on both sides, and rows as the model's own template
lays them out, with the tokens that are trained in brackets.

  mopref data inspect recipe.yaml
  mopref data inspect recipe.yaml --rows 3 --data.max_prompt_length 256

Reads the recipe, its data and its tokenizer; no model is loaded. Writes nothing but what it prints."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("data", "inspect RECIPE.yaml [--rows N] [--SETTING VALUE …]", _DESCRIPTION)
    made.add_argument("action", metavar="inspect", choices=["inspect"], help="what is done")
    made.add_argument("file", metavar="RECIPE.yaml", help="the recipe")
    made.add_argument("--rows", type=int, default=10, help="rows that are shown")
    add_recipe_flags(made)
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    action = first_argument(arguments, parser, "the action `inspect`")
    if action != "inspect":
        raise UsageError(f"there is no action {action!r}: write `mopref data inspect recipe.yaml`.")
    path = first_argument(arguments[1:], parser, "after `inspect` the recipe")
    rows, flags = take_value(arguments[2:], "--rows")
    if rows is not None and not rows.isdecimal():
        raise UsageError(f"--rows is {rows!r}: it is a number of rows, so it must be a whole number ≥ 0.")
    report = inspect_data(load_recipe(path, flags, for_training=False), 10 if rows is None else int(rows))
    show("\n".join(report.lines))
    for number, row in enumerate(report.rows):
        show(f"\nrow {number}{': ' if row.labels else ''}{row.labels}")
        print(_text(row))


def _text(row: RenderedRow) -> str:
    """The prompt, and behind it each response, in brackets or, on a terminal, in colour."""
    start, end = ("\x1b[32m", "\x1b[0m") if sys.stdout.isatty() else ("⟦", "⟧")
    return "\n".join([visible(row.prompt), *(f"{start}{visible(response)}{end}" for response in row.responses)])
