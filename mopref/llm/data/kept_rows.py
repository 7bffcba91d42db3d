"""Rows of token ids that are kept on the disk, for records that come in a table of ``datasets``.

They are found again by what they were made of: all that the records hold, everything that the tokenizer writes down of
itself, its chat template (with the moment, where that writes the date), names and limits, and the packages' versions.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mopref._checked_files import file_digest
from mopref._repr import short_repr
from mopref._tables import column_names

from .chat_template import PairTokenizer
from .kept_tables import found_table, keep_table, kept_place, table_digest, table_notes, versions_key

__all__ = ["kept_rows"]

# Raised where the same records would become other rows.
_FORMAT = 1
_ROWS_AT_ONCE = 1000


def kept_rows(
    pairs: PairTokenizer,
    records: Any,
    form: Mapping[str, Any],
    make: Callable[[], Iterator[dict[str, Any]]],
    notes: Callable[[], Mapping[str, Any]],
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[Any, Any]:
    """The rows of a table of records, another table, and what was noted of them.

    Args:
        pairs: the tokenizer.
        records: a ``datasets.Dataset``.
        form: what else the rows depend on, as JSON can hold it.
        make: makes the rows, one after the other.
        notes: what is to be known of them, asked for after the last one.
        cache_dir: the cache folder; ``None`` for mopref's own.

    Raises:
        TypeError: a tokenizer that cannot be saved, so that it is not known which one it is.
        OSError: nothing can be written there.
        ValueError: what ``make`` refuses, or a cache folder that other users can write into.
    """
    key = {
        **versions_key(),
        "format": _FORMAT,
        **form,
        "tokenizer": _tokenizer_digest(pairs),
        "records": table_digest(records),
    }
    place = kept_place("rows", key, cache_dir)
    rows = found_table(place, key)
    if rows is None:
        made = make()
        first = list(islice(made, 1))

        def batches() -> Iterator[dict[str, list[Any]]]:
            part = first + list(islice(made, _ROWS_AT_ONCE - 1))
            while part:
                yield {name: [row[name] for row in part] for name in part[0]}
                part = list(islice(made, _ROWS_AT_ONCE))

        rows = keep_table(place, key, _features(first[0], records), batches, notes)
    return rows, table_notes(place)


def _features(row: Mapping[str, Any], records: Any) -> dict[str, Any]:
    """The types of a row's columns; a prompt is what it is among the records."""
    from datasets import List, Value

    types = {"labels": List(Value("int8")), "dimensions": List(Value("bool")), "objectives": List(Value("string"))}
    own = {name: records.features[name] for name in column_names(records) if name == "prompt"}
    return {name: List(Value("int32")) if name.endswith("_ids") else (types | own)[name] for name in row}


def _tokenizer_digest(pairs: PairTokenizer) -> str:
    """A sha256 of all that a tokenizer writes down of itself, and of the template in force."""
    tokenizer = pairs.tokenizer
    if not hasattr(tokenizer, "save_pretrained"):
        raise TypeError(
            f"tokenizer is {short_repr(tokenizer)}, which has no save_pretrained: rows of a datasets.Dataset are kept "
            "by what their tokenizer is, so give one of transformers, or the records as a list."
        )
    digest = hashlib.sha256()
    kinds = [f"{type(part).__module__}.{type(part).__qualname__}" for part in (pairs, tokenizer)]
    digest.update(repr((kinds, pairs._template)).encode())
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            digest.update(repr((path.relative_to(folder).as_posix(), file_digest(path))).encode())
    return digest.hexdigest()
