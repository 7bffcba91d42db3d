"""What a front is made from, checked and copied: here and not where it is used, so that no work is lost."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mopref._arrays import Array
from mopref._labels import labels_of
from mopref._repr import short_repr
from mopref.argument_kinds import checked_kind
from mopref.preferences import validate_preferences

__all__ = [
    "checked_extra",
    "checked_metadata",
    "checked_names",
    "checked_preferences",
]


def checked_names(names: Sequence[str], number_of_objectives: int) -> tuple[str, ...]:
    """The names of the objectives.

    Raises:
        ValueError: another number of names, one that is empty or no text, one that is there twice, or one that no file
            can hold.
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"names are {names!r}: give a list of non-empty strings, one per objective.")
    if len(names) != number_of_objectives or len(set(names)) != len(names):
        raise ValueError(f"names are {names!r}: give {number_of_objectives} different strings, one per objective.")
    for name in names:
        _check_text(name, f"names: {name!r}")
    return tuple(names)


def checked_preferences(preferences: Any, names: Sequence[str], shape: tuple[int, ...]) -> Array:
    """A copy of the preferences on the simplex, in the shape ``(N, m)`` of the values.

    Raises:
        ValueError: preferences that do not lie on the simplex, or of another shape.
    """
    weights = validate_preferences(preferences, names).detach().cpu().numpy()
    # A single vector is one row to that; by name there is no other shape than that of what was read.
    is_by_name = labels_of(preferences) is not None or any(labels_of(row) is not None for row in preferences)
    own_shape = weights.shape if is_by_name else np.shape(preferences)
    if own_shape != shape:
        raise ValueError(
            f"preferences have shape {tuple(own_shape)} and values {shape}: both must be (N, m), row by row."
        )
    return np.array(weights)


def checked_extra(name: str, column: Any, count: int) -> NDArray[Any]:
    """A column of ``count`` cells as an array of float64, int64, bool or str; a missing number is NaN.

    Raises:
        TypeError: no list of cells, or a name that is no text.
        ValueError: another number of cells, cells of another kind, an infinite number, or a text that no file can hold.
    """
    if not isinstance(name, str):
        raise TypeError(f"extra has the name {short_repr(name)}, of type {type(name).__name__}: give a text.")
    _check_text(name, f"extra column {name!r}")
    column = checked_kind(column, Sequence[Any], f"extra column {name!r}")
    if isinstance(column, Tensor):
        column = column.detach().cpu().tolist()
    items = list(column)
    try:
        array = np.array([math.nan if item is None else item for item in items])
    # Cells of several sizes, or tensors that have no numbers.
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"extra column {name!r} cannot be read as cells ({error}): give {count} numbers, bools or strings, one per "
            "point."
        ) from None
    holds_none = any(item is None for item in items)
    if array.shape != (count,) or array.dtype.kind not in "biufU" or (holds_none and array.dtype.kind == "U"):
        raise ValueError(
            f"extra column {name!r} has shape {array.shape} and type {array.dtype}: give {count} numbers, bools or "
            "strings, one per point (None for a number that is missing)."
        )
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise ValueError(
            f"extra column {name!r} has an infinite number in row {int(np.flatnonzero(np.isinf(array))[0])}: give None "
            "where nothing was measured."
        )
    if array.dtype.kind == "U":
        for i, (item, cell) in enumerate(zip(items, array.tolist(), strict=True)):
            _check_text(cell, f"extra column {name!r}, row {i},")
            if isinstance(item, str) and item != cell:
                raise ValueError(
                    f"extra column {name!r} has a text that ends in a NUL character in row {i}, which numpy cuts off: "
                    "leave it out."
                )
    return array.astype({"f": np.float64, "i": np.int64, "u": np.int64}.get(array.dtype.kind, array.dtype))


def checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the metadata as JSON holds it.

    Raises:
        ValueError: an entry that JSON cannot hold.
    """
    ready: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            # tolist is what numpy arrays and scalars, and tensors, have.
            ready[str(key)] = json.loads(json.dumps(value, default=lambda item: item.tolist(), allow_nan=False))
            text = json.dumps([str(key), ready[str(key)]], ensure_ascii=False)
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"metadata[{short_repr(key)}] = {short_repr(value)} cannot be written as JSON ({error}): give text, "
                "finite numbers, bools, lists or mappings."
            ) from error
        _check_text(text, f"metadata[{short_repr(key)}]")
    return ready


def _check_text(text: str, place: str) -> None:
    """Refuse half of a character (a lone surrogate), which UTF-8 has no bytes for."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place} holds {text[error.start]!r}, half of a character, which no file can hold: read the text that it "
            "comes from as UTF-8, or leave it out."
        ) from None
