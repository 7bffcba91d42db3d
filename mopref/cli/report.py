"""``mopref report``: one HTML file on a run."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from mopref.cli.arguments import command_parser, parsed
from mopref.cli.output import tell
from mopref.recipes import report, write_model_card
from mopref.recipes.run_folder import ADAPTER

__all__ = ["parser", "run", "write_documents"]

_DESCRIPTION = """Write the report of a run: its front with intervals, answers side by side, curves, data and recipe, in
one HTML file that needs no network. Training writes it at its end; this writes it again.

  mopref report runs/latest
  mopref report runs/latest --output report-of-today.html

Reads the run's folder only, finished or not. Writes report.html into it, or the file of --output; and for a run that is
finished the model card, adapter/README.md, which stays as it is where it was edited."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("report", "RUN [--output FILE.html]", _DESCRIPTION)
    made.add_argument("folder", metavar="RUN", help="the folder of a run")
    made.add_argument("--output", metavar="FILE.html", help="where the report goes")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    given = parsed(parser(), arguments)
    write_documents(Path(given.folder), given.output)


def write_documents(folder: Path, output: str | None = None) -> None:
    """Write the report of a run and the card of its adapter, and say where they are."""
    path = report(folder, output)
    tell(f"Report: {path}")
    if (folder / ADAPTER).is_dir():
        tell(f"Model card: {write_model_card(folder)}")
