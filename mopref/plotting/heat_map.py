"""A front as a table of colours: for more objectives than a scatter plot has axes."""

import os
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from seaborn.utils import relative_luminance

from mopref import indicators
from mopref._arrays import signs
from mopref.argument_kinds import checks_arguments
from mopref.front import Front
from mopref.plotting.style import check_front, new_figure, save, shown_name, style

__all__ = ["plot_heat_map"]

_LARGEST_TABLE_WITH_NUMBERS = 240
_MOST_ROWS_WITH_NUMBERS = 40
_LONGEST_LEVEL_NAME = 8


@checks_arguments
def plot_heat_map(front: Front, path: str | os.PathLike[str] | None = None, title: str | None = None) -> Figure:
    """Draw a row for each point: its preference on the left, its values on the right.

    Rows are ordered by the first objective's preference, from large to small, ties by the second and so on. Colours of
    values run from the best to the worst of this front, each objective by itself: dark is good, as a dark λ is a large
    one. So both sides look alike where a larger λ_i improves objective i, and opposite where λ is a ray (a
    scalarizer's ``convention="ray"``). Small tables show the numbers too; an arrow says
    whether lower ↓ or higher ↑ is better. A black square marks a dominated point.

    Args:
        front: what to draw, of two objectives or more.
        path: where to write the picture, or ``None``.
        title: title of the picture.

    Raises:
        ValueError: a front of one objective.
    """
    check_front(front)
    count, number_of_objectives = front.values.shape
    order = np.lexsort(-front.preferences.T[::-1])
    preferences, values = front.preferences[order], front.values[order]
    losses = values * signs(front.maximize, number_of_objectives)
    size = np.ptp(losses, axis=0)
    size[size == 0] = 1.0  # An objective in which all agree is as good as can be everywhere.
    badness = (losses - losses.min(axis=0)) / size
    dominated = ~indicators.non_dominated(values, front.maximize)
    with_numbers = count <= _MOST_ROWS_WITH_NUMBERS and values.size <= _LARGEST_TABLE_WITH_NUMBERS
    names = list(map(shown_name, front.names))
    arrows = ["↑" if maximized else "↓" for maximized in front.is_maximized()]
    # A column is about an inch wide, and the λ columns narrower.
    tilt = {"rotation": 30, "ha": "right"} if max(map(len, front.names)) > _LONGEST_LEVEL_NAME else {"rotation": 0}
    with style():
        width = min(2.4 + 1.5 * number_of_objectives, 16.0)
        figure = new_figure(width, float(np.clip(1.9 + 0.27 * count, 3.0, 12.0)))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.5])
        lines: dict[str, Any] = {
            "linewidths": 0.5 if with_numbers else 0.0,
            "yticklabels": False,
            "annot_kws": {"size": "small"},
        }
        sns.heatmap(
            preferences, ax=left, cmap="Greys", vmin=0, vmax=1, annot=with_numbers, fmt=".2f", cbar=False,
            xticklabels=[f"λ {name}" for name in names], **lines,
        )  # fmt: skip
        sns.heatmap(
            badness, ax=right, cmap="cividis", vmin=0, vmax=1, annot=values if with_numbers else False, fmt=".3g",
            xticklabels=[f"{name} {arrow}" for name, arrow in zip(names, arrows, strict=True)],
            cbar_kws={"ticks": [0, 1], "pad": 0.08, "aspect": 30}, **lines,
        )  # fmt: skip
        for axes in (left, right):
            _make_numbers_readable(axes)
        bar = right.collections[0].colorbar
        assert bar is not None
        bar.ax.set_yticklabels(["best of\nthis front", "worst of\nthis front"], fontsize="small")
        if dominated.any():
            _mark_rows(right, np.flatnonzero(dominated), number_of_objectives + 0.12)
            figure.legend(loc="outside lower right", frameon=False, fontsize="small")
        for axes in (left, right):
            axes.tick_params(axis="x", length=0)
            axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), fontsize="small", **tilt)
        if title is not None:
            figure.suptitle(title)
        save(figure, path)
    return figure


def _mark_rows(axes: Axes, rows: NDArray[np.intp], place: float) -> None:
    """Draw a square beside each of these rows, where it hides no number."""
    look: dict[str, Any] = {"marker": "s", "s": 24, "color": "black", "clip_on": False, "label": "dominated"}
    axes.scatter(np.full(len(rows), place), rows + 0.5, **look)


def _make_numbers_readable(axes: Axes) -> None:
    """Write black or white, whichever contrasts more with the cell."""
    # Seaborn's own choice is white on mid grey. From this luminance on, black has the higher contrast ratio.
    for number, color in zip(axes.texts, axes.collections[0].get_facecolor(), strict=bool(axes.texts)):
        number.set_color("black" if relative_luminance(color) > 0.18 else "white")
