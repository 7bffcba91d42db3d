"""The fronts of several runs in one picture."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mopref import indicators
from mopref._arrays import Array, as_vector, named_array
from mopref.argument_kinds import checks_arguments
from mopref.front import Front
from mopref.plotting.parallel import draw_axes
from mopref.plotting.style import (
    DARK,
    POINT_SIZE,
    axis_label,
    check_front,
    interval_bars,
    line_looks,
    new_figure,
    save,
    shown_name,
    style,
)

__all__ = ["plot_comparison"]

# A reference point that would make an axis more than so many times as long is told in the legend only.
_FARTHEST = 2.0
_LONGEST_LABEL = 40


@checks_arguments
def plot_comparison(
    fronts: Mapping[str, Front],
    path: str | os.PathLike[str] | None = None,
    reference_point: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the fronts of several runs over each other, each in a colour, a marker and dashes of its own.

    Two objectives are a scatter plot: a thin line joins the points of a run in the order of their preferences, hollow
    points are dominated by another one of their own run, and intervals are thin bars. Three and more are parallel
    coordinates, a line for each point, thin and pale where it is dominated; intervals are not drawn there.

    Args:
        fronts: label to front, of the same objectives in the same directions, two or more of them.
        path: where to write the picture (.png, .pdf, .svg, …), or ``None``. Missing folders are made.
        reference_point: the hypervolume's reference point ``(m,)``; each label then tells its run's hypervolume. The
            point itself is drawn with two objectives, unless it is so far away that the runs could not be told apart.
        title: title of the picture.

    Raises:
        ValueError: no front, one of one objective, other objectives or directions than the first one's, a number that
            is not finite, a reference point of another length, or a path whose ending is no picture's.
    """
    first = _checked(fronts)
    point = None
    if reference_point is not None:
        named = named_array(reference_point, first.names, "reference_point")
        point = as_vector(named, len(first.names), "reference_point")
    labels = [_label(name, front, point) for name, front in fronts.items()]
    looks = line_looks(len(fronts))
    is_plane = len(first.names) == 2
    with style():
        columns = 1 if max(map(len, labels)) > _LONGEST_LABEL else 2
        # The legend takes from the picture's height, and must leave enough to the axes.
        height = 4.4 + 0.24 * (4 + len(labels) / columns)
        figure = new_figure(7.2 if is_plane else max(7.2, 1.5 * len(first.names) + 1.5), height)
        axes = figure.add_subplot()
        draw = _draw_plane if is_plane else _draw_parallel
        draw(axes, list(fronts.values()), labels, looks)
        if is_plane and point is not None and _is_near(list(fronts.values()), point):
            axes.scatter(
                point[0], point[1], marker="X", s=80, color=DARK, edgecolors="white", zorder=5, label="reference point"
            )
        numbers = None if point is None else ", ".join(f"{number:g}" for number in point)
        figure.legend(
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize="small",
            handlelength=3.5,
            title=None if numbers is None else f"hypervolumes under the reference point ({numbers})",
            title_fontsize="small",
        )
        if title is not None:
            axes.set_title(title, pad=12)
        save(figure, path)
    return figure


def _checked(fronts: Mapping[str, Front]) -> Front:
    """The first front, which all others compare with."""
    if not fronts:
        raise ValueError("fronts is empty: there is nothing to draw.")
    label, first = next(iter(fronts.items()))
    for other_label, front in fronts.items():
        check_front(front)
        if front.names != first.names or front.is_maximized() != first.is_maximized():
            raise ValueError(
                f"the objectives of {other_label!r} are {_told(front)}, and those of {label!r} {_told(first)}: fronts "
                "compare only on the same ones, in the same order and direction."
            )
    return first


def _told(front: Front) -> str:
    arrows = ["↑" if flag else "↓" for flag in front.is_maximized()]
    return ", ".join(f"{shown_name(name)} {arrow}" for name, arrow in zip(front.names, arrows, strict=True))


