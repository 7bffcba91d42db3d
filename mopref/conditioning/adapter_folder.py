"""The folder that an adapter or a plain LoRA is written into: what may be replaced, and writing at once."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from mopref._checked_files import MAX_DESCRIPTION_BYTES, parsed_description, parsed_json, regular_file
from mopref._paths import checked_path
from mopref._repr import short_repr
from mopref._write_ahead import current_file
from mopref.conditioning.adapter_description import (
    ADAPTER_TYPE,
    CONFIG_FILE,
    FORMAT_VERSION,
    KIND,
    difference_of_kind,
    read_config,
    sealed,
)
from mopref.conditioning.tensor_files import noted_text

__all__ = [
    "CONDITIONING_CONFIG",
    "CONDITIONING_TENSORS",
    "EXPORTED",
    "TENSOR_FILE",
    "adapter_content",
    "check_replaceable",
    "checked_folder",
    "description_text",
    "is_there",
    "model_weights",
    "refuse_content",
    "refused_content",
]

TENSOR_FILE = "adapter_model.safetensors"
# What a conditioning without adapters of this format is saved as, see conditioning_files.
CONDITIONING_CONFIG, CONDITIONING_TENSORS = "conditioning.json", "conditioning.safetensors"
# Names an exported LoRA among those of one adapter, in the mark by which it is told from another tool's.
EXPORTED = "exported"
_MARK = "mopref"
# Under which names transformers looks for a model's weights.
_MODEL_WEIGHTS = ("model*.safetensors", "*pytorch_model*", "consolidated*", "*.safetensors.index.json", "tf_model.h5")
_CHECKPOINT = ("state.json", "state.safetensors")


def checked_folder(folder: Any, name: str = "folder") -> Path:
    """The path of a folder.

    Raises:
        TypeError: no path.
        ValueError: an empty one, which would stand for the folder that the program runs in, or what no path can be.
    """
    if not isinstance(folder, str | os.PathLike) or not isinstance(os.fspath(folder), str):
        raise TypeError(f"{name} is {short_repr(folder)}, a {type(folder).__name__}: give the path of a folder.")
    path = checked_path(folder, name)
    if not os.fspath(folder):
        raise ValueError(f"{name} is '', which names no folder: give its path, '.' for the current one.")
    return path


def model_weights(folder: Path) -> str | None:
    """A file of a whole model's weights in the folder, as transformers would load them; ``None`` where there is none.

    Settings, tokenizers and other files beside an adapter change nothing.
    """
    return next((path.name for pattern in _MODEL_WEIGHTS for path in sorted(folder.glob(pattern))), None)


def check_replaceable(folder: Path, own: Mapping[str, Any], base_model: nn.Module) -> None:
    """Refuse to write an adapter, or a LoRA made from one, over something else.

    An older one of the same objectives, layers and base may be replaced; other files stay as they are.

    Args:
        folder: where it is to be written.
        own: the fields :data:`KIND` of what is to be written, and ``EXPORTED`` of a LoRA.
        base_model: its base.

    Raises:
        FileExistsError: no folder, or one with a model, a checkpoint or another adapter, which would be lost.
    """
    refuse_content(folder, lambda: _other_content(folder, own, base_model))


def refuse_content(folder: Path, content: Callable[[], str | None]) -> None:
    """Refuse to write over what is no folder, or what ``content``, asked for a folder's, says that would be lost.

    Raises:
        FileExistsError: something is there.
    """
    nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    if nearest is not None and not nearest.is_dir():
        raise FileExistsError(f"{nearest} is no folder: choose another path, or delete it first.")
    found = content()
    if found is not None:
        raise FileExistsError(f"{folder} holds {found}: choose another folder, or delete this one first.")


def refused_content(folder: Path) -> str | None:
    """What neither an adapter nor another conditioning is written beside: a model or a checkpoint, if it is there."""
    weights = model_weights(folder)
    if weights is not None:
        return f"the weights of a model ({weights}), in whose place other tools would take an adapter beside them"
    if all((folder / name).is_file() for name in _CHECKPOINT):
        return "a checkpoint of a training"
    return None


def is_there(folder: Path, *names: str) -> bool:
    """Whether the folder has something under one of these names."""
    return any(os.path.lexists(current_file(folder, name)) for name in names)


def _other_content(folder: Path, own: Mapping[str, Any], base_model: nn.Module) -> str | None:
    content = refused_content(folder)
    if content is not None:
        return content
    if is_there(folder, CONDITIONING_CONFIG, CONDITIONING_TENSORS):
        return f"another conditioning ({CONDITIONING_CONFIG}), beside which nobody would know which of the two counts"
    if not is_there(folder, CONFIG_FILE, TENSOR_FILE, "adapter_model.bin"):
        return None
    try:
        recorded = _recorded(folder)
    except ValueError as error:
        return f"an adapter that cannot be read ({str(error).rstrip('.')})"
    if recorded is None:
        return "an adapter that mopref did not write, which would be lost"
    exported = recorded.get(EXPORTED)
    if exported != own.get(EXPORTED):
        if exported is None:
            return "a mopref adapter, which the export would replace"
        return f"a LoRA that mopref exported ({exported!s:.80}), which would be lost"
    difference = difference_of_kind(recorded, own, base_model)
    return None if difference is None else f"the adapter of another training, which would be lost ({difference})"


def _recorded(folder: Path) -> dict[str, Any] | None:
    """What mopref noted of the adapter or the LoRA in a folder; ``None`` of another tool's.

    Raises:
        ValueError: a description that is damaged, or written by a newer mopref.
    """
    path = regular_file(folder, CONFIG_FILE)
    if path is None:
        return None
    description = parsed_description(path)
    kind = description.get("peft_type") if isinstance(description, dict) else None
    if kind == ADAPTER_TYPE:
        return read_config(folder)
    tensors = regular_file(folder, TENSOR_FILE)
    mark = None if tensors is None else noted_text(tensors, _MARK)
    noted = None if mark is None else parsed_json(mark.encode(), f"the mark in {TENSOR_FILE}")
    return noted if kind == "LORA" and isinstance(noted, dict) and noted.get(EXPORTED) is not None else None


def adapter_content(
    description: dict[str, Any], tensors: dict[str, Tensor], own: Mapping[str, Any]
) -> dict[str, bytes]:
    """The two files of an adapter, or of a LoRA made from one, by their names, for :func:`write_together`.

    Args:
        description: for :data:`CONFIG_FILE`; that of an adapter gets its checksums.
        tensors: for :data:`TENSOR_FILE`.
        own: as :func:`check_replaceable` takes it; noted in the tensors of an exported LoRA.

    Raises:
        ValueError: a description too long to be read again.
    """
    content = save(tensors, metadata={"format": "pt"})
    if EXPORTED in own:
        content = _marked(content, {name: own[name] for name in (EXPORTED, *KIND)})
    else:
        description = sealed(description, content)
    return {TENSOR_FILE: content, CONFIG_FILE: description_text(description, CONFIG_FILE)}


def description_text(description: Mapping[str, Any], name: str) -> bytes:
    """The text of a description in its file.

    Raises:
        ValueError: one too long to be read again.
    """
    text = json.dumps(description, indent=2, ensure_ascii=False).encode()
    if len(text) > MAX_DESCRIPTION_BYTES:
        raise ValueError(
            f"the model cannot be saved: {name} would have {len(text)} bytes, and at most {MAX_DESCRIPTION_BYTES} are "
            "read again. Adapt fewer layers, or by lower ranks."
        )
    return text


def _marked(content: bytes, noted: dict[str, Any]) -> bytes:
    """A file of safetensors with a note among its metadata, which other readers pass over.

    Put there by hand, since safetensors writes two entries in an order of chance, and the same export is to give the
    same file.
    """
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:size])
    header["__metadata__"][_MARK] = json.dumps({"format_version": FORMAT_VERSION, **noted}, ensure_ascii=False)
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[size:]
