"""The report of a run: one HTML file that holds everything, and asks nothing of a network."""

import shlex
from collections.abc import Sequence
from importlib.metadata import version
from math import comb
from pathlib import Path
from typing import Any

from mopref._atomic_writes import write_atomically
from mopref.argument_kinds import checks_arguments
from mopref.recipes.front_table import front_table, hypervolume_text
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.reading import recipe_text
from mopref.recipes.run_facts import (
    column_meanings,
    example_preference,
    facts,
    interval_sentence,
    outdated_sentence,
    preference_sentences,
    selection_sentence,
)
from mopref.recipes.run_files import AnswerEntry, RunFiles, read_run_files
from mopref.recipes.run_folder import FRONT, LOG, RECIPE, REPORT

__all__ = ["report"]

# By which a report is told from another file that it must not replace.
_MARK = '<meta name="generator" content="mopref'


@checks_arguments
def report(run_folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of a run: its front with intervals, answers, curves, data, recipe and how the model is used.

    Only the folder is read: neither the model nor the data are loaded. What the folder lacks is named in the report.
    The same folder gives the same file, which replaces an older report.

    Args:
        run_folder: the folder of a run, finished or not.
        output: the file; by default ``report.html`` in the folder.

    Returns:
        The file's path.

    Raises:
        RunFolderError: the folder holds no run, or a damaged file, which is named; or another file than a report stands
            where it goes.
    """
    files = read_run_files(run_folder)
    path = files.folder / REPORT if output is None else Path(output)
    _check_target(path)
    write_atomically(path, _html(files).encode("utf-8"))
    return path


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise RunFolderError(f"{path} is a folder: give a file whose name ends in .html.")
    if path.suffix.lower() not in (".html", ".htm"):
        raise RunFolderError(f"{path.name!r} is no name of a report: it is a page, so it must end in .html.")
    if path.exists() and _MARK not in path.read_bytes()[:4096].decode("utf-8", "replace"):
        raise RunFolderError(f"{path} is no report of mopref, and would be lost: choose another file, or remove it.")


def _html(files: RunFiles) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from mopref.recipes.report_figures import front_pictures, training_pictures

    environment = Environment(
        loader=PackageLoader("mopref.recipes"),
        # Answers, data and names are others' texts.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    table = None if files.front is None else front_table(files.front)
    return environment.get_template("report.html.jinja").render(
        files=files,
        version=version("mopref"),
        name=files.folder.absolute().name,
        facts=facts(files),
        missing=_missing(files),
        table=table,
        columns=column_meanings(files),
        selection=selection_sentence(files),
        intervals=None if table is None else interval_sentence(table),
        hypervolume=None if files.front is None else hypervolume_text(files.front),
        collapsed=files.front is not None and files.front.is_collapsed(),
        front_pictures=[] if files.front is None else front_pictures(files.front),
        training_pictures=training_pictures(files),
        answers=_answer_table(files.answers, files.recipe.objectives),
        meaning=preference_sentences(files),
        use="How to finish it" if files.adapter is None else "How to use it",
        commands=_commands(files),
        recipe=recipe_text(files.recipe),
    )


def _missing(files: RunFiles) -> list[str]:
    """Sentences on what the folder does not hold."""
    folder = shlex.quote(str(files.folder))
    sentences = list(files.notes)
    if files.adapter is None:
        sentences.append(
            "The training is not finished: there is no adapter yet. "
            + (
                "There is no checkpoint to go on from either, so it has to be begun anew."
                if files.checkpoint is None
                else f"It can go on from {files.checkpoint.name}, as said below."
            )
        )
    elif files.front is None:
        sentences.append(f"No front was measured yet ({FRONT} is missing): `mopref evaluate {folder}` measures it.")
    outdated = outdated_sentence(files)
    if outdated is not None:
        sentences.append(f"{outdated} Remove {FRONT}, and `mopref evaluate {folder}` measures it anew.")
    if not files.log:
        sentences.append(f"There is no log of the training ({LOG} is missing or empty), so no curves of it are shown.")
    if files.front is not None and not files.answers:
        sentences.append("There are no answers to compare: name prompts in the recipe's evaluation.prompts for that.")
    if files.data is None:
        sentences.append("Nothing was recorded of the data; `mopref data inspect` counts what they hold.")
    return sentences


def _answer_table(answers: Sequence[AnswerEntry], names: Sequence[str]) -> dict[str, Any] | None:
    """Prompts down, preferences across, and where they meet the answers, of which there may be none."""
    if not answers:
        return None
    preferences = list(dict.fromkeys(tuple(entry.preference[name] for name in names) for entry in answers))
    cells: dict[str, dict[tuple[float, ...], list[AnswerEntry]]] = {}
    for entry in answers:
        weights = tuple(entry.preference[name] for name in names)
        cells.setdefault(entry.prompt, {}).setdefault(weights, []).append(entry)
    return {
        "heads": [list(zip(names, weights, strict=True)) for weights in preferences],
        "rows": [
            (prompt, [by_weights.get(weights, []) for weights in preferences]) for prompt, by_weights in cells.items()
        ],
    }


def _commands(files: RunFiles) -> list[tuple[str, str]]:
    """What the model is used by, each with what it does; of an unfinished run, how it goes on."""
    folder = shlex.quote(str(files.folder))
    if files.adapter is None:
        return _commands_to_finish(files)
    at = f"{folder} --preference {example_preference(files.recipe.objectives)}"
    count = len(files.recipe.objectives)
    # So many points an even lattice has: in steps of a tenth, or with three objectives and more, of a quarter.
    points = 11 if count == 2 else comb(count + 3, 4)
    more = f"mopref evaluate {folder} --evaluation.points {points} --output front-{points}"
    mixed = (
        "Write LoRAs that a server mixes for any balance",
        f"mopref export {folder} --format lora-set --output loras",
    )
    return [
        ("Answer a prompt at one balance", f'mopref generate {at} "How do I sleep better?"'),
        ("Write a LoRA for PEFT and vLLM, fixed at one balance", f"mopref export {at} --format lora --output lora"),
        # No such set holds a gate of each layer.
        *(() if files.recipe.adapter.gate == "layer-mlp" else (mixed,)),
        ("Measure the front at more balances", more),
    ]


def _commands_to_finish(files: RunFiles) -> list[tuple[str, str]]:
    recipe = shlex.quote(str(files.folder / RECIPE))
    # A folder that was moved, or is seen from elsewhere, is not where its recipe writes.
    is_there = Path(files.recipe.output).absolute() == files.folder.absolute()
    at = "" if is_there else f" --output {shlex.quote(str(files.folder))}"
    if files.checkpoint is not None:
        return [(f"Go on from {files.checkpoint.name}", f"mopref train {recipe} --resume{at}")]
    return [
        (
            "Begin anew in another folder, with checkpoints to go on from",
            f"mopref train {recipe} --output NEW_FOLDER --training.checkpoint_every 100",
        )
    ]