def _label(name: str, front: Front, reference_point: Array | None) -> str:
    name = shown_name(name)
    if reference_point is None:
        return name
    volume = indicators.hypervolume_with_method(front.values, reference_point, front.maximize)
    return f"{name}: {volume.value:.4g}{'' if volume.exact else ' (approximate)'}"


def _is_near(fronts: Sequence[Front], point: Array) -> bool:
    values = np.concatenate([front.values for front in fronts])
    size = np.ptp(values, axis=0)
    longer = np.ptp(np.vstack([values, point]), axis=0)
    return bool((longer <= _FARTHEST * size).all())


def _draw_plane(axes: Axes, fronts: Sequence[Front], labels: Sequence[str], looks: Sequence[dict[str, Any]]) -> None:
    has_dominated = False
    for front, label, look in zip(fronts, labels, looks, strict=True):
        color, marker = look["color"], look["marker"]
        order = np.argsort(front.preferences[:, 0], kind="stable")
        on_front = indicators.non_dominated(front.values, front.maximize)
        axes.plot(*front.values[order].T, color=color, linestyle=look["linestyle"], linewidth=1.0, alpha=0.7, zorder=2)
        bars = interval_bars(front)
        if len(bars.ends):
            axes.add_collection(LineCollection(list(bars.ends), colors=[color], linewidths=0.8, alpha=0.5, zorder=2.5))
        for mask, face, edge in ((on_front, color, "white"), (~on_front, "white", color)):
            points = front.values[mask]
            axes.scatter(
                points[:, 0], points[:, 1], marker=marker, s=POINT_SIZE, facecolors=[face], edgecolors=[edge], zorder=3
            )
        has_dominated |= bool((~on_front).any())
        axes.plot([], [], **look, linewidth=1.0, markeredgecolor="white", markersize=7, label=label)
    if has_dominated:
        hollow: dict[str, Any] = {"facecolors": "white", "edgecolors": DARK}
        axes.scatter([], [], marker="o", s=POINT_SIZE, label="dominated within its run", **hollow)
    known = [bars for bars in map(interval_bars, fronts) if len(bars.ends)]
    for text in dict.fromkeys(bars.key["label"] for bars in known):
        axes.scatter([], [], marker="+", color=DARK, s=3 * POINT_SIZE, linewidths=0.8, alpha=0.6, label=text)
    axes.set_xlabel(axis_label(fronts[0], 0))
    axes.set_ylabel(axis_label(fronts[0], 1))
    axes.margins(0.08)
    sns.despine(ax=axes)


def _draw_parallel(axes: Axes, fronts: Sequence[Front], labels: Sequence[str], looks: Sequence[dict[str, Any]]) -> None:
    values = np.concatenate([front.values for front in fronts])
    low, size = values.min(axis=0), np.ptp(values, axis=0)
    size[size == 0] = 1.0  # An objective in which all agree is a point of its axis.
    places = np.arange(len(low), dtype=float)
    for front, label, look in zip(fronts, labels, looks, strict=True):
        on_front = indicators.non_dominated(front.values, front.maximize)
        for values_of_point, is_on_front in zip(front.values, on_front.tolist(), strict=True):
            strength: dict[str, Any] = (
                {"linewidth": 1.6, "alpha": 0.85} if is_on_front else {"linewidth": 0.8, "alpha": 0.45}
            )
            heights = (values_of_point - low) / size
            axes.plot(places, heights, **look, **strength, markersize=7, markeredgecolor="white", zorder=3)
        axes.plot([], [], **look, linewidth=1.6, markeredgecolor="white", markersize=6, label=label)
    if not all(indicators.non_dominated(front.values, front.maximize).all() for front in fronts):
        axes.plot([], [], color=DARK, linewidth=0.8, alpha=0.45, label="dominated within its run")
    draw_axes(axes, fronts[0], low, size)
