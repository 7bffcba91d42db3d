"""What is computed once for all rows of a data set, in batches of like length."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._progress import progress_bar
from mopref._tables import Chunk, column_names, is_table, plain_rows, rows_at, rows_to_check
from mopref._warning import warn
from mopref.llm.data.kept_tables import joined, lists_digest
from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy.policy import Policy
from mopref.llm.policy.reference_cache import ReferenceCache, base_key, reference_columns, reference_features
from mopref.mixed_precision import check_row_precision

__all__ = [
    "check_reference_rows",
    "check_references",
    "keeps_states",
    "map_rows",
    "rows_without_states",
    "with_references",
]

Result = TypeVar("Result")


def rows_without_states(data: Sequence[Mapping[str, Any]], with_references: bool = True) -> Any:
    """Copies of the rows without activations that were kept before, and without what is noted of them.

    Of a table the same table without these columns.

    Args:
        data: rows.
        with_references: whether references that were computed before stay.
    """
    gone = ("hidden_states",) if with_references else ("hidden_states", "reference_")
    if is_table(data):
        table: Any = data
        return table.remove_columns([name for name in column_names(table) if name.startswith(gone)])
    return [{key: value for key, value in row.items() if not key.startswith(gone)} for row in data]


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

    def is_plain(chunk: Chunk) -> bool:
        pairs = chunk.matrix(column, 2)
        if pairs is not None and pairs.dtype == np.float16:
            # Of rows it could not be told: they have numbers of Python's own.
            raise ValueError(f"row 0 has {column} {_problem(pairs[0])}: {remedy}.")
        return pairs is not None and bool(np.isfinite(pairs).all())

    for index, row in rows_to_check(data, (column,), is_plain):
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
    results: dict[int, Result] = {}
    for indices, batch in _batches(rows, lengths, batch_size, description):
        results |= zip(indices, function(batch), strict=True)
    return [results[index] for index in range(len(rows))]


def _batches(
    rows: Sequence[Any], lengths: Sequence[int], batch_size: int, description: str
) -> Iterator[tuple[list[int], list[Any]]]:
    """The numbers and rows of batches of like length, with a progress bar."""
    batches = batches_of_like_length(lengths, batch_size)
    for indices in progress_bar(batches, description, enabled=len(batches) > 3):
        yield indices, rows_at(rows, indices)


def with_references(
    policy: Policy,
    rows: Any,
    lengths: Sequence[int],
    batch_size: int,
    columns: Sequence[str],
    reference_of: Callable[[list[Any]], Tensor],
    precision: str,
    cache: ReferenceCache | None,
    kind: str,
) -> Any:
    """The rows with two log-probabilities of the reference each, and with what is noted of them.

    Args:
        policy: the model.
        rows: the data, without these columns or with older ones, which are replaced; a table stays one.
        lengths: tokens of each row.
        batch_size: rows in one forward.
        columns: of the token ids that they are computed from.
        reference_of: B rows to log-probabilities ``(B, 2)``.
        precision: in which they are computed, as it is noted.
        cache: where they are looked for first, and kept.
        kind: what is computed of the columns, for the cache.

    Warns:
        UserWarning: the model's weights cannot be told whole, so that nothing is looked for or kept.
    """
    notes = {"reference_precision": precision, "reference_model": policy.origin()}
    key = None
    if cache is not None:
        key = _reference_key(policy, rows, columns, batch_size, precision, kind)
    found = None if cache is None or key is None else cache.find(key)
    if found is None:
        pairs: NDArray[np.float64] = np.empty((len(rows), 2))
        for indices, batch in _batches(plain_rows(rows), lengths, batch_size, "reference"):
            pairs[indices] = reference_of(batch).double().cpu().numpy()
        if cache is not None and key is not None:
            found = cache.keep(key, pairs, notes)
    if is_table(rows):
        return joined(rows, _in_memory(pairs, notes) if found is None else found)
    values = pairs.tolist() if found is None else found["reference_log_probabilities"]
    return [{**row, "reference_log_probabilities": pair, **notes} for row, pair in zip(rows, values, strict=True)]


def _in_memory(pairs: NDArray[np.float64], notes: Mapping[str, str]) -> Any:
    from datasets import Dataset, Features

    return Dataset.from_dict(reference_columns(pairs, notes), features=Features(reference_features()))


def _reference_key(
    policy: Policy, rows: Any, columns: Sequence[str], batch_size: int, precision: str, kind: str
) -> dict[str, Any] | None:
    """All that references depend on; ``None`` where the model's weights cannot be told whole."""
    base = base_key(policy.conditioned.base_model)
    if base is None:
        warn(
            "the base model's weights cannot be told whole (spread, on no device, or of a kind of their own), so that "
            "the references are neither looked for nor kept on the disk."
        )
        return None
    return base | {
        "kind": kind,
        "precision": precision,
        "columns": list(columns),
        "rows": len(rows),
        "batch size": batch_size,
        "tokens": lists_digest(rows, columns),
    }
