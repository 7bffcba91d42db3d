"""Data rows where they enter the library: a collection that can be counted and indexed, as often as wanted."""

from collections.abc import Callable, Mapping, Sequence, Set
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._tables import Chunk, column_names, is_table, matrix_of_table, rows_to_check

__all__ = ["check_columns", "checked_rows", "entry_matrix", "is_flag", "is_label", "is_whole_number", "token_tuples"]

# How many names or entries a message shows.
_MOST_SHOWN = 8


def checked_rows(data: Any, name: str) -> Any:
    """The data themselves, if rows can be had of them by their number: a list, an array, a data set with a length.

    Args:
        data: the rows.
        name: what they are called in a message.

    Raises:
        TypeError: something whose rows cannot be counted, or had by their number; what to give is said.

    Example:
        >>> checked_rows([{"x": 1.0}, {"x": 2.0}], "train_data")[1]
        {'x': 2.0}
    """
    remedy = _remedy(data)
    if remedy is None:
        remedy = _indexing_remedy(data)
    if remedy is not None:
        raise TypeError(f"{name} is a {type(data).__name__}, whose rows cannot be had by their number: {remedy}.")
    return data


def _remedy(data: Any) -> str | None:
    """What to give in place of a kind of object that is known to be something else than rows; ``None`` for others."""
    if isinstance(data, str | bytes | PathLike):
        return "give the rows themselves, such as load_records makes of a file"
    if isinstance(data, Mapping):
        return f"give a list of rows; where these are parts of a data set ({_some(data)}), give one of them"
    if hasattr(data, "iloc"):
        return "give its rows as dicts, data.to_dict('records')"
    if hasattr(data, "dataset") and hasattr(data, "batch_sampler"):
        return "give the data set that it loads, data.dataset; batches are composed here"
    if isinstance(data, Set) or not hasattr(data, "__getitem__"):
        return "give a list of them, list(data)"
    if not hasattr(data, "__len__"):
        return "give one with a length (__len__), or a list of its rows"
    return None


def _indexing_remedy(data: Any) -> str | None:
    try:
        if len(data) > 0:
            data[0]
    except Exception as error:  # Whatever a data set of the user's own raises.
        return f"its length or its row 0 raises {type(error).__name__} ({error}); give a list of rows"
    return None


def check_columns(data: Sequence[Any], columns: Sequence[str], remedy: str) -> None:
    """Refuse rows that are no dicts, or lack a column.

    Args:
        data: the rows.
        columns: what every row must have.
        remedy: how such rows are made, for the message.

    Raises:
        ValueError: the first such row, by its number and its columns; no text of it is shown.

    Example:
        >>> check_columns([{"prompt_ids": [5], "labels": [0, 1]}], ("prompt_ids", "labels"), "use tokenize_records")
    """
    # All rows of a table have the same ones.
    rows = [dict.fromkeys(column_names(data))] if is_table(data) and len(data) else data
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"row {index} is a {type(row).__name__}, not a dict with {', '.join(columns)}: {remedy}.")
        missing = [name for name in columns if name not in row]
        if missing:
            raise ValueError(f"row {index} has {_some(row)}, but no {', '.join(missing)}: {remedy}.")


def is_whole_number(value: Any) -> bool:
    """Whether this is a whole number by its type: Python's, NumPy's or a tensor of one; a bool and 1.0 are none.

    Example:
        >>> [is_whole_number(value) for value in (1, True, 1.0, "1")]
        [True, False, False, False]
    """
    if isinstance(value, Tensor) and value.ndim == 0:
        value = value.item()
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_label(value: Any) -> bool:
    """Whether this is one of the whole numbers 0, 1 and −1 (not labelled)."""
    return is_whole_number(value) and value in (0, 1, -1)


def is_flag(value: Any) -> bool:
    """Whether this is true or false, or the whole number 0 or 1 for it."""
    return isinstance(value, bool | np.bool_) or (is_whole_number(value) and value in (0, 1))


def entry_matrix(data: Sequence[Any], column: str, size: int, is_right: Callable[[Any], bool], remedy: str) -> Tensor:
    """A column of m whole numbers a row, as a matrix ``(rows, m)`` of int64.

    Args:
        data: rows that have the column.
        column: its name.
        size: m.
        is_right: whether an entry is one of those that there are.
        remedy: what to give, for the message.

    Raises:
        ValueError: the first row with another number of entries, or a wrong one; no text of it is shown.

    Example:
        >>> entry_matrix([{"labels": [0, 1]}, {"labels": (1, 0)}], "labels", 2, is_label, "give two labels")
        tensor([[0, 1],
                [1, 0]])
    """
    of_table = matrix_of_table(data, (column,), lambda chunk: _right_block(chunk, column, size, is_right))
    if of_table is not None:
        return torch.from_numpy(of_table)
    matrix = []
    for index, row in rows_to_check(data, (column,)):
        value = row[column]
        # Lists, arrays or tensors, as a data set hands them out.
        value = value.tolist() if isinstance(value, Tensor | np.ndarray) else value
        entries = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        entries = [entry.item() if isinstance(entry, Tensor) and entry.ndim == 0 else entry for entry in entries]
        if len(entries) != size or not all(map(is_right, entries)):
            shown = ", ".join(map(_number, entries[:_MOST_SHOWN])) + (", …" if len(entries) > _MOST_SHOWN else "")
            raise ValueError(f"row {index} has {column} [{shown}]: {remedy}.")
        matrix.append([int(entry) for entry in entries])
    return torch.tensor(matrix, dtype=torch.int64).view(len(data), size)


def _right_block(chunk: Chunk, column: str, size: int, is_right: Callable[[Any], bool]) -> NDArray[np.int64] | None:
    """A chunk's part of the matrix; ``None`` where it may have a wrong entry."""
    block = chunk.matrix(column, size)
    if block is None or not all(map(is_right, np.unique(block))):
        return None
    return block.astype(np.int64)


def token_tuples(data: Sequence[Any], column: str, remedy: str) -> list[tuple[int, ...]]:
    """The token ids of each row in one column, as tuples that can be compared.

    Args:
        data: the rows.
        column: its name.
        remedy: how such rows are made, for the message.

    Raises:
        ValueError: a row that is no dict, without the column, or with something else in it than whole numbers.
        TypeError: data whose rows cannot be counted, or had by their number.

    Example:
        >>> token_tuples([{"prompt_ids": [5, 7]}], "prompt_ids", "use tokenize_prompts")
        [(5, 7)]
    """
    check_columns(checked_rows(data, "data"), (column,), remedy)
    tuples = []
    for index, row in rows_to_check(data, (column,)):
        value = row[column]
        ids = value.tolist() if isinstance(value, Tensor | np.ndarray) else value
        is_list = isinstance(ids, Sequence) and not isinstance(ids, str | bytes)
        if not is_list or not all(map(is_whole_number, ids)):
            raise ValueError(f"row {index} has a {type(value).__name__} as {column} that is no list of ids: {remedy}.")
        tuples.append(tuple(int(token) for token in ids))
    return tuples


def _number(value: Any) -> str:
    """A number for a message, and of anything else its kind."""
    return str(value) if isinstance(value, bool | int | float | np.number | np.bool_) else f"a {type(value).__name__}"


def _some(names: Mapping[Any, Any]) -> str:
    """The first names, shortened where they are many or long."""
    first = [str(name)[:40] for name in list(names)[:_MOST_SHOWN]]
    return ", ".join(first) + (", …" if len(names) > _MOST_SHOWN else "") if first else "nothing"
