"""Settings as values of Python's own types, whichever library they come from."""

from numbers import Integral, Real
from typing import Any

__all__ = ["python_value"]

_WANTED = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def python_value(value: Any, kind: type, name: str) -> Any:
    """A setting as ``kind``: int, float, bool or str, from Python's, NumPy's or a single tensor's value.

    A bool is no number here, a text none either, and a number with a point no whole one: such slips are told.

    Raises:
        TypeError: a value of another type; ``name`` names it.

    Example:
        >>> import numpy as np
        >>> python_value(np.int64(4), int, "steps"), python_value(1, float, "learning_rate")
        (4, 1.0)
    """
    # A single number of an array or a tensor.
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    numeric = {int: Integral, float: Real}.get(kind)
    if isinstance(plain, kind if numeric is None else numeric) and isinstance(plain, bool) == (kind is bool):
        return kind(plain)
    raise TypeError(f"{name} is {value!r}, of type {type(value).__name__}: give {_WANTED[kind]}.")
