"""Two objectives: a scatter plot with labels that hide nothing."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from mopref._arrays import Array
from mopref.front import Front
from mopref.plotting.style import (
    DARK,
    GREY,
    POINT_SIZE,
    add_color_bar,
    axis_label,
    interval_bars,
    point_looks,
    preference_colors,
)

__all__ = ["draw_plane"]


def draw_plane(figure: Figure, front: Front, true_points: Array | None, marks: dict[str, Array]) -> Axes:
    """Draw a front of two objectives with its intervals, the known front as a line, and labelled marks."""
    axes = figure.add_subplot()
    color_map, scale = preference_colors()
    if true_points is not None:
        axes.plot(*_as_broken_line(true_points).T, color=GREY, linewidth=2.5, zorder=1, label="true front")
    order = np.argsort(front.preferences[:, 0], kind="stable")
    axes.plot(*front.values[order].T, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
    bars = interval_bars(front)
    if len(bars.ends):
        axes.add_collection(LineCollection(list(bars.ends), zorder=2.5, **bars.look))
        axes.scatter([], [], marker="+", **bars.key)
    for rows, look in point_looks(front):
        axes.scatter(
            front.values[rows, 0],
            front.values[rows, 1],
            c=front.preferences[rows, 0],
            cmap=color_map,
            norm=scale,
            s=POINT_SIZE,
            zorder=3,
            **look,
        )
        if look["marker"] != "o":
            axes.scatter([], [], s=POINT_SIZE, facecolors="none", label="dominated", **look)
    axes.set_xlabel(axis_label(front, 0))
    axes.set_ylabel(axis_label(front, 1))
    axes.margins(0.08)
    add_color_bar(figure, axes, front, pad=0.02)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize="small")
    sns.despine(ax=axes)
    for point in marks.values():
        axes.scatter(point[0], point[1], marker="X", s=80, color=DARK, edgecolors="white", linewidths=0.8, zorder=4)
    _label_without_overlap(figure, axes, marks)
    return axes


def _as_broken_line(points: Array) -> Array:
    """A two-dimensional front sorted along its first objective, with a NaN row where it has a gap (as ZDT3's has)."""
    line = points[np.lexsort(points.T[::-1])]
    size = np.maximum(np.ptp(line, axis=0), np.finfo(float).tiny)
    steps = np.linalg.norm(np.diff(line, axis=0) / size, axis=1)
    if len(steps) == 0:
        return line
    gaps = np.flatnonzero((steps > 0.04) & (steps > 10 * np.median(steps))) + 1
    return np.insert(line, gaps, np.nan, axis=0)


def _label_without_overlap(figure: Figure, axes: Axes, marks: dict[str, Array]) -> None:
    """Write each label next to its mark, on the side where it hides the least of the points, lines and other labels."""
    figure.draw_without_rendering()  # Places are known in pixels only once the layout is.
    bars = [collection for collection in axes.collections if isinstance(collection, LineCollection)]
    dots = [np.asarray(collection.get_offsets()) for collection in axes.collections if collection not in bars]
    lines = [_densely(np.asarray(line.get_xydata())) for line in axes.lines]
    lines += [_densely(np.asarray(segment)) for bar in bars for segment in bar.get_segments()]
    pixels = axes.transData.transform(np.vstack([*dots, *lines]))
    legend = axes.get_legend()
    obstacles = [axes.bbox] if legend is None else [axes.bbox, legend.get_window_extent()]
    for label, mark in marks.items():
        best: tuple[float, Annotation] | None = None
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            note = axes.annotate(
                label,
                mark.tolist(),
                xytext=(10 * across, 9 * up),
                textcoords="offset points",
                ha={1: "left", 0: "center", -1: "right"}[across],
                va={1: "bottom", 0: "center", -1: "top"}[up],
                fontsize="small",
                color=DARK,
                zorder=5,
            )
            badness = _badness(note.get_window_extent().padded(3), pixels, obstacles)
            if best is None or badness < best[0]:
                if best is not None:
                    best[1].remove()
                best = (badness, note)
            else:
                note.remove()
        assert best is not None
        obstacles.append(best[1].get_window_extent())


def _densely(line: Array) -> Array:
    """Points along the segments of a line, close enough that a label over the line covers some."""
    share = np.linspace(0, 1, 50, endpoint=False)[:, None, None]
    return np.asarray(line[:-1] + share * np.diff(line, axis=0)).reshape(-1, 2)


def _badness(box: Bbox, pixels: Array, obstacles: Sequence[Bbox]) -> float:
    """How much a label would hide: points and lines up to a bound, then other labels, and what is outside the axes."""
    frame, *others = obstacles
    inside = Bbox.intersection(box, frame)
    area = box.width * box.height
    outside = 1.0 if inside is None else 1 - inside.width * inside.height / area
    hidden = min(float(box.count_contains(pixels)), 40.0)
    return hidden + 100 * outside + 50 * sum(box.overlaps(other) for other in others)
