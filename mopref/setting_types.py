"""Settings as values of Python's own types, whichever library they come from: one check for every option."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from mopref._repr import short_repr

__all__ = [
    "check_numbers",
    "checked_count",
    "checked_numpy_seed",
    "checked_seed",
    "python_value",
    "python_values",
    "set_python_values",
]

_WANTED = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
_WANTED_LISTS = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of texts"}
# What PyTorch's generators can be seeded with.
_SEEDS = range(-(2**63), 2**64)
# 16 GiB in float64.
_MOST_NUMBERS = 2**31


def python_value(value: Any, kind: type, name: str) -> Any:
    """A setting as ``kind``: int, float, bool or str, from Python's, NumPy's or a single tensor's value.

    A bool is no number here, a text none either, and a number with a point no whole one: such slips are told.

    Raises:
        TypeError: a value of another type; ``name`` names it.
        ValueError: a whole number too large for the number that is wanted.

    Example:
        >>> import numpy as np
        >>> python_value(np.int64(4), int, "steps"), python_value(1, float, "learning_rate")
        (4, 1.0)
    """
    # A single number of an array or a tensor; one on the meta device has none.
    is_single = getattr(value, "ndim", None) == 0 and hasattr(value, "item") and not getattr(value, "is_meta", False)
    plain = value.item() if is_single else value
    numeric = {int: Integral, float: Real}.get(kind)
    if not isinstance(plain, kind if numeric is None else numeric) or isinstance(plain, bool) != (kind is bool):
        raise TypeError(f"{name} is {short_repr(value)}, of type {type(value).__name__}: give {_WANTED[kind]}.")
    try:
        return kind(plain)
    except OverflowError:
        raise ValueError(f"{name} is too large for a floating-point number: give one below 1e308.") from None


def python_values(values: Any, kind: type, name: str) -> tuple[Any, ...]:
    """Settings as a tuple of ``kind``, each as :func:`python_value` makes it.

    Raises:
        TypeError: a single value where a list is meant, a text or a dict, or an entry of another type.

    Example:
        >>> python_values([0, -1], int, "layers")
        (0, -1)
    """
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping) or getattr(values, "ndim", 1) == 0:
        wanted = _WANTED_LISTS[kind]
        raise TypeError(f"{name} is {short_repr(values)}, of type {type(values).__name__}: give {wanted}.")
    return tuple(python_value(value, kind, f"{name}[{index}]") for index, value in enumerate(values))


def set_python_values(settings: object, kind: type, *names: str) -> None:
    """Make these fields of settings that are just being made, and may be frozen, values of ``kind``.

    Raises:
        TypeError: a field of another type, named.
    """
    for name in names:
        object.__setattr__(settings, name, python_value(getattr(settings, name), kind, name))


def checked_count(count: Any, name: str) -> int:
    """A number of things as an int, 1 at least.

    Raises:
        ValueError: a number below 1.
        TypeError: no whole number.

    Example:
        >>> checked_count(4.5, "batch_size")
        Traceback (most recent call last):
        TypeError: batch_size is 4.5, of type float: give a whole number.
    """
    number: int = python_value(count, int, name)
    if number < 1:
        raise ValueError(f"{name} is {number}: it must be at least 1.")
    return number


def checked_seed(seed: Any, name: str = "seed") -> int:
    """A seed of PyTorch's generators.

    Raises:
        TypeError: no whole number.
        ValueError: one that is out of their range.
    """
    value: int = python_value(seed, int, name)
    if value not in _SEEDS:
        raise ValueError(f"{name} is {value}: it must be at least −2⁶³ and less than 2⁶⁴.")
    return value


def checked_numpy_seed(seed: Any, name: str = "seed") -> int:
    """A seed of NumPy's generators.

    Raises:
        TypeError: no whole number.
        ValueError: a negative one.
    """
    value: int = python_value(seed, int, name)
    if value < 0:
        raise ValueError(f"{name} is {value}: it must be ≥ 0.")
    return value


def check_numbers(counts: Mapping[str, int]) -> None:
    """Refuse an array of more than 2³¹ numbers before anything is allocated or counted through.

    Args:
        counts: the sizes that are multiplied, by their names.

    Raises:
        ValueError: too many; the sizes are named.

    Example:
        >>> check_numbers({"n": 10**30, "objectives": 2})
        Traceback (most recent call last):
        ValueError: n is 10^30 and objectives 2: that is more than 2^31 numbers, too many to hold, so ask for less.
    """
    product = 1
    for count in counts.values():
        product *= count
    if product > _MOST_NUMBERS:
        sizes = " and ".join(
            f"{name} {'is ' if place == 0 else ''}{_size(n)}" for place, (name, n) in enumerate(counts.items())
        )
        raise ValueError(f"{sizes}: that is more than 2^31 numbers, too many to hold, so ask for less.")


def _size(count: int) -> str:
    """A number for a message, which may have thousands of digits."""
    digits = int(math.log10(count)) if count > 0 else 0
    return str(count) if digits < 20 else f"10^{digits}"
