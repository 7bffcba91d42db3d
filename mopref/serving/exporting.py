"""A run's model, or an adapter's, for other tools: a folder with a model card, whole or not there, and on the hub."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, get_args

from safetensors import SafetensorError
from torch import Tensor

from mopref._atomic_writes import replace_folder, write_atomically
from mopref._paths import LONGEST_NAME
from mopref._write_ahead import write_ahead
from mopref.argument_kinds import checks_arguments
from mopref.conditioning import PreferenceModel
from mopref.conditioning.adapter_description import read_config
from mopref.conditioning.adapter_files import named_base
from mopref.conditioning.adapter_folder import checked_folder
from mopref.conditioning.base_loading import load_base
from mopref.conditioning.lora_export import check_set, names_of_set
from mopref.conditioning.peft_targets import refuse_misread_targets
from mopref.conditioning.scale_files import lora_scales
from mopref.objective_names import checked_names
from mopref.preferences import simplex_lattice, validate_preferences
from mopref.recipes.hub import check_repository, tell_local_base, upload
from mopref.recipes.mistakes import nearest
from mopref.recipes.model_card import CARD, CARD_PICTURE, card_picture, finished_run
from mopref.recipes.models import loaded
from mopref.recipes.run import open_run
from mopref.recipes.run_facts import example_weights
from mopref.recipes.run_files import RunFiles
from mopref.recipes.run_folder import RECIPE, check_new_folder
from mopref.serving.export_card import ExportContents, Form, card_of_adapter, card_of_run
from mopref.serving.llama_cpp import check_gguf_export, export_gguf_loras
from mopref.serving.opening import check_is_adapter

__all__ = ["Export", "export", "objectives_of"]

_FORMS: tuple[str, ...] = get_args(Form)
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
# Digits of a weight in a folder's name: as few as tell all of them apart.
_DIGITS = range(2, 17)


class Export(NamedTuple):
    """What was exported.

    Attributes:
        folder: where it is.
        files: the names of its files in there.
        url: where it is on the hub; ``None`` where it was not pushed.
    """

    folder: Path
    files: list[str]
    url: str | None = None


class _Source(NamedTuple):
    """What is exported: a run, or an adapter alone, by what their folders say."""

    folder: Path
    files: RunFiles | None
    description: dict[str, Any]
    objectives: tuple[str, ...]


@checks_arguments
def export(
    source: str | Path,
    output: str | Path,
    form: Form = "lora",
    preferences: Any = None,
    points: int | None = None,
    dequantize: bool = False,
    licence: str | None = None,
    push_to: str | None = None,
    private: bool = True,
    revision: str | None = None,
) -> Export:
    """Write the model of a run, or of an adapter's folder, for other tools, with a model card.

    By form: "lora" is a plain LoRA at one λ, which stock PEFT and vLLM load; "lora-grid" a folder with such a LoRA for
    each of several λ, named after it (``helpful=0.70,harmless=0.30``); "lora-set" a LoRA that all preferences share and
    one for each objective, to be scaled by λ_i, and with a curved gate of all layers one for each direction, with the
    ``scales.json`` that ``lora_scales`` reads; "gguf" that set for llama.cpp; "merged" a plain model at one λ.

    What can be refused is refused before anything is written; files appear when all of them are on the disk.

    Args:
        source: the folder of a finished run, or of an adapter.
        output: a new or empty folder.
        form: what is written.
        preferences: of "lora" and "merged" one λ, ``(m,)`` or by name; of "lora-grid" several, ``(N, m)``.
        points: of "lora-grid", in place of preferences: so many on an even lattice, see ``simplex_lattice``.
        dequantize: of "merged", whether a model of a quantised base is all in float; see ``PreferenceModel.merge``.
        licence: the hub's name of the licence that the card tells, such as "apache-2.0".
        push_to: ``OWNER/NAME`` on the hub, where it is to be uploaded; it is made where it is missing.
        private: whether only its owner may see it there, where it is made; one that is there stays as it is.
        revision: the hub's branch that it goes to, made where it is missing; by default the main one.

    Raises:
        RunFolderError: the source is neither a finished run nor an adapter.
        RecipeError: the output is no new or empty folder, or the base model is not there.
        ValueError: another form; preferences that are none, too many or missing; a base whose LoRAs stock PEFT or
            llama.cpp would misread; or the hub refuses, and the export is there in that last case.
        ImportError: "gguf" without the package gguf.
        OSError: nothing can be written, such as on a full disk; nothing is left then.
    """
    place, found = checked_folder(output, "output"), _source(checked_folder(source, "source"))
    _check_options(form, licence, push_to, private, revision)
    if dequantize and form != "merged":
        raise ValueError(f"dequantize is True: a {form} holds no weights of the base, so leave it out.")
    check_new_folder(place, for_run=False)
    fixed = _fixed_preferences(form, preferences, points, found.objectives)
    contents = ExportContents(form, found.objectives, _grid(form, found.objectives, fixed), fixed, 0, licence, push_to)
    model, tokenizer = _opened(found, form)
    contents = _with_parts(contents, model)
    _refuse_misread(form, model)
    merged = model.merge(fixed, dequantize) if form == "merged" else None
    with _whole(place) as folder:
        if merged is not None:
            merged.save_pretrained(folder)  # type: ignore[operator]
            tokenizer.save_pretrained(folder)
        else:
            _write_loras(folder, contents, model)
        _write_card(folder, contents, found)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if push_to is None:
        return Export(place, files)
    if form not in ("gguf", "merged"):
        tell_local_base(found.description.get("base_model"))
    message = f"Exported by mopref ({form})"
    return Export(place, files, upload(place, files, push_to, message, private, revision=revision).url)


@checks_arguments
def objectives_of(source: str | Path) -> tuple[str, ...]:
    """The objectives of a finished run or of an adapter, in the order of a preference.

    Raises:
        RunFolderError: the source is neither.
    """
    return _source(checked_folder(source, "source")).objectives


def _source(folder: Path) -> _Source:
    if (folder / RECIPE).is_file():
        files = finished_run(folder)
        return _Source(folder, files, files.adapter or {}, files.recipe.objectives)
    check_is_adapter(folder)
    description = read_config(folder)
    return _Source(folder, None, description, checked_names(description.get("objectives"), f"objectives in {folder}"))


def _check_options(form: str, licence: str | None, push_to: str | None, private: bool, revision: str | None) -> None:
    if form not in _FORMS:
        raise ValueError(f"form is {form!r:.80}; {nearest(form, _FORMS)}")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise ValueError(f"licence is {licence!r:.80}: give the hub's name of one, such as apache-2.0.")
    if push_to is not None:
        check_repository(push_to)
    elif revision is not None or not private:
        name, value = ("private", private) if revision is None else ("revision", revision)
        raise ValueError(f"{name} is {value!r:.80}, and nothing is uploaded: give push_to, or leave it out.")


def _fixed_preferences(form: str, preferences: Any, points: int | None, names: Sequence[str]) -> Tensor | None:
    """The λ that are written into what is exported, ``(N, m)``; ``None`` where it holds all of them."""
    if points is not None and (form != "lora-grid" or preferences is not None):
        raise ValueError(f"points is {points}: they are for a lora-grid, in place of preferences, so leave them out.")
    if form in ("lora-set", "gguf"):
        if preferences is not None:
            raise ValueError(f"preferences are given, and a {form} holds all of them: leave them out.")
        return None
    if points is not None:
        return simplex_lattice(len(names), points)
    if preferences is None:
        other = "give some, or points" if form == "lora-grid" else "give one, or export a lora-set"
        raise ValueError(f"preferences are missing: a {form} is fixed at what they say, so {other}.")
    fixed = validate_preferences(preferences, names)
    if form != "lora-grid" and len(fixed) != 1:
        raise ValueError(f"{len(fixed)} preferences are given, and a {form} is fixed at one: export a lora-grid.")
    return fixed


def _grid(form: str, names: Sequence[str], fixed: Tensor | None) -> tuple[str, ...]:
    """The folders of a grid, each named after its λ."""
    if form != "lora-grid" or fixed is None:
        return ()
    rows = fixed.tolist()
    for digits in _DIGITS:
        folders = [
            ",".join(f"{name}={weight:.{digits}f}" for name, weight in zip(names, row, strict=True)) for row in rows
        ]
        if len({folder.casefold() for folder in folders}) == len(rows):
            break
    else:
        raise ValueError("preferences hold the same one twice: leave one out.")
    for folder in folders:
        if any(kind(folder).name != folder for kind in (PurePosixPath, PureWindowsPath)):
            raise ValueError(f"{folder!r} cannot name a folder of its own: train with names without slashes or colons.")
        if len(folder.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
            raise ValueError(
                f"the folder of a λ would be called {folder!r:.80}…, which has more than {LONGEST_NAME} bytes: export "
                "each λ by itself as a lora, all of them as a lora-set, or train with shorter names."
            )
    return tuple(folders)


def _opened(found: _Source, form: str) -> tuple[PreferenceModel, Any]:
    """The model, and the tokenizer where that is exported with it."""
    if found.files is not None:
        run = open_run(found.folder)
        return run.model, run.tokenizer
    base = named_base(found.folder)
    options = {} if base.revision is None else {"revision": base.revision}
    model = PreferenceModel.load(loaded("base_model", base.name, lambda: load_base(base.name, options)), found.folder)
    if form != "merged":
        return model, None
    from transformers import AutoTokenizer

    return model, loaded(
        "base_model", base.name, lambda: AutoTokenizer.from_pretrained(base.name, trust_remote_code=False, **options)
    )


def _with_parts(contents: ExportContents, model: PreferenceModel) -> ExportContents:
    """The contents with the rank of the model's LoRAs, and the folders or files of its set."""
    config = model.adapter_config
    if contents.preferences is not None:
        return replace(contents, rank=config.total_rank)
    ending = ".gguf" if contents.form == "gguf" else ""
    parts = tuple(f"{name}{ending}" for name in names_of_set(config))
    return replace(contents, parts=parts, rank=max(config.rank, config.objective_rank))


