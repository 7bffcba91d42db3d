"""The model and the tokenizer of a run's folder, or of an adapter's."""

from pathlib import Path
from typing import Any, NamedTuple

from mopref.conditioning import PreferenceModel
from mopref.conditioning.adapter_description import checked_settings, read_config
from mopref.conditioning.adapter_files import named_base
from mopref.conditioning.adapter_folder import checked_folder
from mopref.recipes import ModelSettings, open_run
from mopref.recipes.models import load_tokenizer, model_with_adapter
from mopref.recipes.parts import checked_device
from mopref.recipes.run_folder import ADAPTER, RECIPE

__all__ = ["Opened", "open_model", "recorded_objectives"]


class Opened(NamedTuple):
    """A model with its adapter, on its device, and its tokenizer."""

    model: PreferenceModel
    tokenizer: Any


def open_model(folder: str | Path) -> Opened:
    """The model of a run's folder, as its recipe names it, or of an adapter's folder, on the base that it names.

    All values are read into memory: what is put into the folder later plays no part.

    Raises:
        RunFolderError: a run that is not finished.
        RecipeError: what it names is not there any more.
        FileNotFoundError, ValueError: neither a run nor an adapter, or a damaged one.
    """
    path = checked_folder(folder)
    if (path / RECIPE).exists():
        run = open_run(path)
        return Opened(run.model, run.tokenizer)
    base = named_base(path)
    settings = ModelSettings(name=base.name, revision=base.revision)
    return Opened(model_with_adapter(settings, path, checked_device(settings.device)), load_tokenizer(settings))


def recorded_objectives(folder: str | Path) -> tuple[str, ...]:
    """The objectives of a run's or an adapter's folder, in the order of a preference, before anything is loaded.

    Raises:
        FileNotFoundError, ValueError: neither a run nor an adapter, or a damaged one.
    """
    path = checked_folder(folder)
    is_run = (path / RECIPE).exists() and (path / ADAPTER).exists()
    return checked_settings(read_config(path / ADAPTER if is_run else path)).config.objectives
