"""Batches of rows of like length."""

from collections.abc import Sequence

from mopref.setting_types import checked_count

__all__ = ["batches_of_like_length"]


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
