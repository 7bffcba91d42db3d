"""The rows of a parquet file, up to a size that no text shrinks so much from: it may be a stranger's.

A column that says the same over and over is stored as a dictionary and its numbers: a megabyte may stand for a hundred
gigabytes. What a batch of rows unpacks to is therefore counted from the dictionaries before it is unpacked.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .packed_file import check_unpacked, most_unpacked

__all__ = ["parquet_columns", "parquet_rows"]

_ROWS_AT_ONCE = 1024
# A value of a row takes about so many bytes, however short it is.
_BYTES_OF_VALUE = 64
_REMEDY = "write it as JSON lines"


def parquet_columns(path: Path, name: str) -> list[str]:
    """The names of a file's columns.

    Raises:
        ValueError: it is no parquet file.
    """
    with _opened(path, name) as file:
        return list(file.schema_arrow.names)


def parquet_rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        ValueError: it is no parquet file, is damaged, holds what is no text, or unpacks to very much.
    """
    most, size, row = most_unpacked(path), 0, 0
    with _opened(path, name) as file, _opened(path, name, read_dictionary=_texts(file)) as packed:
        groups = range(file.metadata.num_row_groups)
        # The footer says it beforehand, unless it was made up.
        check_unpacked(sum(file.metadata.row_group(group).total_byte_size for group in groups), most, name, _REMEDY)
        # One after another: a batch of lists has one dictionary, and each group its own.
        for group in groups:
            batches, counted = (each.iter_batches(_ROWS_AT_ONCE, row_groups=[group]) for each in (file, packed))
            while True:
                with _damage_told(name, row):
                    batch = next(counted, None)
                    if batch is None:
                        break
                    size += sum(map(_unpacked_bytes, batch.columns))
                    check_unpacked(size, most, name, _REMEDY)
                    rows = next(batches).to_pylist()
                row += len(rows)
                yield from rows


@contextmanager
def _damage_told(name: str, row: int) -> Iterator[None]:
    import pyarrow  # type: ignore[import-untyped]

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ValueError(
            f"{name} is damaged after row {row}, or holds a value that cannot be read ({reason:.200}): write it once "
            "more."
        ) from error


def _opened(path: Path, name: str, read_dictionary: Sequence[str] = ()) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, read_dictionary=list(read_dictionary))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{name} is no parquet file, or not a whole one: write it once more.") from error


def _texts(file: Any) -> list[str]:
    """The paths of all columns, also within lists and records, whose values are of any length."""
    columns = (file.schema.column(index) for index in range(len(file.schema)))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _unpacked_bytes(values: Any) -> int:
    """What an array takes once its dictionaries are written out."""
    from pyarrow import compute, types

    size = _BYTES_OF_VALUE * len(values)
    if types.is_dictionary(values.type):
        if not _is_of_bytes(values.type.value_type):
            return size
        lengths = compute.sum(compute.binary_length(values.dictionary).take(values.indices)).as_py()
        return size + (lengths or 0)
    if types.is_map(values.type):
        return size + _unpacked_bytes(values.keys) + _unpacked_bytes(values.items)
    if types.is_list(values.type) or types.is_large_list(values.type) or types.is_fixed_size_list(values.type):
        return size + _unpacked_bytes(values.flatten())
    if types.is_struct(values.type):
        return size + sum(map(_unpacked_bytes, values.flatten()))
    return size + int(values.nbytes)


def _is_of_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )
