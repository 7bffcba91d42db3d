"""Nested states of tensors and plain values on disk, without pickle: tensors in safetensors, the rest in JSON."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["is_state", "load_state", "random_state", "replace_folder", "save_state", "set_random_state"]

_TENSORS, _TREE = "state.safetensors", "state.json"


@contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``folder``, which takes its place only when the block succeeds."""
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_state(state: dict[str, Any], folder: str | Path) -> None:
    """Write a nested state (dicts, lists, tuples, tensors, numbers, strings, ``None``) into an existing folder.

    Raises:
        TypeError: a value that is none of these.
    """
    tensors: dict[str, Tensor] = {}
    tree = _detach_tensors(state, "state", tensors)
    save_file(tensors, Path(folder) / _TENSORS)
    (Path(folder) / _TREE).write_text(json.dumps(tree), encoding="utf-8")


def is_state(folder: str | Path) -> bool:
    """Whether a folder holds both files that :func:`save_state` writes."""
    return all((Path(folder) / name).is_file() for name in (_TREE, _TENSORS))


def load_state(folder: str | Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; tensors arrive on the CPU.

    Raises:
        FileNotFoundError: the folder is no complete checkpoint.
    """
    folder = Path(folder)
    for name in (_TREE, _TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no checkpoint: it has no {name}.")
    tensors = load_file(folder / _TENSORS)
    state: dict[str, Any] = _attach_tensors(json.loads((folder / _TREE).read_text(encoding="utf-8")), tensors)
    return state


def random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's global generators, as :func:`save_state` can write them."""
    python_version, python_words, python_gauss = random.getstate()
    _, numpy_words, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - saved for code that uses it
    return {
        "python": [python_version, list(python_words), python_gauss],
        "numpy": [[int(word) for word in numpy_words], int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Continue from a state given by :func:`random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    numpy_words, position, has_gauss, numpy_gauss = state["numpy"]
    np.random.set_state(("MT19937", np.array(numpy_words, dtype=np.uint32), position, has_gauss, numpy_gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


def _detach_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # A copy: safetensors refuses tensors that share memory.
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        # JSON has string keys only, and optimisers have integer ones: keep pairs.
        pairs = [[key, _detach_tensors(item, f"{path}.{key}", tensors)] for key, item in value.items()]
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        items = [_detach_tensors(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}: a checkpoint holds tensors, numbers, strings and containers.")


def _attach_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _attach_tensors(item, tensors) for key, item in content}
    items = [_attach_tensors(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
