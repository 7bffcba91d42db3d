"""Mismatched responses: each prompt beside an answer to another one, as KTO's reference point needs them."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mopref._tables import chunks, column_names, is_table, plain_rows
from mopref.data_rows import check_columns, checked_rows, token_tuples
from mopref.setting_types import checked_numpy_seed

from .kept_tables import found_table, joined, keep_table, kept_place, lists_digest, versions_key

__all__ = ["with_mismatches"]

# What was computed of other mismatches.
_COMPUTED = ("reference_", "hidden_states")
_ROWS_AT_ONCE = 1000


def with_mismatches(
    rows: Sequence[Mapping[str, Any]], seed: int = 0, cache_dir: str | os.PathLike[str] | None = None
) -> Any:
    """Copies of the rows, each with the response of another row, ``mismatched_response_ids``.

    Every response is given to one row, and to one of another prompt as far as there are enough. Drawn once, so that
    what the reference says of them can be computed once.

    Args:
        rows: with ``prompt_ids`` and ``response_ids``.
        seed: of the draw.
        cache_dir: the cache folder in which those of a ``datasets.Dataset`` are kept; mopref's own by default.

    Returns:
        New rows, in the order of ``rows``; without what was computed for other mismatches before. A list of dicts; of a
        ``datasets.Dataset`` another one, on the disk.

    Raises:
        ValueError: fewer than two rows, or a row without token ids.
        TypeError: data whose rows cannot be counted, or had by their number.

    Example:
        >>> rows = [{"prompt_ids": [1], "response_ids": [5]}, {"prompt_ids": [2], "response_ids": [6]}]
        >>> [row["mismatched_response_ids"] for row in with_mismatches(rows)]
        [[6], [5]]
    """
    seed = checked_numpy_seed(seed)
    count = len(checked_rows(rows, "rows"))
    if count < 2:
        raise ValueError(f"there are {count} rows: a mismatch needs the response of another row, so give two at least.")
    check_columns(rows, ("prompt_ids", "response_ids"), "tokenise records first")
    # Plain integers: of tensors, as a data set may hand them out, no two are equal by their hash.
    prompts = _prompt_keys(rows)
    # In random order, rows of one prompt together: by the largest of these groups further on is another prompt, unless
    # one prompt has more than half of the rows.
    order = np.random.default_rng(seed).permutation(count).tolist()
    place: dict[Any, int] = {}
    for index in order:
        place.setdefault(prompts[index], len(place))
    order.sort(key=lambda index: place[prompts[index]])
    sizes = np.bincount([place[prompt] for prompt in prompts])
    shift = max(1, min(int(sizes.max()), count - 1))
    partners = dict(zip(order, order[shift:] + order[:shift], strict=True))
    if is_table(rows):
        return _in_table(rows, [partners[index] for index in range(count)], seed, cache_dir)
    return [
        {
            **{name: value for name, value in row.items() if not str(name).startswith(_COMPUTED)},
            "mismatched_response_ids": rows[partners[index]]["response_ids"],
        }
        for index, row in enumerate(rows)
    ]


def _prompt_keys(rows: Any) -> list[Any]:
    """Something of each row's prompt that is equal for equal ones: its ids, or where rows are many a digest of them."""
    keys: list[Any] = []
    for chunk in chunks(rows, ("prompt_ids",)) if is_table(rows) else ():
        prompts = chunk.lists("prompt_ids")
        if prompts is None or prompts.values.dtype.kind not in "iu":
            # What is wrong is told there.
            return token_tuples(rows, "prompt_ids", "tokenise records first")
        each = np.split(prompts.values.astype(np.int64), np.cumsum(prompts.lengths)[:-1])
        keys += [hashlib.blake2b(ids.tobytes(), digest_size=16).digest() for ids in each]
    return keys or token_tuples(rows, "prompt_ids", "tokenise records first")


def _in_table(rows: Any, partners: Sequence[int], seed: int, cache_dir: str | os.PathLike[str] | None) -> Any:
    """The table with the responses of those rows beside its own."""
    from datasets import List, Value

    columns = ("prompt_ids", "response_ids")
    key = {**versions_key(), "kind": "mismatches", "seed": seed, "rows": lists_digest(rows, columns)}
    place = kept_place("mismatches", key, cache_dir)
    mismatched = found_table(place, key)
    responses = plain_rows(rows).select_columns("response_ids")

    def batches() -> Iterator[dict[str, Any]]:
        for start in range(0, len(partners), _ROWS_AT_ONCE):
            part = responses[partners[start : start + _ROWS_AT_ONCE]]
            yield {"mismatched_response_ids": part["response_ids"]}

    if mismatched is None:
        mismatched = keep_table(place, key, {"mismatched_response_ids": List(Value("int32"))}, batches)
    gone = [name for name in column_names(rows) if name.startswith(_COMPUTED)]
    return joined(rows.remove_columns(gone), mismatched)
