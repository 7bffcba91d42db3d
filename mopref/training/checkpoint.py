"""Nested states of tensors and plain values on disk, without pickle: tensors in safetensors, the rest in JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["is_state", "load_state", "save_state"]

_TENSORS, _TREE = "state.safetensors", "state.json"


def save_state(state: dict[str, Any], folder: str | Path, record_types: Sequence[type] = ()) -> None:
    """Write a nested state (dicts, lists, tuples, tensors, numbers, strings, ``None``) into an existing folder.

    Args:
        state: what is written.
        folder: where to.
        record_types: the named tuples that may be in it; they are written by their type's name and fields.

    Raises:
        TypeError: a value that is none of these, or a named tuple that could not be read again.
    """
    tensors: dict[str, Tensor] = {}
    tree = _detach_tensors(state, "state", tensors, tuple(record_types))
    save_file(tensors, Path(folder) / _TENSORS)
    (Path(folder) / _TREE).write_text(json.dumps(tree), encoding="utf-8")


def is_state(folder: str | Path) -> bool:
    """Whether a folder holds both files that :func:`save_state` writes."""
    return all((Path(folder) / name).is_file() for name in (_TREE, _TENSORS))


def load_state(folder: str | Path, record_types: Sequence[type] = ()) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; tensors arrive on the CPU.

    Args:
        folder: where it was written.
        record_types: the named tuples that may be in it; no other type is ever made.

    Raises:
        FileNotFoundError: the folder is no complete checkpoint.
        ValueError: a named tuple of another type.
    """
    folder = Path(folder)
    for name in (_TREE, _TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no checkpoint: it has no {name}.")
    tensors = load_file(folder / _TENSORS)
    tree = json.loads((folder / _TREE).read_text(encoding="utf-8"))
    state: dict[str, Any] = _attach_tensors(tree, tensors, {kind.__name__: kind for kind in record_types})
    return state


def _detach_tensors(value: Any, path: str, tensors: dict[str, Tensor], record_types: tuple[type, ...]) -> Any:
    if isinstance(value, Tensor):
        # A copy: safetensors refuses tensors that share memory.
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        # JSON has string keys only, and optimisers have integer ones: keep pairs.
        pairs = [[key, _detach_tensors(item, f"{path}.{key}", tensors, record_types)] for key, item in value.items()]
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        items = [_detach_tensors(item, f"{path}.{index}", tensors, record_types) for index, item in enumerate(value)]
        if not hasattr(value, "_fields"):
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if type(value) not in record_types:
            raise TypeError(
                f"{path} is a {type(value).__name__}, a named tuple that could not be read again: add it to the "
                "objective's record_types."
            )
        return {"record": [type(value).__name__, items]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}: a checkpoint holds tensors, numbers, strings and containers.")


def _attach_tensors(value: Any, tensors: dict[str, Tensor], record_types: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _attach_tensors(item, tensors, record_types) for key, item in content}
    name, items = content if kind == "record" else ("", content)
    items = [_attach_tensors(item, tensors, record_types) for item in items]
    if kind == "list":
        return items
    if kind == "tuple":
        return tuple(items)
    if name not in record_types:
        raise ValueError(
            f"the checkpoint holds a {name}, which this objective's batches do not: resume with the objective that "
            "wrote it."
        )
    return record_types[name](*items)
