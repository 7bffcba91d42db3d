"""``mopref train``: train and evaluate what a recipe describes."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from mopref._agreement import ended_together, is_first_process, join_processes, launched_processes
from mopref.cli.arguments import command_parser, first_argument, take_switch
from mopref.cli.mistakes import UsageError
from mopref.cli.output import show, tell, terminal_width
from mopref.cli.report import write_documents
from mopref.recipes import evaluate, load_recipe, train
from mopref.recipes.reading import add_recipe_flags
from mopref.recipes.trial import try_out

__all__ = ["parser", "run"]

_DESCRIPTION = """Train a model for every balance of the objectives, and measure its front on held-out data.

  mopref train recipe.yaml
  mopref train recipe.yaml --training.steps 100 --output runs/short
  mopref train recipe.yaml --dry-run
  torchrun --nproc_per_node 8 -m mopref train recipe.yaml

Reads the recipe, and what it names. Every flag below is a setting of it, and counts in place of the file's.
Writes the folder that `output` names, which must be new or empty: recipe.yaml (complete; it runs this again),
versions.json, data.json, log.jsonl, checkpoints where training.checkpoint_every is set, adapter/ with its model card,
front.json, front.csv, front.png, answers.json and report.html. What can be refused is refused before anything is
written. On several processes, by torchrun or accelerate launch, a step has training.batch_size rows on each; the first
one writes and prints."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("train", "RECIPE.yaml [--resume] [--dry-run] [--SETTING VALUE …]", _DESCRIPTION)
    made.add_argument("file", metavar="RECIPE.yaml", help="the recipe")
    made.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder, from its newest checkpoint"
    )
    made.add_argument(
        "--dry-run", action="store_true", help="try everything once, estimate time and memory, write nothing"
    )
    add_recipe_flags(made)
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    path = first_argument(arguments, parser, "the recipe")
    resume, flags = take_switch(arguments[1:], "--resume")
    dry_run, flags = take_switch(flags, "--dry-run")
    if resume and dry_run:
        raise UsageError("--resume and --dry-run: a dry run begins nothing to go on with, so leave one out.")
    processes = launched_processes()
    if dry_run and processes > 1:
        raise UsageError(f"--dry-run: it tries what one process does, and here are {processes}: call it by itself.")
    join_processes()
    with ended_together():
        recipe = load_recipe(path, flags)
    if dry_run:
        show(try_out(recipe, tell))
        return
    trained = train(recipe, resume=resume, tell=tell)
    front = evaluate(trained, tell=tell, replace_front=resume)
    show(front.summary(width=terminal_width()))
    with ended_together():
        if is_first_process():
            write_documents(trained.folder)
    tell(f"Written to {trained.folder}.")
