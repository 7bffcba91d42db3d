"""Pictures of fronts and of training, drawn with seaborn's style on figures of their own.

No figure is registered with pyplot, so nothing needs closing and no window opens: a function returns the
:class:`matplotlib.figure.Figure`, and writes it where a path is given. **Every point of a front is drawn.**
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from mopref import indicators
from mopref._arrays import Array, as_points, as_vector

if TYPE_CHECKING:
    from mopref.front import Front

__all__ = ["plot_front", "plot_training"]

_DOTS_PER_INCH = 150
_GREY = "0.6"
_DARK = "0.25"
_POINT_SIZE = 46


def plot_front(
    front: Front,
    path: str | os.PathLike[str] | None = None,
    true_front: ArrayLike | None = None,
    reference_values: Mapping[str, ArrayLike] | None = None,
    reference_point: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a front: two objectives as a scatter plot, three in 3-D, more as parallel coordinates.

    The colour is the first objective's preference. Dominated points have a dark edge (a dashed line in parallel
    coordinates). With two objectives, a thin line joins the points in the order of their preferences: where it turns
    back, a preference did not get what it asked for.

    Args:
        front: What to draw, of two objectives or more.
        path: Where to write the picture (.png, .pdf, .svg, …), or None. Missing folders are made.
        true_front: Points of the known front ``(K, m)``, drawn in grey underneath.
        reference_values: Label to values ``(m,)``, such as ``{"base model": [0.7, 0.7]}``.
        reference_point: The hypervolume's reference point ``(m,)``; drawn, and named together with the hypervolume.
        title: Title of the picture.
    """
    number_of_objectives = len(front.names)
    if number_of_objectives < 2:
        raise ValueError(f"A front of one objective ({front.names[0]}) has no trade-off to draw.")
    known = None if true_front is None else as_points(true_front, "true_front")
    if known is not None and known.shape[1] != number_of_objectives:
        raise ValueError(f"true_front has shape {known.shape}, but the front has {number_of_objectives} objectives.")
    marks = {
        label: as_vector(point, number_of_objectives, f"reference_values[{label!r}]")
        for label, point in (reference_values or {}).items()
    }
    if reference_point is not None:
        volume = indicators.hypervolume_with_method(front.values, reference_point, front.maximize)
        label = f"reference point\n(hypervolume {volume.value:.4g}{'' if volume.exact else ', approximate'})"
        marks[label] = as_vector(reference_point, number_of_objectives, "reference_point")
    with _style():
        size = (7.6, 6.2) if number_of_objectives == 3 else (7.2, 5.2)
        figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
        draw = {2: _draw_plane, 3: _draw_space}.get(number_of_objectives, _draw_parallel)
        axes = draw(figure, front, known, marks)
        if title is not None:
            axes.set_title(title, pad=12)
        _save(figure, path)
    return figure


def plot_training(
    history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str] | None = None, title: str | None = None
) -> Figure:
    """Draw each objective's loss over the steps.

    Args:
        history: Log records such as ``{"step": 10, "loss/helpful": 0.69}``. A record without a step or without any
            ``loss/…`` is about something else and left out; a loss that is not finite leaves a gap.
        path: Where to write the picture, or None.
        title: Title of the picture.
    """
    prefix = "loss/"
    records = [record for record in history if "step" in record and any(key.startswith(prefix) for key in record)]
    names = list(dict.fromkeys(key for record in records for key in record if key.startswith(prefix)))
    if not records:
        raise ValueError(f"None of the {len(history)} records has both 'step' and a 'loss/<name>'; nothing to draw.")
    with _style():
        figure = Figure(figsize=(7.2, 4.2), dpi=_DOTS_PER_INCH, layout="constrained")
        axes = figure.add_subplot()
        for name, color in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
            logged = [record for record in records if name in record]
            losses = np.array([float(record[name]) for record in logged])
            losses[~np.isfinite(losses)] = np.nan
            # A single record has no line; its marker shows it.
            axes.plot(
                [float(record["step"]) for record in logged],
                losses,
                color=color,
                label=name.removeprefix(prefix),
                marker="o" if len(logged) == 1 else None,
            )
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(frameon=False)
        sns.despine(ax=axes)
        if title is not None:
            axes.set_title(title, pad=12)
        _save(figure, path)
    return figure


