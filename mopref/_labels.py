"""Numbers with labels, as a dict or a pandas Series has them: read by name, or refused, never read by mere position.

Such a container may hold its numbers in any order, and its labels say which is which. No library is imported for this:
containers are known by what they have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from mopref._repr import short_repr

__all__ = ["check_labels", "column_of", "described", "labels_of", "listed", "refuse_labels"]

# How many names a message shows.
_MOST_NAMES = 16


def labels_of(values: Any) -> tuple[Any, ...] | None:
    """What a container calls its numbers, or its columns of numbers; ``None`` where it knows them by position only.

    Labels 0, 1, … of a Series or of a table are positions; those of a dict are not.

    Example:
        >>> labels_of({"harmless": 0.25, "helpful": 0.75}), labels_of([0.75, 0.25])
        (('harmless', 'helpful'), None)
    """
    if isinstance(values, Mapping):
        return tuple(values)
    if isinstance(values, tuple):
        return getattr(values, "_fields", None)
    if hasattr(values, "detach") or isinstance(values, list | float | int | str | type):
        return None
    if is_dataclass(values):
        return tuple(field.name for field in fields(values))
    labels = getattr(getattr(values, "dtype", None), "names", None) or _table_labels(values)
    is_positions = all(type(label) is int and label == place for place, label in enumerate(labels or ()))
    return None if labels is None or is_positions else tuple(labels)


def _table_labels(values: Any) -> Sequence[Any] | None:
    """The labels of a labelled array's last axis, of a table's columns, or of a Series."""
    if _is_labelled_array(values):
        axis = values.dims[-1]
        return list(np.asarray(values.coords[axis]).tolist()) if axis in values.coords else None
    for attribute in ("column_names", "columns", "index"):
        labels = getattr(values, attribute, None)
        # The index of a text or of a deque is a method.
        if labels is not None and not callable(labels):
            return list(labels)
    return None


def _is_labelled_array(values: Any) -> bool:
    """Whether these are an array of xarray."""
    return hasattr(values, "dims") and hasattr(values, "coords") and not isinstance(values, Mapping)


def column_of(values: Any, label: Any) -> Any:
    """The number, or the column of numbers, that has the label."""
    if isinstance(values, tuple) or is_dataclass(values):
        return getattr(values, label)
    if _is_labelled_array(values):
        return np.asarray(values)[..., (labels_of(values) or ()).index(label)]
    column = values[label]
    # The columns of a pandas table share its rows, so that the labels of these say nothing more.
    return np.asarray(column) if hasattr(values, "columns") and hasattr(column, "index") else column


def check_labels(values: Any, names: Sequence[str], what: str, noun: str, end: str = "") -> bool:
    """Whether a container has labels; these must be just the names, each once, in any order.

    Args:
        values: what may have labels.
        names: of the objectives.
        what: what the values are, such as "the preference", for the message.
        noun: what there is one of for each objective, such as "a weight".
        end: how the message ends, before its full stop.

    Raises:
        ValueError: a label that is no name, one that is there twice, a name without a label, or a table whose rows are
            labelled by the names.
    """
    labels = labels_of(values)
    if labels is None:
        rows = getattr(values, "index", None)
        if rows is not None and not callable(rows) and any(label in names for label in rows):
            raise ValueError(f"{what} has a row for each objective: give its transpose, with a column for each.")
        return False
    unknown = [label for label in labels if label not in names]
    missing = next((name for name in names if name not in labels), None)
    reason = None
    if unknown:
        reason = f"{noun} for {unknown[0]}, which is no objective"
    elif missing is not None:
        reason = f"no {noun.split()[-1]} for {missing}"
    elif len(labels) > len(names):
        reason = f"more than one {noun.split()[-1]} for {next(label for label in labels if labels.count(label) > 1)}"
    if reason is None:
        return True
    raise ValueError(f"{what} {described(values)} has {reason}: give one for each of {listed(names)}{end}.")


def described(values: Any) -> str:
    """A container for a message: a dict as it is, another by its kind, since a table's own text has many lines."""
    text = short_repr(dict(values)) if isinstance(values, Mapping) else ""
    if text and "\n" not in text:
        return text
    return f"(a {type(values).__name__} with the labels {listed(labels_of(values) or ())})"


def listed(names: Sequence[Any]) -> str:
    """Names for a message, the first of them where there are many."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(map(str, names))
    return f"{', '.join(str(names[place]) for place in range(_MOST_NAMES))}, … ({len(names)} of them)"


def refuse_labels(values: Any, what: str) -> None:
    """Refuse numbers with labels, or rows of them, where they are read by position, which labels may contradict.

    Raises:
        ValueError: it says the labels, and what to give.
    """
    rows = values if isinstance(values, list | tuple) else ()
    for part in (values, *rows):
        if labels_of(part) is not None:
            raise ValueError(
                f"{what} has labels {described(part)}, and is read by position: give plain numbers in the order of the "
                "objectives."
            )
