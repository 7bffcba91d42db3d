"""What every function of points starts with: float64 copies of the right shape, or an error that says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Maximize = bool | Sequence[bool] | NDArray[np.bool_]


def as_float64(values: Any, what: str) -> Array:
    """Copy an array-like, including a torch tensor, to a new float64 array of finite numbers.

    Raises:
        ValueError: ``values`` is not made of numbers, or one of them is NaN or infinite; ``what`` names it.
    """
    if hasattr(values, "detach"):
        # A tensor may need a gradient, live on a device, or be bfloat16, which numpy does not know.
        values = values.detach().cpu().double().numpy()
    try:
        if np.iscomplexobj(values):
            raise TypeError("the numbers are complex")
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a list of tensors that need a gradient
        raise ValueError(f"{what} must be a rectangular array of real numbers, but: {error}") from error
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f"row {index[0]}, column {index[1]}" if array.ndim == 2 else f"index {', '.join(map(str, index))}"
        raise ValueError(
            f"{what} has {array[index]} at {place}, which cannot be compared with anything. "
            "Find out why it diverged, or remove that point yourself and say so."
        )
    return array


def as_points(values: Any, what: str = "values", allow_empty: bool = False) -> Array:
    """Check and copy ``(N, m)`` points to a new float64 array."""
    array = as_float64(values, what)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{what} must have shape (N, m), one row a point and one column an objective, but got shape {array.shape}. "
            "Write a single point as [[...]]."
        )
    if len(array) == 0 and not allow_empty:
        raise ValueError(f"{what} is empty (shape {array.shape}); at least one point is needed.")
    return array


def signs(maximize: Maximize, number_of_objectives: int) -> Array:
    """Return ``(m,)`` factors that turn values into minimised ones: −1 where ``maximize``, else 1."""
    flags = np.asarray(maximize)
    if flags.dtype != np.bool_:
        raise ValueError(f"maximize must be a bool, or one bool per objective, but got {maximize!r}.")
    if flags.ndim > 1 or (flags.ndim == 1 and len(flags) != number_of_objectives):
        raise ValueError(
            f"maximize has shape {flags.shape}, but there are {number_of_objectives} objectives: "
            f"give one bool, or {number_of_objectives} of them."
        )
    return np.where(np.broadcast_to(flags, (number_of_objectives,)), -1.0, 1.0)


def as_vector(values: Any, length: int, what: str) -> Array:
    """Check and copy ``(length,)`` numbers, one per objective, to a new float64 array."""
    array = as_float64(values, what)
    if array.shape != (length,):
        raise ValueError(f"{what} must have shape ({length},), one number per objective, but got shape {array.shape}.")
    return array
