"""The model card of a run: what its adapter is, what it reached, and how it is used; README.md beside the adapter."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mopref._atomic_writes import write_atomically
from mopref._bounded_reading import read_bounded
from mopref._checked_files import regular_file
from mopref._warning import warn
from mopref.argument_kinds import checks_arguments
from mopref.recipes.data_statistics import statistics_lines
from mopref.recipes.front_table import front_table, hypervolume_text, markdown_table, plain_markdown
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.reading import recipe_text
from mopref.recipes.run_facts import (
    column_meanings,
    example_weights,
    facts,
    hub_id,
    hub_sources,
    interval_sentence,
    outdated_sentence,
    portable_recipe,
    preference_sentences,
    selection_sentence,
)
from mopref.recipes.run_files import RunFiles, read_run_files
from mopref.recipes.run_folder import ADAPTER

__all__ = [
    "CARD",
    "CARD_PICTURE",
    "CARD_TAGS",
    "card_picture",
    "finished_run",
    "is_own_card",
    "linked_base",
    "model_card",
    "rendered_card",
    "run_values",
    "versions_text",
    "write_model_card",
]

CARD, CARD_PICTURE = "README.md", "front.png"
# By which the hub finds it.
CARD_TAGS = ("mopref", "multi-objective", "pareto-front", "preference-conditioned")
# The versions that a card tells: what the result depends on, and nothing of the machine.
_VERSIONS = (
    "python",
    "mopref",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "numpy",
    "bitsandbytes",
)
_MOST_BYTES_OF_PICTURE = 1 << 26
# Ends a card: the SHA-256 of what stands before, by which a card that was edited is told from one that was not.
_SEAL = re.compile(r"\n<!-- mopref model card ([0-9a-f]{64}) -->\n\Z")


@checks_arguments
def model_card(run_folder: str | Path, repo_id: str | None = None) -> str:
    """The card of a run's adapter as Markdown, with a front matter for the hub.

    It says what the folder of the run tells, and nothing else: no licence, no data set that is not a hub's, no path of
    this machine.

    Args:
        run_folder: the folder of a run whose training is finished.
        repo_id: the hub's name of the adapter, where it is there; the code that uses it begins with it.

    Raises:
        RunFolderError: the folder holds no run, no finished one, or a damaged file.
    """
    return _card(finished_run(run_folder), repo_id)


@checks_arguments
def write_model_card(run_folder: str | Path, repo_id: str | None = None) -> Path:
    """Write the card of a run's adapter, ``adapter/README.md``, with the picture of its front.

    A card that was edited since stays as it is, with a warning.

    Args:
        run_folder: the folder of a run whose training is finished.
        repo_id: the hub's name of the adapter, where it is there.

    Returns:
        The card's path.

    Raises:
        RunFolderError: as :func:`model_card`.
    """
    files = finished_run(run_folder)
    path = files.folder / ADAPTER / CARD
    if path.exists() and not is_own_card(path.read_text(encoding="utf-8", errors="replace")):
        warn(f"{path} was edited, or is not of mopref, and stays as it is: remove it for a new one.")
        return path
    text = _card(files, repo_id)
    picture = card_picture(files)
    if picture is not None:
        write_atomically(path.with_name(CARD_PICTURE), picture)
    write_atomically(path, text.encode("utf-8"))
    return path


def is_own_card(text: str) -> bool:
    """Whether a card is as :func:`write_model_card` wrote it."""
    seal = _SEAL.search(text)
    return seal is not None and seal[1] == _digest(text[: seal.start()])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def finished_run(run_folder: str | Path) -> RunFiles:
    """What a run's folder holds, of one that has an adapter.

    Raises:
        RunFolderError: the folder holds no run, no finished one, or a damaged file.
    """
    files = read_run_files(run_folder)
    if files.adapter is None:
        raise RunFolderError(
            f"the run in {files.folder} is not finished: it has no adapter to describe; go on with it "
            "by `mopref train RECIPE --resume`."
        )
    return files


def _has_picture(files: RunFiles) -> bool:
    """Whether there is a picture of the front: the run's own, since the card's goes up to the hub."""
    try:
        return files.front is not None and regular_file(files.folder, CARD_PICTURE) is not None
    except ValueError as error:
        raise RunFolderError(f"{str(error).rstrip('.')}: the run's folder is damaged.") from error


def _card(files: RunFiles, repo_id: str | None) -> str:
    recipe, base = files.recipe, hub_id(files.recipe.model.name)
    told = {
        "base_model": base,
        "base_model_relation": None if base is None else "adapter",
        "library_name": "mopref",
        "datasets": hub_sources(recipe) or None,
        "tags": [*CARD_TAGS, recipe.objective.name],
    }
    return rendered_card("model_card.md.jinja", told, {**run_values(files), "code": _code(files, repo_id)})


def rendered_card(template: str, told: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """A card of a template and its values, with a front matter, which leaves out what is ``None``, and a seal."""
    from huggingface_hub import ModelCardData
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown, whose own marks are escaped where a text is another's.
    environment = Environment(
        loader=PackageLoader("mopref.recipes"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = plain_markdown
    body = environment.get_template(template).render(values)
    # Lines that a condition left empty.
    body = re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"
    text = f"---\n{ModelCardData(**told).to_yaml().rstrip()}\n---\n\n{body}"
    return f"{text}\n<!-- mopref model card {_digest(text)} -->\n"


def run_values(files: RunFiles) -> dict[str, Any]:
    """What a card tells of a run, by the names in the template; without the code that uses it."""
    told, table = portable_recipe(files.recipe), None if files.front is None else front_table(files.front)
    return {
        "names": plain_markdown(", ".join(files.recipe.objectives)),
        "base": linked_base(hub_id(files.recipe.model.name)),
        "adapter": files.recipe.adapter,
        "facts": facts(files),
        "table": None if table is None else markdown_table(table),
        "has_picture": _has_picture(files),
        "columns": column_meanings(files),
        "intervals": None if table is None else interval_sentence(table),
        "hypervolume": None if files.front is None else hypervolume_text(files.front),
        "meaning": preference_sentences(files),
        "recipe": recipe_text(told).rstrip().replace("```", "ʼʼʼ"),
        "data": [] if files.data is None else [*statistics_lines(files.data)],
        "measured": _measured(files),
        "versions": versions_text(files.versions or {}),
    }


def linked_base(base: str | None) -> str:
    """The base model in a sentence, by its name on the hub where it has one."""
    return "its base model" if base is None else f"[{base}](https://huggingface.co/{base})"


def versions_text(versions: Mapping[str, Any]) -> str:
    """The versions that a card tells."""
    return ", ".join(f"{name} {number}" for name, number in versions.items() if name in _VERSIONS)


def card_picture(files: RunFiles) -> bytes | None:
    """The picture of a run's front, where it has one.

    Raises:
        RunFolderError: one that is not the run's own.
    """
    if not _has_picture(files):
        return None
    return read_bounded(files.folder / CARD_PICTURE, _MOST_BYTES_OF_PICTURE, "a picture")


def _code(files: RunFiles, repo_id: str | None) -> str:
    """Lines of Python that answer a prompt with the model."""
    return "\n".join(_code_lines(files, repo_id))


def _code_lines(files: RunFiles, repo_id: str | None) -> Iterator[str]:
    recipe = files.recipe
    base, tokenizer = hub_id(recipe.model.name), recipe.model.tokenizer
    weights = example_weights(len(recipe.objectives))
    if repo_id is not None:
        yield "from huggingface_hub import snapshot_download"
    yield "import torch"
    yield f"from transformers import {'AutoModelForCausalLM, ' if base is None else ''}AutoTokenizer"
    yield ""
    yield "from mopref import PreferenceModel"
    yield "from mopref.llm.policy import answer_prompts"
    yield ""
    # JSON's texts are Python's, too, in the quotes of the lines around them.
    quoted = json.dumps
    here = 'folder = "adapter"  # the folder of this card'
    yield here if repo_id is None else f"folder = snapshot_download({quoted(repo_id)})"
    at = "" if recipe.model.revision is None else f", revision={quoted(recipe.model.revision)}"
    # The adapter loads its base at the commit that it records.
    commit = recipe.model.revision or (files.adapter or {}).get("base_revision")
    beside = f", revision={quoted(commit)}" if base is not None and isinstance(commit, str) else ""
    if base is None:
        yield 'base = "…"  # the folder or hub id of the base model'
        yield "model = PreferenceModel.load(AutoModelForCausalLM.from_pretrained(base), folder)"
    else:
        yield f"base = {quoted(base)}"
        yield f"model = PreferenceModel.from_pretrained(folder{at})"
    own = None if tokenizer is None else hub_id(tokenizer)
    yield f"tokenizer = AutoTokenizer.from_pretrained({f'base{beside}' if own is None else quoted(own)})"
    yield ""
    balance = ", ".join(f"{name} {weight:g}" for name, weight in zip(recipe.objectives, weights, strict=True))
    yield f"preference = torch.tensor({weights})  # {' '.join(balance.replace('`', ' ').split())}"
    yield 'answers = answer_prompts(model.eval(), tokenizer, ["How do I sleep better?"], preference, max_new_tokens=64)'
    yield "print(answers[0].text)"


def _measured(files: RunFiles) -> str:
    """On what the front was measured."""
    if files.front is None:
        return "Nothing was measured of this model yet."
    sides = [side for side in files.data.sides if side.side == "held out"] if files.data is not None else []
    selection = selection_sentence(files)
    where = f"{sides[0].rows} held-out rows on {sides[0].prompts} prompts of the data" if sides else "held-out rows"
    told = (
        f"The front was measured{'' if selection else ' once'}, on {where} above, by the labels or rewards that the "
        f"objectives come with, and of one training run (seed {files.recipe.seed})."
    )
    return " ".join(sentence for sentence in (told, selection, outdated_sentence(files)) if sentence)
