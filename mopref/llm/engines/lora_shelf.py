"""The folder through which LoRAs reach an engine: one for each step's preferences, gone after the step."""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from mopref._cache import cache_folder
from mopref._paths import checked_path
from mopref.conditioning.lora_export import lora_files
from mopref.conditioning.preference_model import PreferenceModel

__all__ = ["checked_shelf", "lora_shelf", "put_lora"]

_PREFIX = "mopref-rollout-"
_OWN = re.compile(_PREFIX + "[0-9a-f]{16}")
# No step takes so long: what is older was left by a process that was killed.
_LEFT_SECONDS = 86_400.0


def checked_shelf(folder: str | Path | None) -> Path | None:
    """The folder above, as a user gives it; ``None`` for ``rollouts`` in mopref's cache.

    Raises:
        ValueError, TypeError: no path.
    """
    if folder is None:
        return None
    path = checked_path(folder, "folder")
    if not os.fspath(folder):
        raise ValueError("folder is '', which names no folder: give its path, or leave it out.")
    return path


@contextmanager
def lora_shelf(above: Path | None) -> Iterator[Path]:
    """Yield an empty folder of a name that was never used, which is removed at the end; so are old ones of killed runs.

    Raises:
        OSError: nothing can be written there.
    """
    # Whole, since the engine has another working folder.
    place = (cache_folder() / "rollouts" if above is None else above.expanduser()).absolute()
    place.mkdir(parents=True, exist_ok=True)
    for other in place.iterdir():
        with suppress(OSError):
            if _OWN.fullmatch(other.name) and time.time() - other.lstat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(other)
    # From the system's generator: those that training draws from are left alone, and processes never meet.
    folder = place / f"{_PREFIX}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_lora(folder: Path, model: PreferenceModel, preference: Sequence[float]) -> None:
    """Write the model at one preference as a plain LoRA into a new folder.

    Raises:
        ValueError: values that are not finite.
        OSError: nothing can be written there.
    """
    like = next(iter(model.adapters.values())).U
    with torch.no_grad():
        weights = model.checked(list(preference), like)[0]
        files = lora_files(model.adapters, model.adapter_config, model.base_model, weights)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
