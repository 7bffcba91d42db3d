"""Plain LoRAs of an adapter at single preferences: written when they are asked for, and so many kept.

    CACHE/<digest>/adapter/           a copy of the adapter, so that one that is replaced changes nothing here
    CACHE/<digest>/loras/100-70-30/   a LoRA, at λ = (.70, .30): how many steps make 1, and each weight in steps

Nothing that is heavy is imported before a LoRA is written: an engine loads this where it starts.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from mopref._atomic_writes import remove_folder, remove_leftovers, replace_folder
from mopref._cache import check_cache_folder
from mopref._checked_files import file_digest, parsed_description, regular_file

__all__ = ["adopted", "kept", "lora_folder", "objectives_in"]

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"


def adopted(adapter: str | os.PathLike[str], cache: Path) -> Path:
    """The folder of the cache for an adapter as it is now, into which it is copied.

    Raises:
        FileNotFoundError: no adapter folder.
        ValueError: files that lie outside the folder, or a cache that other users can write into.
        OSError: nothing can be written there.
    """
    source = Path(adapter).expanduser()
    files = {name: regular_file(source, name) for name in (_CONFIG, _TENSORS)}
    missing = next((name for name, path in files.items() if path is None), None)
    if missing is not None:
        raise FileNotFoundError(f"{source} is no adapter folder: it has no {missing}.")
    check_cache_folder(cache)
    digests = "".join(file_digest(path) for path in files.values() if path is not None)
    place = cache / hashlib.sha256(digests.encode()).hexdigest()[:32]
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(place):
        # Of an earlier start, whole or not there: a folder appears under its name when its files are on the disk.
        if not (place / "adapter").is_dir():
            with replace_folder(place / "adapter") as folder:
                for name, path in files.items():
                    assert path is not None
                    shutil.copyfile(path, folder / name)
    return place


def objectives_in(place: Path) -> tuple[str, ...]:
    """The names of the objectives of an adopted adapter, in the order of λ.

    Raises:
        ValueError: a description that names none.
    """
    description = parsed_description(place / "adapter" / _CONFIG)
    names = description.get("objectives") if isinstance(description, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{place / 'adapter' / _CONFIG} names no objectives: it is no adapter of mopref's.")
    return tuple(names)


def lora_folder(place: Path, weights: Sequence[int], steps: int) -> Path:
    """Where the LoRA at a λ on the grid belongs, whether it is there or not."""
    return place / "loras" / "-".join(map(str, (steps, *weights)))


@contextmanager
def kept(folder: Path, most: int) -> Iterator[None]:
    """Within this block the LoRA of :func:`lora_folder` is there, and no other process takes it away.

    It is written where it is missing. Of all that the adapter has, the ``most`` that were asked for last stay.

    Raises:
        ValueError: an adapter that cannot be read.
        OSError: nothing can be written there.
    """
    place = folder.parent.parent
    with _alone(place):
        if not folder.is_dir():
            remove_leftovers(folder.parent, folder.name)
            with replace_folder(folder) as unfinished:
                for name, content in _content(place, folder.name).items():
                    (unfinished / name).write_bytes(content)
        os.utime(folder)
        others = [path for path in folder.parent.iterdir() if path != folder and not path.name.startswith(".")]
        for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)[most - 1 :]:
            remove_folder(path)
        yield


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Within this block no other process or thread is in such a block for this adapter."""
    import fcntl

    descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Ends with its process, however that ends.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


@lru_cache(maxsize=8)
def _adapter(place: Path) -> Any:
    """Settings and tensors of an adopted adapter, read once: its place is named by its content."""
    from mopref.conditioning.adapter_files import read_alone

    return read_alone(place / "adapter")


def _content(place: Path, name: str) -> dict[str, bytes]:
    """The files of the LoRA at the λ that a folder's name says: A = Vᵀ, B = c · U · diag(g(λ)), or c · U · C(λ)."""
    import torch
    from safetensors.torch import save

    from mopref.conditioning.lora_export import peft_tensors
    from mopref.conditioning.preference_core import core_matrix
    from mopref.conditioning.preference_gate import saved_gate_change
    from mopref.conditioning.svd_lora import gate_of, part_names

    steps, *weights = map(int, name.split("-"))
    settings, tensors = _adapter(place)
    config = settings.config
    preference = torch.tensor([weights], dtype=torch.float64) / steps
    factors = {}
    for layer in settings.sizes:
        u, v, first, second = (tensors[f"{layer}.{part}"] for part in part_names(config))
        if config.core == "full":
            factors[layer] = (v.T, config.scaling * u @ core_matrix(first, second, preference[0]))
            continue
        gate = gate_of(first, second, preference, config.preference_rank)
        gate = gate + saved_gate_change(tensors, layer, preference)
        factors[layer] = (v.T, config.scaling * u * gate)
    description = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": config.total_rank,
        # Engines scale by lora_alpha / r; ours is in B already.
        "lora_alpha": config.total_rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(settings.sizes),
    }
    return {_TENSORS: save(peft_tensors(factors), metadata={"format": "pt"}), _CONFIG: json.dumps(description).encode()}
