"""What every function of points starts with: float64 copies of the right shape, or an error that says why."""

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref._labels import check_labels, column_of, refuse_labels
from mopref._repr import short_repr

Array = NDArray[np.float64]
Maximize = bool | Sequence[bool] | NDArray[np.bool_]


def real_array(values: Any, what: str) -> Array:
    """A new float64 array of the numbers of an array-like, which may be a torch tensor.

    Raises:
        ValueError: ``values`` is not made of real numbers, not rectangular, without an order, or with labels that say
            another order than that of the objectives; ``what`` names it.
    """
    refuse_labels(values, what)
    if isinstance(values, Set | Iterator):
        reason = "a set has no order" if isinstance(values, Set) else "an iterator can be read only once"
        raise _no_real_array(what, reason)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise _no_real_array(what, "some of its entries are masked")
    if hasattr(values, "detach"):
        refuse_tensor_without_numbers(values, what)
        # A tensor may need a gradient, live on a device, or be bfloat16, which numpy does not know.
        values = values.detach().cpu().double().numpy()
    try:
        original = np.asarray(values)
        array = None if np.iscomplexobj(original) else np.array(values, dtype=np.float64)
    # RuntimeError: a list of tensors that need a gradient; OverflowError: a whole number beyond 1e308.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise _no_real_array(what, str(error)) from error
    if array is None:
        raise _no_real_array(what, "the numbers are complex")
    # NumPy makes numbers of texts such as "0.5", and of dates.
    if original.dtype.kind not in "biufO" or any(isinstance(entry, str | bytes) for entry in _objects(original)):
        raise _no_real_array(what, f"its entries are of type {original.dtype}, such as {original.flat[0]!r}")
    return array


def named_array(values: Any, names: Sequence[str], what: str) -> Array:
    """The same as :func:`real_array`, and by name in the order of ``names`` where the numbers or columns have labels.

    Raises:
        ValueError: also labels that are not just the names.

    Example:
        >>> named_array({"harmless": 3.0, "helpful": 2.0}, ("helpful", "harmless"), "reference_point")
        array([2., 3.])
    """
    if check_labels(values, names, f"the {what}", "a number"):
        columns = [real_array(column_of(values, name), f"{name} of {what}") for name in names]
        if len({column.shape for column in columns}) > 1:
            raise _no_real_array(what, "its columns differ in length")
        if not columns:
            raise _no_real_array(what, "it is empty")
        return np.stack(columns, axis=-1)
    rows = values if isinstance(values, list | tuple) else ()
    if any(check_labels(row, names, f"a row of {what}", "a number") for row in rows):
        return real_array([named_array(row, names, f"a row of {what}") for row in rows], what)
    return real_array(values, what)


def refuse_tensor_without_numbers(values: Any, what: str) -> None:
    """Refuse tensors that cannot be read as rows of real numbers: complex, sparse, nested or on the meta device.

    Raises:
        ValueError: such a tensor.
    """
    if values.is_complex():
        raise ValueError(f"{what} is {values.dtype}: real numbers are needed, so give its real part.")
    if values.is_meta:
        raise ValueError(f"{what} is a tensor on the meta device, which holds no numbers: give one on the CPU.")
    if values.is_nested or str(values.layout) != "torch.strided" or values.is_quantized:
        raise ValueError(f"{what} is a sparse, nested or quantised tensor: give a dense one, as .to_dense() makes it.")


def _objects(array: NDArray[Any]) -> Iterable[Any]:
    return array.flat if array.dtype == object else ()


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
        ValueError: ``maximize`` is no bool, has labels, or holds another number of bools than there are objectives.
    """
    refuse_labels(maximize, "maximize")
    if hasattr(maximize, "detach"):
        refuse_tensor_without_numbers(maximize, "maximize")
        maximize = maximize.detach().cpu().numpy()
    try:
        flags = np.asarray(maximize)
    except (ValueError, TypeError, RuntimeError):  # Lists of several lengths, or of tensors without numbers.
        flags = np.asarray(None)
    if flags.dtype != np.bool_:
        raise ValueError(f"maximize is {short_repr(maximize)}: give one bool for all objectives, or one for each.")
    if flags.ndim > 1 or (flags.ndim == 1 and len(flags) != number_of_objectives):
        raise ValueError(
            f"maximize has shape {flags.shape}, but there are {number_of_objectives} objectives: "
            f"give one bool, or {number_of_objectives} of them."
        )
    return np.where(np.broadcast_to(flags, (number_of_objectives,)), -1.0, 1.0)
