"""What must hold of a result whose input was taken."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.bad_input.outcomes import Nonsense

__all__ = ["finite", "finite_on_simplex", "on_simplex", "propagating", "whole"]

# Beyond these an overflow of float32 is the input's own doing.
_LARGE, _SMALL = 1e15, 1e-15


def _numbers(value: Any) -> list[float]:
    """Every number in a value, nested ones included."""
    if isinstance(value, torch.Tensor):
        if value.is_meta or value.is_complex():
            return []
        value = (value.detach().to_dense() if value.layout is not torch.strided else value.detach()).double().numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return [float(entry) for entry in value.reshape(-1)]
    if isinstance(value, int | float | np.number):
        if isinstance(value, int):
            # It may be beyond any float.
            return [float(max(min(value, 10**300), -(10**300)))]
        return [float(value)] if np.isreal(value) else []
    if isinstance(value, Mapping):
        return [number for entry in value.values() for number in _numbers(entry)]
    if isinstance(value, list | tuple):
        return [number for entry in value for number in _numbers(entry)]
    return []


def finite(result: Any, arguments: Mapping[str, Any]) -> None:
    """No NaN and no infinity comes of numbers that are finite, and none of those is taken for a number."""
    given = [number for value in arguments.values() for number in _numbers(value)]
    if any(math.isnan(number) for number in given):
        # Points and options that are not a number: to be refused, whatever the result looks like.
        raise Nonsense("NaN was taken")
    if all(math.isfinite(number) and (number == 0 or _SMALL < abs(number) < _LARGE) for number in given):
        if not all(map(math.isfinite, _numbers(result))):
            raise Nonsense(f"the result is {str(result)[:120]}")


def propagating(result: Any, arguments: Mapping[str, Any]) -> None:
    """The same, but NaN among the losses may come out as NaN: a formula shows it, a trainer refuses it before."""
    losses = arguments["losses"]
    if any(math.isnan(number) for number in _numbers(losses)):
        if not any(math.isnan(number) for number in _numbers(result)):
            raise Nonsense("NaN among the losses disappeared")
        arguments = {name: value for name, value in arguments.items() if name != "losses"}
        result = None
    finite(result, arguments)


def finite_on_simplex(result: Any, arguments: Mapping[str, Any]) -> None:
    """The same where the preferences are ones; a formula does not check that again at every step."""
    try:
        on_simplex(torch.atleast_2d(arguments["preferences"]), arguments)
    except Nonsense:
        return
    propagating(result, arguments)


def on_simplex(result: Any, arguments: Mapping[str, Any]) -> None:
    """Preferences ``(n, m)``: at least one, none negative, and each sums to 1."""
    rows = np.asarray(result.detach().double() if isinstance(result, torch.Tensor) else result, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise Nonsense(f"preferences of shape {rows.shape}")
    if not ((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) < 2e-2).all()):
        raise Nonsense(f"preferences off the simplex: {rows[:2].tolist()}")


def whole(*names: str) -> Any:
    """A check that attributes of the result are whole numbers by their type."""

    def check(result: Any, arguments: Mapping[str, Any]) -> None:
        for name in names:
            if type(getattr(result, name)) is not int:
                raise Nonsense(f"{name} became {getattr(result, name)!r}")

    return check
