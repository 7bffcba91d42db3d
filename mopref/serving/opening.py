"""The model and the tokenizer of a run's folder, or of an adapter's."""

from pathlib import Path
from typing import Any, NamedTuple

from mopref.conditioning import PreferenceModel
from mopref.conditioning.adapter_description import CONFIG_FILE, checked_settings, read_config
from mopref.conditioning.adapter_files import named_base
from mopref.conditioning.adapter_folder import checked_folder, is_there
from mopref.recipes import ModelSettings, RunFolderError, open_run
from mopref.recipes.models import load_tokenizer, model_with_adapter
from mopref.recipes.parts import checked_device
from mopref.recipes.run_folder import ADAPTER, RECIPE, check_finished

__all__ = ["Opened", "check_is_adapter", "open_model", "recorded_objectives"]


class Opened(NamedTuple):
    """A model with its adapter, on its device, and its tokenizer."""

    model: PreferenceModel
    tokenizer: Any


def open_model(folder: str | Path) -> Opened:
    """The model of a run's folder, as its recipe names it, or of an adapter's folder, on the base that it names.

    All values are read into memory: what is put into the folder later plays no part.

    Raises:
        RunFolderError: neither a run nor an adapter, or a run that is not finished.
        RecipeError: what it names is not there any more.
        FileNotFoundError, ValueError: a damaged one.
    """
    path = checked_folder(folder)
    if (path / RECIPE).exists():
        run = open_run(path)
        return Opened(run.model, run.tokenizer)
    check_is_adapter(path)
    base = named_base(path)
    settings = ModelSettings(name=base.name, revision=base.revision)
    return Opened(model_with_adapter(settings, path, checked_device(settings.device)), load_tokenizer(settings))


def check_is_adapter(folder: Path) -> None:
    """Refuse a folder that holds no run and no adapter.

    Raises:
        RunFolderError: such a folder.
    """
    if not is_there(folder, CONFIG_FILE):
        raise RunFolderError(
            f"{folder} holds neither a run nor an adapter: give the folder of a finished run, in which there is a "
            f"{RECIPE}, or that of an adapter, with an {CONFIG_FILE}."
        )


def recorded_objectives(folder: str | Path) -> tuple[str, ...]:
    """The objectives of a run's or an adapter's folder, in the order of a preference, before anything is loaded.

    Raises:
        RunFolderError: neither a run nor an adapter, or a run that is not finished.
        FileNotFoundError, ValueError: a damaged one.
    """
    path = checked_folder(folder)
    if is_run := (path / RECIPE).exists():
        check_finished(path)
    else:
        check_is_adapter(path)
    return checked_settings(read_config(path / ADAPTER if is_run else path)).config.objectives
