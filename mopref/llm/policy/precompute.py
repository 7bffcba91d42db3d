"""What is computed once for all rows of a data set, in batches of like length."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mopref._progress import progress_bar
from mopref.llm.data.lengths import batches_of_like_length

__all__ = ["map_rows"]

Result = TypeVar("Result")


def map_rows(
    function: Callable[[list[Any]], Sequence[Result]],
    rows: Sequence[Any],
    lengths: Sequence[int],
    batch_size: int,
    description: str,
) -> list[Result]:
    """What ``function`` makes of batches of rows, one result for each row, in the order of the rows.

    Args:
        function: B rows to B results.
        rows: the data.
        lengths: tokens of each row.
        batch_size: the most rows in a batch.
        description: what the progress bar says; it is shown for more than three batches.
    """
    batches = batches_of_like_length(lengths, batch_size)
    results: dict[int, Result] = {}
    for indices in progress_bar(batches, description, enabled=len(batches) > 3):
        results |= zip(indices, function([rows[index] for index in indices]), strict=True)
    return [results[index] for index in range(len(rows))]
