"""Batches of rows of like length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mopref._tables import chunks, is_table
from mopref.setting_types import checked_count

__all__ = ["batches_of_like_length", "sequence_lengths"]


def batches_of_like_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row indices in batches of like length, shortest first, so that little is computed for padding.

    Args:
        lengths: of N rows; rows of one length keep their order.
        batch_size: rows in a batch; the last batch may have fewer.

    Raises:
        ValueError: a batch size below 1, with which no row would be looked at.
        TypeError: one that is no whole number.

    Example:
        >>> batches_of_like_length([5, 1, 4, 2], 2)
        [[1, 3], [2, 0]]
    """
    batch_size = checked_count(batch_size, "batch_size")
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def sequence_lengths(rows: Sequence[Mapping[str, Any]], responses: Sequence[str]) -> list[int]:
    """The tokens of each row's longest sequence: its prompt with one of its responses, which stand in these columns.

    Example:
        >>> sequence_lengths([{"prompt_ids": [5, 6], "response_0_ids": [7], "response_1_ids": [8, 9]}],
        ...                  ("response_0_ids", "response_1_ids"))
        [4]
    """
    if is_table(rows):
        return [
            int(length)
            for chunk in chunks(rows, ("prompt_ids", *responses))
            for length in chunk.lengths("prompt_ids") + np.max([chunk.lengths(column) for column in responses], axis=0)
        ]
    return [len(row["prompt_ids"]) + max(len(row[column]) for column in responses) for row in rows]
