"""``mopref push``: a run's adapter on the hub."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from mopref.cli.arguments import command_parser, parsed
from mopref.cli.output import show, tell
from mopref.recipes import push_to_hub

__all__ = ["parser", "run"]

_DESCRIPTION = """Upload the adapter of a run to the Hugging Face hub, with its model card.

  mopref push runs/latest USER/NAME
  mopref push runs/latest USER/NAME --public --revision v2

Reads the run's folder. Writes its model card, adapter/README.md, and uploads it with the front's picture and the two
files of the adapter; data, answers, log and checkpoints stay here. The repository is made where it is missing, and
private unless --public is given; one that is there stays as public as it is. Log in with `hf auth login` before."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("push", "RUN USER/NAME [--public] [--revision BRANCH]", _DESCRIPTION)
    made.add_argument("folder", metavar="RUN", help="the folder of a run")
    made.add_argument("repository", metavar="USER/NAME", help="the hub's name of the adapter")
    made.add_argument("--public", action="store_true", help="let everybody see it, where it is made")
    made.add_argument("--revision", metavar="BRANCH", help="the branch that it goes to, in place of the main one")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    given = parsed(parser(), arguments)
    upload = push_to_hub(given.folder, given.repository, private=not given.public, revision=given.revision)
    tell(f"Uploaded {', '.join(upload.files)}.")
    show(upload.url)