@contextmanager
def _style() -> Iterator[None]:
    """Set seaborn's style for what is drawn inside, and leave matplotlib's settings as they were."""
    looks = {**sns.axes_style("whitegrid"), **sns.plotting_context("notebook"), "grid.color": "0.92"}
    # Text in a vector picture stays text.
    with mpl.rc_context({**looks, "pdf.fonttype": 42, "svg.fonttype": "none"}):
        yield


def _save(figure: Figure, path: str | os.PathLike[str] | None) -> None:
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=_DOTS_PER_INCH)


def _colors() -> tuple[Colormap, Normalize]:
    """Return the map and the fixed scale 0 … 1 of λ, so that pictures of different fronts compare."""
    # The palest end of the map would vanish on white.
    return sns.blend_palette(sns.color_palette("viridis", 64)[:58], as_cmap=True), Normalize(0.0, 1.0)


def _add_color_bar(figure: Figure, axes: Axes, front: Front, pad: float) -> None:
    color_map, scale = _colors()
    bar = figure.colorbar(mpl.cm.ScalarMappable(scale, color_map), ax=axes, pad=pad, aspect=30, shrink=0.9)
    bar.set_label(f"λ {front.names[0]}")
    bar.outline.set_visible(False)  # type: ignore[operator]


def _axis_label(front: Front, objective: int) -> str:
    name = front.names[objective]
    return f"{name} (higher is better) →" if front.is_maximized()[objective] else f"← {name} (lower is better)"


def _edges(front: Front) -> tuple[list[str], list[float]]:
    """Return each point's edge colour and width: dark where another point dominates it."""
    kept = indicators.non_dominated(front.values, front.maximize)
    return ["white" if flag else "black" for flag in kept], [0.8 if flag else 1.6 for flag in kept]


def _draw_plane(figure: Figure, front: Front, known: Array | None, marks: dict[str, Array]) -> Axes:
    axes = figure.add_subplot()
    color_map, scale = _colors()
    if known is not None:
        axes.plot(*_as_broken_line(known).T, color=_GREY, linewidth=2.5, zorder=1, label="true front")
    order = np.argsort(front.preferences[:, 0], kind="stable")
    axes.plot(*front.values[order].T, color=_GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
    edge_colors, edge_widths = _edges(front)
    axes.scatter(
        front.values[:, 0],
        front.values[:, 1],
        c=front.preferences[:, 0],
        cmap=color_map,
        norm=scale,
        s=_POINT_SIZE,
        edgecolors=edge_colors,
        linewidths=edge_widths,
        zorder=3,
    )
    if "black" in edge_colors:
        axes.scatter([], [], s=_POINT_SIZE, facecolors="none", edgecolors="black", linewidths=1.6, label="dominated")
    axes.set_xlabel(_axis_label(front, 0))
    axes.set_ylabel(_axis_label(front, 1))
    axes.margins(0.08)
    _add_color_bar(figure, axes, front, pad=0.02)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize="small")
    sns.despine(ax=axes)
    for point in marks.values():
        axes.scatter(point[0], point[1], marker="X", s=80, color=_DARK, edgecolors="white", linewidths=0.8, zorder=4)
    _label_without_overlap(figure, axes, marks)
    return axes


def _as_broken_line(points: Array) -> Array:
    """Sort a two-dimensional front along its first objective, with a NaN row where it has a gap (as ZDT3's has)."""
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
    scattered = [np.asarray(collection.get_offsets()) for collection in axes.collections]
    lines = [_densely(np.asarray(line.get_xydata())) for line in axes.lines]
    pixels = axes.transData.transform(np.vstack([*scattered, *lines]))
    legend = axes.get_legend()
    taken = [axes.bbox] if legend is None else [axes.bbox, legend.get_window_extent()]
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
                color=_DARK,
                zorder=5,
            )
            badness = _badness(note.get_window_extent().padded(3), pixels, taken)
            if best is None or badness < best[0]:
                if best is not None:
                    best[1].remove()
                best = (badness, note)
            else:
                note.remove()
        assert best is not None
        taken.append(best[1].get_window_extent())


