"""``mopref export``: a run's model, or an adapter's, for other tools."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from mopref.cli.arguments import command_parser, named_preferences, parsed
from mopref.cli.output import show, tell
from mopref.serving import export, objectives_of

__all__ = ["parser", "run"]

_USAGE = """RUN --output FOLDER [--format lora|lora-grid|lora-set|gguf|merged]
                     [--preference NAME=WEIGHT,… …] [--points N] [--dequantize] [--licence ID]
                     [--push-to USER/NAME [--public] [--revision BRANCH]]"""
_DESCRIPTION = """Write the model of a run, or of an adapter's folder, for other tools, with a model card.

  mopref export runs/latest --preference "helpful=.7,harmless=.3" --output lora-70-30
  mopref export runs/latest --format lora-grid --points 5 --output loras-at-5
  mopref export runs/latest --format lora-set --output loras
  mopref export runs/latest --format gguf --output gguf
  mopref export runs/latest/adapter --preference "helpful=.7,harmless=.3" --format merged --output merged

Reads the folder, and the base model that it names. Writes into a new or empty folder: with "lora" a LoRA that stock
PEFT and vLLM load, fixed at the preference; with "lora-grid" such a LoRA for each of several, in folders named after
them; with "lora-set" a LoRA that all preferences share, one for each objective and, of a gate "shared-mlp", one for
each direction, to be scaled where they are served as scales.json beside them says; with "gguf" that set for llama.cpp;
with "merged" a plain model and its tokenizer, fixed at the preference (of a base in 4 or 8 bits with --dequantize, in
float). README.md there says how each is used. Uploads nothing unless --push-to is given."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("export", _USAGE, _DESCRIPTION)
    made.add_argument("folder", metavar="RUN", help="the folder of a run, or of an adapter")
    made.add_argument(
        "--preference",
        action="append",
        default=[],
        help="a weight for each objective, as in helpful=.7,harmless=.3; several for a lora-grid",
    )
    made.add_argument("--points", type=int, help="of a lora-grid: so many evenly spread preferences")
    forms = ["lora", "lora-grid", "lora-set", "gguf", "merged"]
    made.add_argument("--format", choices=forms, default="lora", help="what is written")
    made.add_argument("--dequantize", action="store_true", help="a merged model of a quantised base, all in float")
    made.add_argument("--output", metavar="FOLDER", required=True, help="where it goes, a new or empty folder")
    made.add_argument("--licence", metavar="ID", help="the hub's name of a licence for the card, such as apache-2.0")
    made.add_argument("--push-to", metavar="USER/NAME", help="also upload it to the hub, under this name")
    made.add_argument("--public", action="store_true", help="let everybody see it there, where it is made")
    made.add_argument("--revision", metavar="BRANCH", help="the branch that it goes to, in place of the main one")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    given = parsed(parser(), arguments)
    preferences = named_preferences(given.preference, objectives_of(given.folder)) if given.preference else None
    exported = export(
        given.folder,
        given.output,
        given.format,
        preferences,
        given.points,
        given.dequantize,
        given.licence,
        given.push_to,
        not given.public,
        given.revision,
    )
    tell(f"Written to {exported.folder}, with its model card: {exported.folder / 'README.md'}.")
    if exported.url is not None:
        tell(f"Uploaded {len(exported.files)} files.")
        show(exported.url)
