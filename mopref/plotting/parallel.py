"""More than three objectives: a line for each point across parallel axes."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mopref import indicators
from mopref._arrays import Array
from mopref.front import Front
from mopref.plotting.style import DARK, GREY, add_color_bar, interval_bars, preference_colors, tick_label

__all__ = ["draw_axes", "draw_parallel"]

# How far from an axis lines with intervals cross it at most, where axes are 1 apart.
_FARTHEST_CROSSING = 0.12


def draw_parallel(figure: Figure, front: Front, true_points: Array | None, marks: dict[str, Array]) -> Axes:
    """Draw every point as a line across one axis an objective, each axis from its smallest to its largest number.

    Where points have intervals, their lines cross an axis side by side, in the order of λ, each through its own bars.
    """
    axes = figure.add_subplot()
    color_map, scale = preference_colors()
    points = np.vstack([front.values, *(mark[None] for mark in marks.values())])
    points = points if true_points is None else np.vstack([points, true_points])
    bars = interval_bars(front)
    points = np.vstack([points, *bars.ends])
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    size[size == 0] = 1.0  # An objective in which all agree is a point of its axis.

    places = np.arange(points.shape[1], dtype=float)
    crossings = places + np.zeros((len(front), 1))

    def lines(points: Array, places: Array = places) -> list[Array]:
        return list(np.stack(np.broadcast_arrays(places, (points - low) / size), axis=-1))

    if len(bars.ends):
        crossings += _sides(front.preferences[:, 0])[:, None]
        across = crossings[bars.rows, bars.objectives]
        heights = ((bars.ends - low) / size)[np.arange(len(across)), :, bars.objectives]
        axes.vlines(across, *heights.T, zorder=2.5, **bars.look)
        axes.scatter([], [], marker="|", **bars.key)
    if true_points is not None:
        axes.add_collection(LineCollection(lines(true_points), colors=GREY, linewidths=0.5, alpha=0.25, zorder=1))
    on_front = indicators.non_dominated(front.values, front.maximize)
    front_lines = LineCollection(
        lines(front.values, crossings), cmap=color_map, norm=scale, linewidths=1.6, alpha=0.9, zorder=3
    )
    front_lines.set_array(front.preferences[:, 0])
    front_lines.set_linestyle(["-" if flag else "--" for flag in on_front])
    axes.add_collection(front_lines)
    for index, (label, mark) in enumerate(marks.items()):
        line = lines(mark[None])[0]
        style = ["-", "--", "-.", ":"][index % 4]
        axes.plot(*line.T, color=DARK, linewidth=1.8, linestyle=style, marker="X", zorder=4, label=label)
    if marks or len(bars.ends):
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    draw_axes(axes, front, low, size)
    add_color_bar(figure, axes, front, pad=0.02)
    return axes


def draw_axes(axes: Axes, front: Front, low: Array, size: Array) -> None:
    """Draw parallel axes, an objective each, and name their lowest numbers ``(m,)`` and, so much above, their highest.

    What a front's values are drawn at is ``(values - low) / size``.
    """
    count = len(front.names)
    axes.set_xticks(range(count), [tick_label(front, objective) for objective in range(count)])
    axes.tick_params(axis="x", labelsize="small" if count <= 6 else "x-small")
    axes.set_xlim(-0.15, count - 0.85)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.grid(visible=False)
    for objective in range(count):
        axes.vlines(objective, 0, 1, color="0.8", linewidth=1, zorder=0)
        for height, number in ((0.0, low[objective]), (1.0, low[objective] + size[objective])):
            axes.annotate(
                f"{number:.4g}",
                (objective, height),
                xytext=(0, 4 if height else -4),
                textcoords="offset points",
                ha="center",
                va="bottom" if height else "top",
                fontsize="x-small",
                color=DARK,
            )
    sns.despine(ax=axes, left=True, bottom=True)


def _sides(weights: Array) -> Array:
    """Places side by side around an axis, ``(N,)``, in the order of the weights."""
    sides = np.linspace(-_FARTHEST_CROSSING, _FARTHEST_CROSSING, len(weights)) if len(weights) > 1 else np.zeros(1)
    return np.asarray(sides[np.argsort(np.argsort(weights, kind="stable"))])
