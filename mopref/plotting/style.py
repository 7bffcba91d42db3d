"""What all pictures share: style, colours, line and point looks, labels, and how a picture becomes a file."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mopref import indicators
from mopref._arrays import Array, as_points
from mopref._atomic_writes import write_atomically
from mopref._paths import checked_path
from mopref._terminal import visible_line
from mopref.front import Front
from mopref.front.intervals import interval_level, objective_intervals

GREY = "0.6"
DARK = "0.25"
# Stands out among blues, yellows and greys, also for colour-blind readers; always drawn thick and dashed as well.
WARNING = "#d55e00"
POINT_SIZE = 46

_DOTS_PER_INCH = 150
# Of a name in signs; a longer one would take minutes to lay out, and leave no room for the picture.
_LONGEST_NAME = 100
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (9, 3)))
_MARKERS = "osD^vPX<>*"


@contextmanager
def style() -> Iterator[None]:
    """Set seaborn's style for what is drawn inside, and leave matplotlib's settings as they were."""
    looks = {**sns.axes_style("whitegrid"), **sns.plotting_context("notebook"), "grid.color": "0.92"}
    # Text in a vector picture stays text, and a name that holds dollars is no formula.
    with mpl.rc_context({**looks, "pdf.fonttype": 42, "svg.fonttype": "none", "text.parse_math": False}):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, in inches, unknown to pyplot."""
    return Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str] | None) -> None:
    """Write a figure in the format that the path's ending names; do nothing without a path.

    Raises:
        ValueError: the path has no ending, or one that matplotlib cannot write, or a text cannot be drawn; nothing is
            written then.
    """
    if path is None:
        return
    path = checked_path(path, "path")
    ending = path.suffix.lstrip(".").lower()
    endings = sorted(figure.canvas.get_supported_filetypes())
    if ending not in endings:
        raise ValueError(f"{path.name!r} names no picture: it must end in one of {', '.join(endings)}.")
    content = io.BytesIO()
    try:
        figure.savefig(content, dpi=_DOTS_PER_INCH, format=ending)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the picture could not be drawn ({error}): a text in it, such as its title, holds what no font can show."
        ) from error
    write_atomically(path, content.getvalue())


def check_front(front: Front) -> None:
    """Refuse a front of one objective, and one whose numbers were made NaN or infinite since.

    Raises:
        ValueError: such a front.
    """
    if not all(hasattr(front, name) for name in ("values", "preferences", "names")):
        raise TypeError(f"the front is of type {type(front).__name__}: give a Front.")
    as_points(front.values)
    as_points(front.preferences, "preferences")
    if len(front.names) < 2:
        raise ValueError(f"the front has one objective ({front.names[0]}): there is no trade-off to draw.")


def preference_colors() -> tuple[Colormap, Normalize]:
    """The map and the fixed scale 0 … 1 of λ, so that pictures of different fronts compare."""
    # The palest end of the map would vanish on white.
    return sns.blend_palette(sns.color_palette("viridis", 64)[:58], as_cmap=True), Normalize(0.0, 1.0)


def add_color_bar(figure: Figure, axes: Axes, front: Front, pad: float) -> None:
    """Explain the colours of λ beside the axes."""
    color_map, scale = preference_colors()
    bar: Any = figure.colorbar(mpl.cm.ScalarMappable(scale, color_map), ax=axes, pad=pad, aspect=30, shrink=0.9)
    bar.set_label(f"λ {shown_name(front.names[0])}")
    bar.outline.set_visible(False)


def shown_name(name: str) -> str:
    """A name as a label: what a terminal would obey as escapes, and the beginning of one that is very long.

    Example:
        >>> shown_name("helpful"), len(shown_name("x" * 100_000))
        ('helpful', 100)
    """
    text = visible_line(name[: 2 * _LONGEST_NAME])
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def axis_label(front: Front, objective: int) -> str:
    """The objective's name and direction, with an arrow to the better side."""
    name = shown_name(front.names[objective])
    return f"{name} (higher is better) →" if front.is_maximized()[objective] else f"← {name} (lower is better)"


def tick_label(front: Front, objective: int) -> str:
    """The objective's name, and its direction below it."""
    better = "higher" if front.is_maximized()[objective] else "lower"
    return f"{shown_name(front.names[objective])}\n({better} is better)"


def point_looks(front: Front) -> list[tuple[NDArray[np.intp], dict[str, Any]]]:
    """A front's rows by how they are drawn: round, or square with a thick edge where dominated."""
    on_front = indicators.non_dominated(front.values, front.maximize)
    looks = (
        (on_front, {"marker": "o", "edgecolors": DARK, "linewidths": 0.6}),
        (~on_front, {"marker": "s", "edgecolors": "black", "linewidths": 1.6}),
    )
    return [(np.flatnonzero(mask), look) for mask, look in looks if mask.any()]


class IntervalBars(NamedTuple):
    """A bar for each interval of an objective that is known, K of them.

    Attributes:
        rows: of the points that the bars go through, ``(K,)``.
        objectives: along whose axes they lie, ``(K,)``.
        ends: the lower and the upper one, ``(K, 2, m)``.
        look: thin, in the colours of the points.
        key: the look of their entry in a legend, which tells their level.
    """

    rows: NDArray[np.intp]
    objectives: NDArray[np.intp]
    ends: Array
    look: dict[str, Any]
    key: dict[str, Any]


def interval_bars(front: Front) -> IntervalBars:
    """The bars of a front's intervals, and how they are drawn."""
    bounds = objective_intervals(front)
    rows, objectives = np.nonzero(np.isfinite(bounds).all(axis=2))
    ends = np.repeat(front.values[rows][:, None], 2, axis=1)
    ends[np.arange(len(rows)), :, objectives] = bounds[rows, objectives]
    color_map, scale = preference_colors()
    level = interval_level(front.metadata)
    thin = {"linewidths": 1.1, "alpha": 0.6}
    look = {"colors": color_map(scale(front.preferences[rows, 0])), **thin}
    label = "interval" if level is None else f"{100 * level:g} % interval"
    return IntervalBars(rows, objectives, ends, look, {"color": DARK, "s": 3 * POINT_SIZE, "label": label, **thin})


def line_looks(count: int) -> list[dict[str, Any]]:
    """As many looks of lines, up to 60 all different without their colour, and their points without their dashes."""
    looks: list[dict[str, Any]] = []
    for number, color in enumerate(sns.color_palette("colorblind", count)):
        # Each turn through the colours has another marker for each, and other dashes for each marker.
        turn = number // len(_MARKERS)
        marker = (number + turn) % len(_MARKERS)
        looks.append({"color": color, "linestyle": _DASHES[(marker + turn) % len(_DASHES)], "marker": _MARKERS[marker]})
    return looks
