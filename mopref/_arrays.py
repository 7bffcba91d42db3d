"""What every function of points starts with: float64 copies of the right shape, or an error that says why."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Maximize = bool | Sequence[bool] | NDArray[np.bool_]


def real_array(values: Any, what: str) -> Array:
    """A new float64 array of the numbers of an array-like, which may be a torch tensor.

    Raises:
        ValueError: ``values`` is not made of real numbers, or not rectangular; ``what`` names it.
    """
    if hasattr(values, "detach"):
        # A tensor may need a gradient, live on a device, or be bfloat16, which numpy does not know.
        values = values.detach().cpu().double().numpy()
    try:
        array = None if np.iscomplexobj(values) else np.array(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a list of tensors that need a gradient
        raise _no_real_array(what, str(error)) from error
    if array is None:
        raise _no_real_array(what, "the numbers are complex")
    return array


def _no_real_array(what: str, reason: str) -> ValueError:
    return ValueError(
        f"{what} is no rectangular array of real numbers ({reason}): give numbers, in lists of equal length."
    )


def as_float64(values: Any, what: str) -> Array:
    """A new float64 array of the finite numbers of an array-like, which may be a torch tensor.

    Raises:
        ValueError: ``values`` is not made of numbers, or one of them is NaN or infinite; ``what`` names it.
    """
    array = real_array(values, what)
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f"row {index[0]}, column {index[1]}" if array.ndim == 2 else f"index {', '.join(map(str, index))}"
        raise ValueError(
            f"{what} has {array[index]} at {place}, which cannot be compared with anything: find out why it diverged, "
            "or remove that point yourself and say so."
        )
    return array


def as_points(values: Any, what: str = "values", allow_empty: bool = False) -> Array:
    """Points ``(N, m)`` in a new float64 array.

    Raises:
        ValueError: another shape, no point where one is needed, or a number that is not finite.
    """
    array = as_float64(values, what)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{what} has shape {array.shape}: it must be (N, m), one row a point and one column an objective, so write "
            "a single point as [[...]]."
        )
    if len(array) == 0 and not allow_empty:
        raise ValueError(f"{what} is empty (shape {array.shape}): at least one point is needed.")
    return array


def as_vector(values: Any, length: int, what: str) -> Array:
    """Numbers ``(length,)``, one per objective, in a new float64 array.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    array = as_float64(values, what)
    if array.shape != (length,):
        raise ValueError(f"{what} has shape {array.shape}: it must be ({length},), one number per objective.")
    return array


def signs(maximize: Maximize, number_of_objectives: int) -> Array:
    """Factors ``(m,)`` that turn values into minimised ones: −1 where ``maximize``, else 1.

    Raises:
        ValueError: ``maximize`` is no bool, or holds another number of bools than there are objectives.
    """
    flags = np.asarray(maximize)
    if flags.dtype != np.bool_:
        raise ValueError(f"maximize is {maximize!r}: give one bool for all objectives, or one for each.")
    if flags.ndim > 1 or (flags.ndim == 1 and len(flags) != number_of_objectives):
        raise ValueError(
            f"maximize has shape {flags.shape}, but there are {number_of_objectives} objectives: "
            f"give one bool, or {number_of_objectives} of them."
        )
    return np.where(np.broadcast_to(flags, (number_of_objectives,)), -1.0, 1.0)
