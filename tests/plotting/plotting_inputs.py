"""Fronts that several tests of this folder draw, and what they read from a picture."""

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

from mopref.front import Front
from mopref.front.intervals import interval_columns


def front_of(objectives: int, points: int = 15, maximize: bool | tuple[bool, ...] = False, seed: int = 0) -> Front:
    """Random preferences with random values."""
    rng = np.random.default_rng(seed)
    names = ("helpful", "harmless", "humour", "brevity", "truth")[:objectives]
    return Front(rng.dirichlet(np.ones(objectives), points), rng.random((points, objectives)), names, maximize)


def with_intervals(front: Front, level: float | None = 0.9) -> Front:
    """The same front with an interval of every objective, 0.05 below and 0.1 above, but none at the first point."""
    extra = {}
    for objective, name in enumerate(front.names):
        values = front.values[:, objective]
        bounds = np.stack([values - 0.05, values + 0.1], axis=1)
        bounds[0] = np.nan
        extra |= interval_columns(name, bounds)
    metadata = {} if level is None else {"interval_level": level}
    return Front(front.preferences, front.values, front.names, front.maximize, extra, metadata)


def bars_of(axes: Any) -> Any:
    """The one collection of bars, which unlike lines of points are not coloured by a map."""
    (bars,) = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_zorder() == 2.5]
    return bars


def texts(axes: Any) -> list[str]:
    """What is written in a picture."""
    return [text.get_text() for text in axes.texts]


def scatters(axes: Any, three_dimensional: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Points and their colours' numbers, of every scatter plot that is coloured by λ."""
    colored = [c for c in axes.collections if c.get_array() is not None and not isinstance(c, LineCollection)]
    if three_dimensional:
        places = [np.stack(c._offsets3d, axis=1) for c in colored]
    else:
        places = [np.asarray(c.get_offsets()) for c in colored]
    return np.concatenate(places), np.concatenate([c.get_array() for c in colored])


def by_row(array: np.ndarray) -> np.ndarray:
    """The rows in lexicographic order."""
    return array[np.lexsort(array.T)]
