"""``mopref init``: a starter recipe."""

from collections.abc import Sequence
from dataclasses import replace

from jsonargparse import ArgumentParser

from mopref.argument_kinds import checked_path
from mopref.cli.arguments import command_parser, parsed
from mopref.cli.mistakes import UsageError
from mopref.cli.output import tell
from mopref.recipes import DataSettings, Recipe, recipe_text

__all__ = ["parser", "run"]

_DESCRIPTION = """Write a starter recipe: every setting with its default and a comment that says what it is.

  mopref init recipe.yaml

Reads nothing. Writes one file, never over another. All lines but `objectives` and `data: source` may be deleted."""

_HEAD = """# A recipe of mopref: edit objectives, data and model, then run `mopref train` on this file.
# A record of data/source, one JSON object a line, is a prompt with two responses and a label for each objective:
# {"prompt": "…", "response_0": "…", "response_1": "…", "helpful": 0, "harmless": 1}
# 0 or 1 is the response that is better by the objective; -1 says tied or not labelled.
# So learn dpo, simpo and orpo. Other objectives learn from other records, which other loaders read:
# kto, loader unpaired-records: {"prompt": "…", "response": "…", "helpful": 1, "harmless": -1}, 1 good and 0 bad
# sft, loader responses: {"prompt": "…", "response": "…", "dimension": "helpful"}
# rlhf and online-dpo, loader prompts: {"prompt": "…"}, and rewards

"""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("init", "[RECIPE.yaml]", _DESCRIPTION)
    made.add_argument("file", metavar="RECIPE.yaml", nargs="?", default="recipe.yaml", help="the file to write")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    path = checked_path(parsed(parser(), arguments).file, "RECIPE.yaml")
    if path.exists():
        raise UsageError(f"{path} is there already: give another name, or remove it.")
    starter = Recipe(objectives=("helpful", "harmless"), data=DataSettings(source="records.jsonl"), output="runs/first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}): give another name.") from error
    completed = starter.completed()
    # How many points there are to be depends on the objectives, which are yet to be named.
    completed = replace(completed, evaluation=replace(completed.evaluation, points=None))
    path.write_text(_HEAD + recipe_text(completed, with_help=True), encoding="utf-8")
    tell(f"Written: {path}. Edit objectives, data and model, then: mopref train {path}")
