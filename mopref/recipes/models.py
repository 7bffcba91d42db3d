"""The language model and the tokenizer that a recipe names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from mopref.conditioning import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.adapter_files import recorded_commit
from mopref.conditioning.base_loading import load_base
from mopref.llm.demo.assets import smollm2
from mopref.recipes.mistakes import RecipeError, raised_by
from mopref.recipes.recipe import ModelSettings

__all__ = ["adapted_model", "load_tokenizer", "model_with_adapter"]

Loaded = TypeVar("Loaded")


def adapted_model(settings: ModelSettings, adapter: SVDLoRAConfig, device: torch.device) -> PreferenceModel:
    """The base model with fresh adapters, on its device.

    Raises:
        RecipeError: a model that is not there, or bitsandbytes where it is needed and missing.
        ValueError: a model that cannot be adapted so.
    """
    name, options = _folder(settings.name), _options(settings, device)
    model = loaded("model.name", settings.name, lambda: PreferenceModel.from_pretrained(name, adapter, **options))
    return _on_device(model, settings, device)


def model_with_adapter(settings: ModelSettings, folder: Path, device: torch.device) -> PreferenceModel:
    """The base model with the adapter of a folder, on its device; raises as :func:`adapted_model`.

    Of a hub's model that the recipe gives no revision of, it is the commit that the adapter was trained on.
    """
    name, options = _folder(settings.name), _options(settings, device)
    commit = None if settings.revision is not None else recorded_commit(folder, name)
    pinned = options if commit is None else {**options, "revision": commit}
    base = loaded("model.name", settings.name, lambda: load_base(name, pinned))
    return _on_device(PreferenceModel.load(base, folder), settings, device)


def load_tokenizer(settings: ModelSettings) -> Any:
    """The tokenizer.

    Raises:
        RecipeError: a tokenizer that is not there.
    """
    from transformers import AutoTokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Said, since transformers asks on a terminal otherwise.
    options: dict[str, Any] = {"trust_remote_code": False}
    if settings.tokenizer is not None:
        own = settings.tokenizer
        return loaded("model.tokenizer", own, lambda: AutoTokenizer.from_pretrained(own, **options))
    if settings.revision is not None:
        options["revision"] = settings.revision
    name = _folder(settings.name)
    return loaded("model.name", settings.name, lambda: AutoTokenizer.from_pretrained(name, **options))


def _folder(name: str) -> str:
    return str(smollm2()) if name == "demo" else name


def _options(settings: ModelSettings, device: torch.device) -> dict[str, Any]:
    """Options of transformers' ``from_pretrained``."""
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device.type == "cuda" else "float32"
    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if settings.revision is not None:
        options["revision"] = settings.revision
    if settings.quantization is not None:
        options |= {"quantization_config": _quantization(settings.quantization), "device_map": {"": device}}
    return options


def _quantization(bits: str) -> Any:
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise RecipeError(
            "model.quantization", f"is {bits!r}: it needs bitsandbytes; run pip install 'mopref[quantized]'."
        )
    if bits == "4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    return BitsAndBytesConfig(load_in_8bit=True)


def _on_device(model: PreferenceModel, settings: ModelSettings, device: torch.device) -> PreferenceModel:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Quantised weights are where they were loaded to.
    return model if settings.quantization is not None else model.to(device)


def loaded(key: str, name: str, load: Callable[[], Loaded]) -> Loaded:
    """What is loaded; transformers' error where nothing is there becomes ours."""
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        if type(error) is ValueError and raised_by(error) == "mopref":
            raise
        if "trust_remote_code" in str(error):
            raise RecipeError(
                key, f"is {name!r}, which needs code that comes with it, and mopref runs none: choose another."
            ) from error
        reason = str(error).strip().splitlines()[0].rstrip(".")
        if _is_path(name) and not os.path.exists(name):
            reason = "there is no such folder"
        raise RecipeError(
            key, f"is {name!r}: nothing could be loaded from there ({reason}); correct the hub id or folder."
        ) from error


def _is_path(name: str) -> bool:
    """Whether a name is that of a folder and no hub id, whether it is there or not."""
    return os.path.isabs(name) or name.startswith(".") or name.count("/") > 1
