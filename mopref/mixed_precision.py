"""The precision that a model runs in, said by one word: that of its autocast or, without one, of its parameters."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from mopref._tables import Chunk, rows_to_check

__all__ = [
    "autocast",
    "check_row_precision",
    "computed_dtype",
    "mixed_precision_in_force",
    "precision_name",
    "recorded_mixed_precision",
    "without_autocast",
]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, mixed_precision: str | None) -> AbstractContextManager[None]:
    """Within this block a model on ``device`` runs in mixed precision: ``None`` (or "no"), "bf16" or "fp16".

    Without mixed precision an autocast around it is switched off, so that the precision is what is said.

    Raises:
        ValueError: an unknown precision.
    """
    if mixed_precision not in (None, "no", *_DTYPES):
        raise ValueError(f"mixed_precision is {mixed_precision!r}: choose None, 'bf16' or 'fp16'.")
    dtype = _DTYPES.get(mixed_precision or "no")
    # No weight is kept in half precision from one use to the next: within an autocast of the caller's those of the
    # first step would be taken in all, and in older versions of PyTorch those of an evaluation have no gradient.
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False)


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Within this block no autocast of the caller's is in force on ``device``, but one that is begun in it.

    Not by an autocast that is off: one begun in it would keep its weights in half precision when it ends.
    """
    before = torch.is_autocast_enabled(device.type)
    torch.set_autocast_enabled(device.type, False)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device.type, before)


def mixed_precision_in_force(device: torch.device) -> str | None:
    """The mixed precision that a model on this device runs in here and now; ``None`` without one.

    Example:
        >>> with autocast(torch.device("cpu"), "bf16"):
        ...     mixed_precision_in_force(torch.device("cpu"))
        'bf16'
    """
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    return next((name for name, kind in _DTYPES.items() if kind == dtype), None)


def computed_dtype(values: torch.Tensor) -> torch.dtype:
    """The type that a model's outputs were computed in, here and now, and so what rounding they have.

    A forward that accelerate prepared gives numbers of mixed precision in float32.

    Example:
        >>> with autocast(torch.device("cpu"), "bf16"):
        ...     computed_dtype(torch.zeros(1))
        torch.bfloat16
    """
    mixed = _DTYPES.get(mixed_precision_in_force(values.device) or "no", values.dtype)
    return max(mixed, values.dtype, key=lambda dtype: torch.finfo(dtype).eps)


def precision_name(model: nn.Module, mixed_precision: str | None) -> str:
    """What the model's numbers are in: the mixed precision's name, or the type of its first floating-point parameter.

    Example:
        >>> precision_name(nn.Linear(1, 1), None), precision_name(nn.Linear(1, 1), "bf16")
        ('float32', 'bf16')
    """
    if mixed_precision in _DTYPES:
        return str(mixed_precision)
    dtypes = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return str(next(dtypes, torch.get_default_dtype())).removeprefix("torch.")


def recorded_mixed_precision(data: Sequence[Any], what: str) -> str | None:
    """The mixed precision in which the rows' numbers were computed before, by the first row; ``None`` without one.

    Example:
        >>> recorded_mixed_precision([{"reference_precision": "bf16"}], "reference")
        'bf16'
    """
    recorded = data[0].get(f"{what}_precision") if len(data) else None
    return recorded if recorded in _DTYPES else None


def check_row_precision(data: Sequence[Any], what: str, column: str, precision: str) -> None:
    """Refuse rows with numbers that were computed before in another precision than the model is to run in.

    A row says under ``<what>_precision`` which it was. One that does not is taken for one in the model's own.

    Args:
        data: rows.
        what: what was computed, such as "reference".
        column: where the numbers are; a row without them is not looked at.
        precision: what the model is to run in, as :func:`precision_name` says it.

    Raises:
        ValueError: the first such row, with both precisions.
    """

    def is_plain(chunk: Chunk) -> bool:
        noted = f"{what}_precision"
        return not chunk.has(column) or (chunk.has(noted) and chunk.is_everywhere(noted, precision))

    for index, row in rows_to_check(data, (f"{what}_precision", column), is_plain):
        own = row.get(f"{what}_precision", precision if precision not in _DTYPES else "no mixed precision")
        if column in row and own != precision:
            raise ValueError(
                f"row {index} has a {what} that was computed in {own}, but the model runs in {precision}, and the "
                f"difference would be taken for something learned: precompute the rows with mixed_precision="
                f"{(precision if precision in _DTYPES else None)!r}, or leave that to the training."
            )
