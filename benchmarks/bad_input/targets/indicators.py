"""Indicators of fronts."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.bad_input.target import Target, options_of
from benchmarks.bad_input.targets.checks import finite
from mopref import indicators
from mopref.scalarizers import Tchebycheff

__all__ = ["TARGETS"]

_GROUP = "indicators"


def _points() -> np.ndarray[Any, Any]:
    return np.array([[0.0, 1.0], [0.5, 0.4], [1.0, 0.0]])


def _weights() -> np.ndarray[Any, Any]:
    return np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])


_RIGHT = {
    "values": _points,
    "others": lambda: _points() + 0.1,
    "front": lambda: _points() - 0.1,
    "fronts": lambda: [_points(), _points() + 0.1],
    "reference_point": lambda: [2.0, 2.0],
    "directions": _weights,
    "ideal_point": lambda: np.array([-0.1, -0.1]),
    "preferences": _weights,
    "scalarizer": lambda: Tchebycheff([-0.1, -0.1]),
    "scalarized": lambda: np.array([[0.0, 1.0, 1.0], [1.0, 0.5, 1.0], [1.0, 1.0, 0.0]]),
}


def _right(function: Any) -> dict[str, Any]:
    import inspect

    needed = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    return options_of(function, **{name: _RIGHT[name]() for name in needed})


def _finite_unless_single(result: Any, arguments: Mapping[str, Any]) -> None:
    """Where one point alone is not dominated there is no gap to measure, which is documented as NaN."""
    count = int(indicators.non_dominated(arguments["values"], arguments["maximize"]).sum())
    finite(0.0 if count < 2 and math.isnan(result) else result, arguments)


TARGETS = [
    Target(
        f"mopref.indicators.{name}",
        _GROUP,
        getattr(indicators, name),
        lambda name=name: _right(getattr(indicators, name)),
        _finite_unless_single if name == "sparsity" else finite,
        covers=("mopref.indicators.PreferenceRegret", "mopref.indicators.HypervolumeResult"),
    )
    for name in indicators.__all__
    if not isinstance(getattr(indicators, name), type)
]