def _densely(line: Array) -> Array:
    """Return points along the segments of a line, close enough that a label over the line covers some."""
    share = np.linspace(0, 1, 50, endpoint=False)[:, None, None]
    return np.asarray(line[:-1] + share * np.diff(line, axis=0)).reshape(-1, 2)


def _badness(box: Bbox, pixels: Array, taken: Sequence[Bbox]) -> float:
    """Say what a label would hide: points and lines up to a bound, then other labels, and what is outside the axes."""
    frame, *others = taken
    inside = Bbox.intersection(box, frame)
    area = box.width * box.height
    outside = 1.0 if inside is None else 1 - inside.width * inside.height / area
    hidden = min(float(box.count_contains(pixels)), 40.0)
    return hidden + 100 * outside + 50 * sum(box.overlaps(other) for other in others)


def _draw_space(figure: Figure, front: Front, known: Array | None, marks: dict[str, Array]) -> Axes:
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    color_map, scale = _colors()
    if known is not None:
        axes.scatter(*known.T, color=_GREY, s=5, alpha=0.35, depthshade=False, linewidths=0, zorder=1)
    edge_colors, edge_widths = _edges(front)
    axes.scatter(
        *front.values.T,
        c=front.preferences[:, 0],
        cmap=color_map,
        norm=scale,
        s=_POINT_SIZE,
        edgecolors=edge_colors,
        linewidths=edge_widths,
        depthshade=False,
        zorder=3,
    )
    for label, mark in marks.items():
        axes.scatter(*mark[:, None], marker="X", s=80, color=_DARK, depthshade=False, zorder=4)
        axes.text(*mark, f"   {label}", fontsize="small", color=_DARK, va="bottom", zorder=5)
    for objective, axis in enumerate((axes.xaxis, axes.yaxis, axes.zaxis)):
        axis.set_label_text(_axis_label(front, objective).strip("←→ ").replace(" (", "\n("))
        axis.labelpad = 12
        axis.pane.fill = False
        axis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.tick_params(labelsize="small")
    # From the side of the ideal point a front is seen from its front.
    axes.view_init(elev=28, azim=40)
    axes.set_box_aspect(None, zoom=0.87)
    _add_color_bar(figure, axes, front, pad=0.06)
    return axes  # type: ignore[no-any-return]


def _draw_parallel(figure: Figure, front: Front, known: Array | None, marks: dict[str, Array]) -> Axes:
    axes = figure.add_subplot()
    color_map, scale = _colors()
    everything = np.vstack([front.values, *(mark[None] for mark in marks.values())])
    everything = everything if known is None else np.vstack([everything, known])
    low, size = everything.min(axis=0), np.ptp(everything, axis=0)
    size[size == 0] = 1.0  # An objective in which all agree is a point of its axis.

    def lines(points: Array) -> list[Array]:
        places = np.arange(points.shape[1], dtype=float)
        return [np.stack([places, row], axis=1) for row in (points - low) / size]

    if known is not None:
        axes.add_collection(LineCollection(lines(known), colors=_GREY, linewidths=0.5, alpha=0.25, zorder=1))
    kept = indicators.non_dominated(front.values, front.maximize)
    drawn = LineCollection(lines(front.values), cmap=color_map, norm=scale, linewidths=1.6, alpha=0.9, zorder=3)
    drawn.set_array(front.preferences[:, 0])
    drawn.set_linestyle(["-" if flag else "--" for flag in kept])
    axes.add_collection(drawn)
    for index, (label, mark) in enumerate(marks.items()):
        line = lines(mark[None])[0]
        style = ["-", "--", "-.", ":"][index % 4]
        axes.plot(*line.T, color=_DARK, linewidth=1.8, linestyle=style, marker="X", zorder=4, label=label)
    if marks:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    count = len(front.names)
    better = ["higher is better" if flag else "lower is better" for flag in front.is_maximized()]
    axes.set_xticks(range(count), [f"{name}\n({way})" for name, way in zip(front.names, better, strict=True)])
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
                color=_DARK,
            )
    sns.despine(ax=axes, left=True, bottom=True)
    _add_color_bar(figure, axes, front, pad=0.02)
    return axes
