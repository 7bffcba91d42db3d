"""``mopref export``: a run's model for other tools."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import ArgumentParser

from mopref._atomic_writes import replace_folder
from mopref._write_ahead import write_ahead
from mopref.cli.arguments import command_parser, named_preferences, parsed
from mopref.cli.mistakes import UsageError
from mopref.cli.output import tell
from mopref.recipes import open_run
from mopref.recipes.run_folder import check_new_folder

__all__ = ["parser", "run"]

_USAGE = "RUN --output FOLDER [--format lora|merged|lora-set] [--preference NAME=WEIGHT,…] [--dequantize]"
_DESCRIPTION = """Write the model of a run for other tools.

  mopref export runs/latest --preference "helpful=.7,harmless=.3" --format lora --output lora-70-30
  mopref export runs/latest --format lora-set --output loras

Reads the run's folder, and the model that its recipe names. Writes into a new or empty folder: with "lora" a LoRA that
stock PEFT and vLLM load, fixed at the preference; with "merged" a plain model and its tokenizer, fixed at it (of a
base in 4 or 8 bits with --dequantize, in float); with "lora-set" a LoRA that all preferences share and one for each
objective, to be scaled by its weight where they are served."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("export", _USAGE, _DESCRIPTION)
    made.add_argument("folder", metavar="RUN", help="the folder of a run")
    made.add_argument("--preference", help="a weight for each objective, as in helpful=.7,harmless=.3")
    made.add_argument("--format", choices=["lora", "merged", "lora-set"], default="lora", help="what is written")
    made.add_argument("--dequantize", action="store_true", help="a merged model of a quantised base, all in float")
    made.add_argument("--output", metavar="FOLDER", required=True, help="where it goes, a new or empty folder")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    given = parsed(parser(), arguments)
    is_set, output = given.format == "lora-set", Path(given.output)
    if is_set and given.preference is not None:
        raise UsageError(f"--preference is {given.preference!r}: a lora-set holds all preferences, so leave it out.")
    if not is_set and given.preference is None:
        raise UsageError(f"--preference is missing: a {given.format} is fixed at one, so give it, or use lora-set.")
    if given.dequantize and given.format != "merged":
        raise UsageError(f"--dequantize is given: a {given.format} holds no weights of the base, so leave it out.")
    check_new_folder(output, for_run=False)
    opened = open_run(given.folder)
    if is_set:
        with _whole(output) as folder:
            opened.model.export_lora_set(folder)
    else:
        preference = named_preferences([given.preference], opened.recipe.objectives)
        merged = opened.model.merge(preference, given.dequantize) if given.format == "merged" else None
        with _whole(output) as folder:
            if merged is None:
                opened.model.export_lora(folder, preference)
            else:
                merged.save_pretrained(folder)  # type: ignore[operator]
                opened.tokenizer.save_pretrained(folder)
    tell(f"Written to {output}.")


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A folder to write into, whose files appear in ``output`` when all of them are on the disk."""
    # A folder that is there already may be what a terminal is in.
    with write_ahead(output) if output.exists() else replace_folder(output) as folder:
        yield folder
