"""Adapters whose files are changed and sealed anew, as one who means harm would: no checksum tells."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

__all__ = ["SETTINGS", "WEIGHTS", "change_settings", "change_tensors", "settings_of", "write_settings"]


def settings_of(folder: Path) -> dict[str, Any]:
    """The description of an adapter."""
    return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write a description with the checksums of a format that has them."""
    settings = {name: value for name, value in settings.items() if name not in ("sha256", "tensors_sha256")}
    version = settings.get("format_version")
    if not isinstance(version, int) or version >= 3:
        settings["tensors_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        sealed = json.dumps({**settings, "sha256": None}, sort_keys=True)
        settings["sha256"] = hashlib.sha256(sealed.encode()).hexdigest()
    (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")


def change_settings(folder: Path, **changes: Any) -> None:
    """Change fields of a description."""
    write_settings(folder, settings_of(folder) | changes)


def change_tensors(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change the tensors of an adapter in place."""
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)
    write_settings(folder, settings_of(folder))
