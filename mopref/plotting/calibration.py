"""From preference to value: does raising λ_i move objective i the way it should?"""

import os
from itertools import pairwise
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mopref._arrays import Array, as_points, signs
from mopref.argument_kinds import checks_arguments
from mopref.front import Front
from mopref.plotting.style import (
    DARK,
    POINT_SIZE,
    WARNING,
    axis_label,
    check_front,
    new_figure,
    save,
    shown_name,
    style,
)

__all__ = ["plot_calibration"]

# λ closer than this are the same λ: they are stored to about 1e-7 where they were float32.
_SAME = 1e-5
_DASHES = (0, (2, 0.8))


@checks_arguments
def plot_calibration(
    front: Front,
    path: str | os.PathLike[str] | None = None,
    best_values: ArrayLike | None = None,
    improves: bool | None = None,
    tolerance: float = 0.01,
    title: str | None = None,
) -> Figure:
    """Draw each objective's value against its own preference, and mark the steps that go the wrong way.

    A line joins points between which λ_i alone grows, that is, the other preferences keep their proportions: there an
    optimum's f_i cannot get worse where λ is the objectives' importance. With two objectives that is one line
    through all points. A step that goes the wrong way is thick and dashed, and the panel's title counts them. Points
    that have no such partner (random preferences over three objectives or more) stand alone.

    Args:
        front: what to draw, of two objectives or more.
        path: where to write the picture, or ``None``.
        best_values: what was reachable, ``(N, m)``, row i with the front's preference i; drawn underneath.
        improves: whether raising λ_i should improve objective i; as the front's convention says by default, by which a
            larger λ_i allows a larger loss where λ is a ray.
        tolerance: share of the objective's range below which a step counts as level.
        title: title of the picture.

    Raises:
        ValueError: a front of one objective, best values of another shape, or a negative tolerance.
    """
    check_front(front)
    if improves is None:
        improves = front.convention != "ray"
    best = None if best_values is None else as_points(best_values, "best_values")
    if best is not None and best.shape != front.values.shape:
        raise ValueError(
            f"best_values has shape {best.shape}, but the front {front.values.shape}: row i of both belongs to the "
            "same preference, so give one row for each."
        )
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}: it is a share of the objective's range, so it must be ≥ 0.")
    count = len(front.names)
    columns = 2 if count in (2, 4) else 3
    rows = -(-count // columns)
    with style():
        figure = new_figure(3.7 * columns, 3.3 * rows + 0.4)
        for objective in range(count):
            axes = figure.add_subplot(rows, columns, objective + 1)
            _draw_panel(axes, front, objective, best, improves, tolerance)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize="small", handlelength=3
        )
        if title is not None:
            figure.suptitle(title)
        save(figure, path)
    return figure


def _draw_panel(axes: Axes, front: Front, objective: int, best: Array | None, improves: bool, tolerance: float) -> None:
    """Draw one objective's values over its own preference, with the steps between them."""
    is_plane = len(front.names) == 2
    steps = _steps(front.preferences, objective)
    wrong = _wrong_steps(front, objective, steps, improves, tolerance)
    places = np.stack([front.preferences[:, objective], front.values[:, objective]], axis=1)
    # Many lines over one another, as three objectives have, must not hide the points.
    thin = "0.5" if is_plane else "0.85"
    axes.add_collection(LineCollection(list(places[steps]), colors=thin, linewidths=0.8, zorder=2))
    if best is not None:
        places_of_best = np.stack([front.preferences[:, objective], best[:, objective]], axis=1)
        _draw_best(axes, places_of_best, steps if is_plane else steps[:0])
    blue = sns.color_palette("colorblind")[0]
    look: dict[str, Any] = {"color": blue, "edgecolors": "white", "linewidths": 0.6}
    axes.scatter(places[:, 0], places[:, 1], s=0.6 * POINT_SIZE, zorder=5, label="reached", **look)
    wrong_way = "worse although λ rose" if improves else "better although λ rose"
    _draw_wrong_steps(axes, places[steps[wrong]], wrong_way)
    axes.set_xlim(-0.04, 1.04)
    axes.margins(y=0.08)
    axes.autoscale_view(scalex=False)
    axes.set_xlabel(f"λ {shown_name(front.names[objective])}")
    axes.set_ylabel(axis_label(front, objective))
    verdict = f"{wrong.sum()} of {len(steps)} steps {wrong_way.split()[0]}" if len(steps) else "no comparable λ"
    axes.set_title(verdict, fontsize="medium")
    sns.despine(ax=axes)


def _steps(preferences: Array, objective: int) -> NDArray[np.intp]:
    """Pairs of rows ``(s, 2)`` between which λ_i alone grows, neighbours among all that can be compared so."""
    weights = preferences[:, objective]
    others = np.delete(preferences, objective, axis=1)
    total = others.sum(axis=1, keepdims=True)
    corner = np.flatnonzero(total[:, 0] <= _SAME)
    rest = np.flatnonzero(total[:, 0] > _SAME)
    proportions = others[rest] / total[rest]
    rays: list[NDArray[np.intp]] = []
    while len(rest):
        same = (np.abs(proportions - proportions[0]) <= _SAME).all(axis=1)
        rays.append(rest[same])
        rest, proportions = rest[~same], proportions[~same]
    pairs: list[tuple[int, int]] = []
    for ray in rays:
        # Every ray ends in the corner.
        along = np.concatenate([ray, corner])
        order = along[np.argsort(weights[along], kind="stable")].tolist()
        pairs += [(a, b) for a, b in pairwise(order) if weights[b] - weights[a] > _SAME]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def _wrong_steps(
    front: Front, objective: int, steps: NDArray[np.intp], improves: bool, tolerance: float
) -> NDArray[np.bool_]:
    """Which steps move the objective against what the growing preference asks for."""
    losses = front.values[:, objective] * signs(front.maximize, len(front.names))[objective]
    change = np.diff(losses[steps], axis=1)[:, 0] * (1 if improves else -1)
    return np.asarray(change > tolerance * np.ptp(losses))


def _draw_best(axes: Axes, places: Array, steps: NDArray[np.intp]) -> None:
    axes.add_collection(LineCollection(list(places[steps]), colors="0.8", linewidths=2.4, zorder=1))
    look: dict[str, Any] = {"marker": "D", "facecolors": "none", "edgecolors": DARK, "linewidths": 0.8}
    axes.scatter(places[:, 0], places[:, 1], s=0.6 * POINT_SIZE, zorder=3, label="best reachable", **look)


def _draw_wrong_steps(axes: Axes, ends: Array, label: str) -> None:
    """Draw steps ``(s, 2, 2)`` thick and dashed, with a cross where each arrives; the legend shows both."""
    axes.add_collection(LineCollection(list(ends), colors=WARNING, linewidths=2.4, linestyles=_DASHES, zorder=4))
    axes.scatter(ends[:, 1, 0], ends[:, 1, 1], marker="x", s=1.4 * POINT_SIZE, color=WARNING, linewidths=1.6, zorder=6)
    axes.plot([], [], color=WARNING, linewidth=2.4, linestyle=_DASHES, marker="x", markeredgewidth=1.6, label=label)
