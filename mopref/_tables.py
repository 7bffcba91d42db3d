"""Rows that lie in a table on the disk: a ``datasets.Dataset``, of which columns are looked at without making rows.

A check of rows asks each one in Python. Of a table it first asks whole columns, a chunk at a time, so that 200,000 rows
take no seconds and no memory; only where something in them may be wrong are rows made, of the columns that matter, for
the same check to tell the first of them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Chunk",
    "Lists",
    "chunks",
    "column_names",
    "has_column",
    "is_table",
    "matrix_of_table",
    "plain_rows",
    "rows_at",
    "rows_to_check",
]

# Rows of which a column is in memory at once.
_ROWS_AT_ONCE = 1000
# The formats in which a data set hands out rows of the numbers that are in its table.
_FORMATS = (None, "python", "numpy", "torch", "jax", "tensorflow")


class Lists(NamedTuple):
    """A column of lists of numbers.

    Attributes:
        lengths: of each row's list.
        values: of all lists, one after the other.
    """

    lengths: NDArray[np.int64]
    values: NDArray[Any]


class Chunk:
    """Some neighbouring rows of a table, as ``pyarrow`` has them."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._table.column_names

    def lists(self, name: str) -> Lists | None:
        """A column of lists of plain numbers; ``None`` where it is another, or something is missing in it."""
        import pyarrow

        kinds, column = pyarrow.types, self._table.column(name).combine_chunks()
        if not (
            kinds.is_list(column.type) or kinds.is_large_list(column.type) or kinds.is_fixed_size_list(column.type)
        ):
            return None
        values = column.flatten()
        is_plain = kinds.is_integer(values.type) or kinds.is_floating(values.type) or kinds.is_boolean(values.type)
        if column.null_count or values.null_count or not is_plain:
            return None
        lengths = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        return Lists(lengths, values.to_numpy(zero_copy_only=False))

    def lengths(self, name: str) -> NDArray[np.int64]:
        """How long each row's list is, whatever it holds."""
        column = self.lists(name)
        if column is not None:
            return column.lengths
        return np.array([len(value) for value in self._table.column(name).to_pylist()], dtype=np.int64)

    def matrix(self, name: str, size: int) -> NDArray[Any] | None:
        """A column of lists of so many numbers each, ``(rows, size)``; ``None`` where it is another."""
        column = self.lists(name)
        if column is None or (column.lengths != size).any():
            return None
        return column.values.reshape(len(self), size)

    def is_everywhere(self, name: str, value: str | Sequence[str]) -> bool:
        """Whether every row has this text, or this list of texts, in a column."""
        import pyarrow

        column = self._table.column(name).combine_chunks()
        try:
            expected = pyarrow.array([value if isinstance(value, str) else list(value)], type=column.type)
        except pyarrow.ArrowException:
            return False
        return bool(column.equals(expected.take(pyarrow.array(np.zeros(len(self), dtype=np.int64)))))

    def rows(self) -> list[dict[str, Any]]:
        """The rows, as a data set without a format hands them out."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows


def is_table(data: Any) -> bool:
    """Whether rows are had of a table as they are in it: not through a transform of the user's own."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and type(data) is datasets.Dataset and data.format["type"] in _FORMATS


def column_names(table: Any) -> list[str]:
    """The columns that a table's rows have."""
    shown = table.format
    return list(table.column_names if shown["output_all_columns"] else shown["columns"])


def has_column(data: Any, name: str) -> bool:
    """Whether some row has the column.

    Example:
        >>> has_column([{"labels": [0]}, {"labels": [1], "reference_model": "a"}], "reference_model")
        True
    """
    return name in column_names(data) if is_table(data) else any(name in row for row in data)


def plain_rows(data: Any) -> Any:
    """The data; of a table the same one, with rows of plain lists and texts whatever its format."""
    return data.select_columns(column_names(data)).with_format(None) if is_table(data) else data


def rows_at(data: Any, indices: Sequence[int]) -> list[Any]:
    """The rows of these numbers, in one go where the data can (``__getitems__``, as PyTorch's loaders ask for it).

    Example:
        >>> rows_at(["a", "b", "c"], [2, 0])
        ['c', 'a']
    """
    if is_table(data) and indices:
        rows: list[Any] = data.__getitems__(list(indices))
        return rows
    return [data[index] for index in indices]


def chunks(table: Any, columns: Sequence[str]) -> Iterator[Chunk]:
    """A table's rows with these columns, some at a time."""
    for part in table.select_columns(list(columns)).with_format("arrow").iter(_ROWS_AT_ONCE):
        yield Chunk(part)


def matrix_of_table(
    data: Any, columns: Sequence[str], block_of: Callable[[Chunk], NDArray[np.int64] | None]
) -> NDArray[np.int64] | None:
    """A matrix with a row for each of a table's, ``(rows, …)``, from that of each chunk.

    ``None`` where the data are no table, or have no row, or ``block_of`` says so of some chunk.
    """
    blocks = []
    for chunk in chunks(data, columns) if is_table(data) and len(data) else ():
        block = block_of(chunk)
        if block is None:
            return None
        blocks.append(block)
    return np.concatenate(blocks) if blocks else None


def rows_to_check(
    data: Any, columns: Sequence[str], is_plain: Callable[[Chunk], bool] | None = None
) -> Iterable[tuple[int, Any]]:
    """The numbers and rows that a check has to go through: all, or none of a table in which all is plainly right.

    Args:
        data: the rows.
        columns: what is looked at; rows of a table have these only, where it has them.
        is_plain: whether nothing in a chunk of a table, which has one of these columns at least, can be wrong; ``None``
            where that is not known without going through the rows.
    """
    if not is_table(data):
        return enumerate(data)
    present = [name for name in column_names(data) if name in columns]
    if not present or (is_plain is not None and all(map(is_plain, chunks(data, present)))):
        return ()
    return enumerate(row for chunk in chunks(data, present) for row in chunk.rows())