def _refuse_misread(form: str, model: PreferenceModel) -> None:
    """Refuse, before a folder is made, what the writing would refuse."""
    if form == "gguf":
        check_gguf_export(model)
    elif form != "merged":
        refuse_misread_targets(model.base_model, model.adapters)
        if form == "lora-set":
            check_set(model.adapter_config)


def _write_loras(folder: Path, contents: ExportContents, model: PreferenceModel) -> None:
    if contents.form == "gguf":
        export_gguf_loras(model, folder)
    elif contents.preferences is None:
        model.export_lora_set(folder)
    else:
        for part, preference in zip(contents.parts or ("",), contents.preferences, strict=True):
            model.export_lora(folder / part, preference)


def _write_card(folder: Path, contents: ExportContents, found: _Source) -> None:
    """Write the card, and the picture of the front where there is one."""
    if contents.form in ("lora-set", "gguf"):
        contents = replace(contents, scales=lora_scales(folder, example_weights(len(contents.objectives))))
    if found.files is None:
        card = card_of_adapter(contents, found.description)
    else:
        card = card_of_run(contents, found.files)
        picture = card_picture(found.files)
        if picture is not None:
            write_atomically(folder / CARD_PICTURE, picture)
    write_atomically(folder / CARD, card.encode("utf-8"))


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A folder to write into, whose files appear in ``output`` when all of them are on the disk.

    Raises:
        OSError: one of them cannot be written; there is nothing of them then.
    """
    try:
        # A folder that is there already may be what a terminal is in.
        with write_ahead(output) if output.exists() else replace_folder(output) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        first: BaseException = error
        while isinstance(first.__cause__, OSError):
            first = first.__cause__
        number = getattr(first, "errno", None)
        reason = os.strerror(number) if number else str(first).rstrip(".")
        raise OSError(
            number or errno.EIO,
            f"{output} could not be written ({reason}), and nothing is left there. Free some space or allow writing, "
            "or choose another folder, and export again.",
        ) from error
