"""``mopref evaluate``: measure a run's front again."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from mopref.cli.arguments import command_parser, first_argument, take_value
from mopref.cli.mistakes import UsageError
from mopref.cli.output import show, tell, terminal_width
from mopref.recipes import EvaluationSettings, RunFolderError, evaluate, load_recipe, open_run
from mopref.recipes.run_folder import FRONT, RECIPE

__all__ = ["parser", "run"]

_DESCRIPTION = """Measure the front of a run on its held-out data, at other preferences or with other prompts.

  mopref evaluate runs/latest --evaluation.points 11 --output runs/latest-11

Reads the run's folder, and the model and data that its recipe names.
Writes front.json, front.csv, front.png and answers.json into the folder of --output, by default the run's own if it
has no front yet."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("evaluate", "RUN [--output FOLDER] [--evaluation.SETTING VALUE …]", _DESCRIPTION)
    made.add_argument("folder", metavar="RUN", help="the folder of a run")
    made.add_argument("--output", metavar="FOLDER", help="where the front goes")
    made.add_class_arguments(EvaluationSettings, "evaluation")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    folder = Path(first_argument(arguments, parser, "the run's folder"))
    output, flags = take_value(arguments[1:], "--output")
    for flag in flags:
        if flag.startswith("--") and not flag.startswith("--evaluation"):
            raise UsageError(f"{flag}: a run's own settings stay as they are; give --evaluation.… and --output only.")
    target = folder if output is None else Path(output)
    if (target / FRONT).exists():
        raise UsageError(f"{target} holds a front already: say with --output where this one goes.")
    if not (folder / RECIPE).is_file():
        raise RunFolderError(f"{folder} is no finished run: there is no {RECIPE} in it; give the folder of a run.")
    # What is said of the points replaces what the recipe says, in whichever way; nothing is monitored any more.
    for one, other in (("points", "preferences"), ("preferences", "points")):
        given = [flag.partition("=")[0] for flag in flags]
        if f"--evaluation.{one}" in given and f"--evaluation.{other}" not in given:
            flags = [*flags, f"--evaluation.{other}", "null"]
    settings = load_recipe(folder / RECIPE, [*flags, "--monitoring", "{}"], for_training=False).evaluation
    opened = open_run(folder, with_data=True)
    front = evaluate(opened, settings, target, tell)
    show(front.summary(width=terminal_width()))
    tell(f"Written to {target}.")
