"""Nested states of tensors and plain values on disk, without pickle: tensors in safetensors, the rest in JSON.

A manifest beside them holds their checksums, and says what wrote them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mopref.training.manifest import MANIFEST, check_files, damage, read_manifest, unreadable_told, write_manifest

__all__ = ["check_replaceable", "holds_state", "load_state", "plain_state", "save_state"]

_TENSORS, _TREE = "state.safetensors", "state.json"
_FILES = (_TENSORS, _TREE)
_NOTHING: Mapping[str, Any] = {"step": 0, "attempt": 1, "settings": {}, "identity": {}}


def save_state(
    state: dict[str, Any],
    folder: str | Path,
    record_types: Sequence[type] = (),
    about: Mapping[str, Any] = _NOTHING,
) -> None:
    """Write a nested state (dicts, lists, tuples, tensors, numbers, strings, ``None``) into an existing folder.

    A number of NumPy is written as Python's own.

    Args:
        state: what is written.
        folder: where to.
        record_types: the named tuples that may be in it; they are written by their type's name and fields.
        about: what the manifest says of the run, see :func:`write_manifest`.

    Raises:
        TypeError: a value that is none of these, or a named tuple that could not be read again.
        OSError: the files cannot be written.
    """
    tree, tensors = plain_state(state, record_types)
    (Path(folder) / _TREE).write_text(json.dumps(tree), encoding="utf-8")
    try:
        save_file(tensors, Path(folder) / _TENSORS)
    except SafetensorError as error:
        raise OSError(f"{_TENSORS} cannot be written: {error}") from error
    write_manifest(folder, about, _FILES)


def plain_state(
    state: dict[str, Any], record_types: Sequence[type] = (), name: str = "state"
) -> tuple[Any, dict[str, Tensor]]:
    """A nested state as :func:`save_state` writes it: a tree for JSON, and its tensors by name; raises as that."""
    tensors: dict[str, Tensor] = {}
    return _detach_tensors(state, name, tensors, tuple(record_types)), tensors


def check_replaceable(folder: Path) -> None:
    """Refuse to write a checkpoint over something else.

    What is left of a checkpoint may be replaced.

    Raises:
        FileExistsError: the folder holds something other than a checkpoint, which would be lost, or is none.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a symbolic link" if folder.is_symlink() else "no folder"
        raise FileExistsError(f"{folder} is {what}: choose a new or empty folder for the checkpoint.")
    other = sorted(path.name for path in folder.iterdir() if not _is_own(path)) if folder.is_dir() else []
    if other:
        raise FileExistsError(
            f"{folder} holds something other than a checkpoint ({other[0]!r}), which would be lost: move it "
            "away, or choose a new or empty folder."
        )


def holds_state(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, or what is left of one."""
    return folder.is_dir() and any(map(_is_own, folder.iterdir()))


def _is_own(path: Path) -> bool:
    return path.name in (*_FILES, MANIFEST) and path.is_file()


def load_state(folder: str | Path, record_types: Sequence[type] = ()) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; tensors arrive on the CPU.

    Args:
        folder: where it was written.
        record_types: the named tuples that may be in it; no other type is ever made.

    Raises:
        FileNotFoundError: the folder is no complete checkpoint.
        OSError: a file that cannot be read; checkpoint and file are named.
        ValueError: a file that is not as it was written, or a named tuple of another type.
    """
    with unreadable_told(folder):
        return _read_state(Path(folder), record_types)


def _read_state(folder: Path, record_types: Sequence[type]) -> dict[str, Any]:
    check_files(folder, read_manifest(folder), _FILES)
    try:
        tensors = load_file(folder / _TENSORS)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise damage(folder, f"{_TENSORS} cannot be read ({error})") from error
    try:
        tree = json.loads((folder / _TREE).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damage(folder, f"{_TREE} cannot be read ({error})") from error
    return _joined(tree, tensors, record_types, folder)


def _joined(tree: Any, tensors: dict[str, Tensor], record_types: Sequence[type], folder: Path) -> dict[str, Any]:
    """The state that a tree and its tensors hold, all of them and no others."""
    waiting = dict(tensors)
    try:
        state = _attach_tensors(tree, waiting, {kind.__name__: kind for kind in record_types})
    except _UnknownRecordError as error:
        raise ValueError(
            f"{folder}: the checkpoint holds a {error}, which this objective's batches do not: resume with the "
            "objective that wrote it."
        ) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        fault = f"{_TREE} does not say what {_TENSORS} holds ({type(error).__name__}: {error})"
        raise damage(folder, fault) from error
    if waiting or not isinstance(state, dict):
        raise damage(folder, f"{_TREE} does not say what {_TENSORS} holds")
    return state


class _UnknownRecordError(Exception):
    """A named tuple whose type, which this holds the name of, is not among those that may be made."""


def _detach_tensors(value: Any, path: str, tensors: dict[str, Tensor], record_types: tuple[type, ...]) -> Any:
    if isinstance(value, Tensor):
        # A copy: safetensors refuses tensors that share memory.
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        # JSON has string keys only, and optimisers have integer ones: keep pairs.
        pairs = [
            [_plain_key(key, path), _detach_tensors(item, f"{path}.{key}", tensors, record_types)]
            for key, item in value.items()
        ]
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
    if isinstance(value, np.generic) and isinstance(value.item(), bool | int | float | str):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}: a checkpoint holds tensors, numbers, strings and containers.")


def _plain_key(key: Any, path: str) -> Any:
    key = key.item() if isinstance(key, np.generic) else key
    if key is None or isinstance(key, bool | int | float | str):
        return key
    raise TypeError(f"{path} has the key {key!r}, a {type(key).__name__}: a checkpoint's keys are texts or numbers.")


def _attach_tensors(value: Any, tensors: dict[str, Tensor], record_types: dict[str, type]) -> Any:
    """What a node of the tree stands for; its tensors are taken out of ``tensors``."""
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise TypeError("a bare list")
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors.pop(content)
    if kind == "dict":
        return {key: _attach_tensors(item, tensors, record_types) for key, item in content}
    name, items = content if kind == "record" else ("", content)
    items = [_attach_tensors(item, tensors, record_types) for item in items]
    if kind in ("list", "tuple"):
        return items if kind == "list" else tuple(items)
    if kind != "record":
        raise TypeError(f"a {kind}")
    if name not in record_types:
        raise _UnknownRecordError(name)
    return record_types[name](*items)
