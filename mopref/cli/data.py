"""``mopref data inspect`` and ``mopref data sample``: look at the data of a recipe, or have its model write pairs."""

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from mopref._named_weights import named_weights
from mopref._terminal import visible
from mopref.cli.arguments import command_parser, first_argument, take_value
from mopref.cli.mistakes import UsageError
from mopref.cli.output import show, tell
from mopref.recipes import load_recipe
from mopref.recipes.inspection import RenderedRow, inspect_data
from mopref.recipes.own_pairs import write_own_pairs
from mopref.recipes.reading import add_recipe_flags

__all__ = ["parser", "run"]

_DESCRIPTION = """Look at the data of a recipe before training on them, or have its model write pairs to train on.

  mopref data inspect recipe.yaml
  mopref data inspect recipe.yaml --rows 3 --data.max_prompt_length 256
  mopref data sample prompts.yaml --output pairs.jsonl --gaps "helpful=.1,harmless=.1"

`inspect` shows labels of each objective, agreement and conflict between objectives, lengths against the limits, prompts
that are on both sides, and rows as the model's own template lays them out, with the tokens that are trained in
brackets. It reads the recipe, its data and its tokenizer; no model is loaded. Writes nothing but what it prints.

`sample` takes a recipe of online-dpo or rlhf: the base model answers every prompt of data.source twice, as
objective.options says, and each reward labels the pair on its objective, where its two values differ by the gap at
least (--gaps, 0 by default). Reads the recipe, its prompts and the model. Writes the file of --output, which must be a
new one and ends in .jsonl: records for the loader `records`, which every objective on pairs trains on."""

_ACTIONS = ("inspect", "sample")


def parser() -> ArgumentParser:
    """The command's parser."""
    usage = "inspect|sample RECIPE.yaml [--rows N] [--output FILE.jsonl --gaps NAME=GAP,…] [--SETTING VALUE …]"
    made = command_parser("data", usage, _DESCRIPTION)
    made.add_argument("action", metavar="inspect|sample", choices=_ACTIONS, help="what is done")
    made.add_argument("file", metavar="RECIPE.yaml", help="the recipe")
    made.add_argument("--rows", type=int, default=10, help="rows that `inspect` shows")
    made.add_argument("--gaps", metavar="NAME=GAP,…", help="the smallest difference of rewards that `sample` labels")
    add_recipe_flags(made)
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    action = first_argument(arguments, parser, "the action `inspect` or `sample`")
    if action not in _ACTIONS:
        raise UsageError(f"there is no action {action!r}: write `mopref data inspect recipe.yaml`, or `sample`.")
    path = first_argument(arguments[1:], parser, f"after `{action}` the recipe")
    (_inspect if action == "inspect" else _sample)(path, arguments[2:])


def _inspect(path: str, flags: Sequence[str]) -> None:
    rows, flags = take_value(flags, "--rows")
    if rows is not None and not rows.isdecimal():
        raise UsageError(f"--rows is {rows!r}: it is a number of rows, so it must be a whole number ≥ 0.")
    report = inspect_data(load_recipe(path, flags, for_training=False), 10 if rows is None else int(rows))
    show("\n".join(report.lines))
    for number, row in enumerate(report.rows):
        show(f"\nrow {number}{': ' if row.labels else ''}{row.labels}")
        print(_text(row))


def _sample(path: str, flags: Sequence[str]) -> None:
    output, flags = take_value(flags, "--output")
    text, flags = take_value(flags, "--gaps")
    if output is None:
        raise UsageError("--output is missing: say which file the pairs go into, as in --output pairs.jsonl.")
    try:
        gaps = {} if text is None else named_weights(text)
    except ValueError as error:
        raise UsageError(f"--gaps is {text!r}: {error}; write them as in warm=0.2,concise=4.") from None
    counts = write_own_pairs(load_recipe(path, flags, for_training=False), output, gaps, tell)
    show(f"{counts.records} pairs on {counts.prompts} prompts")
    for name, labelled in counts.labelled.items():
        show(f"labelled on {name}: {_share(labelled, counts.records)}")
    show(f"labelled on all objectives: {_share(counts.labelled_on_all, counts.records)}")
    show(f"with opposite labels: {_share(counts.in_conflict, counts.records)}")
    tell(f"Written to {output}.")


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})"


def _text(row: RenderedRow) -> str:
    """The prompt, and behind it each response, in brackets or, on a terminal, in colour."""
    start, end = ("\x1b[32m", "\x1b[0m") if sys.stdout.isatty() else ("⟦", "⟧")
    return "\n".join([visible(row.prompt), *(f"{start}{visible(response)}{end}" for response in row.responses)])
