"""Tables of rows in mopref's cache: Arrow files that are mapped into memory, whole or not there at all.

A table is kept under a digest of all that it was made of. It is written beside its place, synchronised and renamed,
and its checksum is compared at every use: a full disk or a kill leaves nothing that is taken for whole, and what was
damaged since is made anew.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mopref._cache import build_once, cache_folder, is_complete
from mopref._tables import chunks, column_names, is_table, plain_rows
from mopref._warning import warn

__all__ = [
    "found_table",
    "joined",
    "keep_table",
    "kept_place",
    "lists_digest",
    "table_digest",
    "table_notes",
    "versions_key",
]

_FILE, _NOTES = "rows.arrow", "notes.json"
_ROWS_AT_ONCE = 1000


def versions_key() -> dict[str, str]:
    """Of the packages that what is kept comes from: another version may compute it otherwise."""
    return {name: version(name) for name in ("mopref", "torch", "transformers", "tokenizers")}


def kept_place(kind: str, key: Mapping[str, Any], cache_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of the table that has this key.

    Args:
        kind: what is in it, the name of a folder.
        key: what its content depends on, as JSON can hold it.
        cache_dir: the cache folder; ``None`` for mopref's own.
    """
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
    return cache_folder(cache_dir) / kind / digest[:32]


def found_table(place: Path, key: Mapping[str, Any]) -> Any:
    """The table that is kept there, a ``datasets.Dataset``; ``None`` where there is none.

    Raises:
        ValueError: the folder above is one that other users can write into.

    Warns:
        UserWarning: there is one, and it is damaged.
    """
    if is_complete(place, key):
        return _mapped(place)
    if os.path.lexists(place):
        warn(f"{place} is damaged (its content is not what was written): it is made anew.")
    return None


def keep_table(
    place: Path,
    key: Mapping[str, Any],
    features: Mapping[str, Any],
    batches: Callable[[], Iterable[Mapping[str, Any]]],
    notes: Callable[[], Mapping[str, Any]] = dict,
) -> Any:
    """Write a table, and map it into memory.

    Args:
        place: its folder.
        key: what its content depends on.
        features: its columns, as ``datasets`` calls their types.
        batches: gives the rows, some at a time, as lists by column.
        notes: what is to be known of them, asked for after the last one.

    Returns:
        A ``datasets.Dataset``.

    Raises:
        OSError: nothing can be written there; nothing is left there then.
        ValueError: the folder above is one that other users can write into.
    """
    from datasets import Features
    from datasets.arrow_writer import ArrowWriter

    def build(folder: Path) -> None:
        with ArrowWriter(features=Features(dict(features)), path=str(folder / _FILE)) as writer:
            for batch in batches():
                writer.write_batch(dict(batch))
            writer.finalize()
        (folder / _NOTES).write_text(json.dumps(notes()) + "\n", encoding="utf-8")

    try:
        return _mapped(build_once(place, key, build))
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"{place} could not be written ({error.strerror or error}); nothing of it is there. Free some space, or "
            "set the environment variable MOPREF_CACHE to another folder of your own.",
        ) from error


def table_notes(place: Path) -> Any:
    """What is to be known of a table that is there."""
    return json.loads((place / _NOTES).read_text(encoding="utf-8"))


def _mapped(place: Path) -> Any:
    from datasets import Dataset

    return Dataset.from_file(str(place / _FILE))


def joined(table: Any, computed: Any) -> Any:
    """A table with the columns of another one, which replace its own of the same names; its format stays."""
    from datasets import concatenate_datasets

    own = plain_rows(table)
    own = own.remove_columns([name for name in column_names(own) if name in computed.column_names])
    shown = table.format
    return concatenate_datasets([own, computed], axis=1).with_format(shown["type"], **shown["format_kwargs"])


def table_digest(table: Any) -> str:
    """A sha256 of all that a table's rows hold, in their order."""
    import pyarrow

    digest = hashlib.sha256()

    class Sink:
        closed = False

        def write(self, content: bytes) -> int:
            digest.update(content)
            return len(content)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    for part in plain_rows(table).with_format("arrow").iter(_ROWS_AT_ONCE):
        # Without what a data set notes of itself, and copied, or the bytes would be those of other rows around.
        part = part.take(np.arange(len(part))).combine_chunks().replace_schema_metadata(None)
        with pyarrow.ipc.new_stream(pyarrow.PythonFile(Sink(), "w"), part.schema) as stream:
            stream.write_table(part)
    return digest.hexdigest()


def lists_digest(rows: Any, columns: Sequence[str]) -> str:
    """A sha256 of columns of token ids, in their order; the same for rows in a list and in a table."""
    digest = hashlib.sha256(json.dumps(list(columns)).encode())
    parts = chunks(rows, columns) if is_table(rows) else None
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chunk = None if parts is None else next(parts)  # type: ignore[call-overload]
        for name in columns:
            lists = None if chunk is None else chunk.lists(name)
            if lists is None:
                ids = [np.asarray(row[name], dtype=np.int64) for row in rows[start : start + _ROWS_AT_ONCE]]
                lengths, values = np.array([len(part) for part in ids]), np.concatenate(ids)
            else:
                lengths, values = lists
            digest.update(lengths.astype(np.int64).tobytes())
            digest.update(values.astype(np.int64).tobytes())
    return digest.hexdigest()
