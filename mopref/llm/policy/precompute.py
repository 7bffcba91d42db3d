"""What is computed once for all rows of a data set, in batches of like length."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch

from mopref._progress import progress_bar
from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy.policy import Policy
from mopref.mixed_precision import check_row_precision

__all__ = ["check_reference_rows", "check_references", "keeps_states", "map_rows", "rows_without_states"]

Result = TypeVar("Result")


def rows_without_states(data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies of the rows without activations that were kept before, and without what is noted of them."""
    return [{key: value for key, value in row.items() if not key.startswith("hidden_states")} for row in data]


def check_references(data: Sequence[Mapping[str, Any]]) -> None:
    """Refuse rows with something else than two finite log-probabilities of the reference; none at all is right.

    Args:
        data: rows.

    Raises:
        ValueError: a row with another number of them, one that is not finite or of half precision, in which a
            log-probability of a response has two or three digits; or one without, where other rows have them.
    """
    column, remedy = "reference_log_probabilities", "make them with the objective's precompute, or leave them out"
    places: dict[bool, int] = {}
    for index, row in enumerate(data):
        pair = row.get(column)
        places.setdefault(pair is not None, index)
        if len(places) == 2:
            raise ValueError(f"row {places[False]} has no {column}, and other rows have: precompute all rows, or none.")
        problem = None if pair is None else _problem(pair)
        if problem is not None:
            raise ValueError(f"row {index} has {column} {problem}: {remedy}.")


def check_reference_rows(policy: Policy, data: Sequence[Mapping[str, Any]], precision: str) -> None:
    """Refuse rows whose reference is not the one that this policy has, in the precision that it is to run in.

    Raises:
        ValueError: what :func:`check_references` refuses, or a reference of another model or precision.
    """
    check_references(data)
    check_row_precision(data, "reference", "reference_log_probabilities", precision)
    policy.check_origin(data, "reference")


def _problem(pair: Any) -> str | None:
    """What is wrong with two log-probabilities, for a message; ``None`` for nothing."""
    try:
        values = torch.as_tensor(pair)
    except (TypeError, ValueError, RuntimeError):
        return "that are no two numbers"
    if values.dtype in (torch.float16, torch.bfloat16):
        return f"in {values.dtype}, whose rounding would be taken for something learned"
    if values.shape != (2,) or not values.isfinite().all():
        return f"of shape {tuple(values.shape)}, where two finite numbers are needed"
    return None


def keeps_states(
    policy: Policy,
    frozen_layers: bool | Literal["auto"],
    rows: Sequence[Any],
    lengths: Sequence[int],
    tokens: int,
    sequences_of: Callable[[list[Any]], Sequences],
) -> bool:
    """Whether what enters the first adapted block is kept for each row, compared before on the longest one.

    Args:
        policy: the model to be trained.
        frozen_layers: as :meth:`Policy.settled_frozen_layers` takes it, which says what is refused.
        rows: the data, without activations.
        lengths: tokens of each row's longest sequence.
        tokens: of all sequences.
        sequences_of: rows to their sequences, on the model's device.
    """
    longest = sequences_of([rows[lengths.index(max(lengths))]]) if rows else None
    return policy.settled_frozen_layers(frozen_layers, tokens, longest)


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
