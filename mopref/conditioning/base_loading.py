"""Loading a base model by transformers: no code of its own is run, no pickle is read, and one commit is one model."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mopref._checked_files import printable
from mopref._pickled_weights import tensors_alone
from mopref.conditioning.base_model import auto_class
from mopref.conditioning.base_origin import note_commit

__all__ = ["load_base"]


def load_base(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A language model by its name or folder.

    Args:
        name: a hub id, or a folder.
        options: of transformers' ``from_pretrained``. Pickled weights are read where ``use_safetensors`` is ``False``
            among them, and then without the code that a pickle may hold.

    Raises:
        ValueError: a model that needs code of its own or has pickled weights alone, options that would let such in, or
            a model that predicts no next token.
        OSError: transformers finds no such model.
    """
    if options.get("trust_remote_code"):
        raise ValueError(
            "trust_remote_code is set: mopref runs no code that comes with a model. Read it, load the model yourself, "
            "and give it to PreferenceModel(model, config) or PreferenceModel.load(model, folder)."
        )
    if options.get("weights_only", True) is not True:
        raise ValueError(f"weights_only is {options['weights_only']!r}: a pickle that may run code is not read.")
    safe = {"trust_remote_code": False, "weights_only": True}
    if options.get("gguf_file") is None:
        safe["use_safetensors"] = True
    try:
        kind = auto_class(name, {**options, "trust_remote_code": False})
        commit = None if os.path.exists(name) else _cached_commit(name, options)
        pinned = {} if commit is None else {"revision": commit}
        settings = {**safe, **options, **pinned, "trust_remote_code": False}
        with tensors_alone(name):
            model: nn.Module = kind.from_pretrained(name, **settings)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{name} needs code that comes with it, which mopref does not run: read that code, load the model yourself "
            "(trust_remote_code=True), and give it to PreferenceModel(model, config) or "
            "PreferenceModel.load(model, folder)."
        ) from error
    except OSError as error:
        if "model.safetensors" not in str(error):
            raise
        reason = printable(str(error).strip().partition("\n")[0]).rstrip(".")
        raise ValueError(
            f"{name} has no weights in safetensors ({reason:.300}). Pickled ones (pytorch_model.bin) may hold code and "
            "are not read unasked: where you trust them, convert them once, by AutoModelForCausalLM.from_pretrained("
            "name, use_safetensors=False).save_pretrained(folder), and give that folder."
        ) from error
    if commit is not None:
        note_commit(model, commit)
    return model


def _cached_commit(name: str, options: Mapping[str, Any]) -> str | None:
    """The commit that a model's configuration was just read from; ``None`` where the hub's cache does not tell."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    file = "/".join(part for part in (options.get("subfolder"), "config.json") if part)
    try:
        path = try_to_load_from_cache(
            name, file, cache_dir=options.get("cache_dir"), revision=options.get("revision") or "main"
        )
    except HFValidationError:
        return None
    if not isinstance(path, str):
        return None
    parts = Path(path).parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None
