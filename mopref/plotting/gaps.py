"""Gaps of several methods to one, with their intervals, in one picture."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mopref.argument_kinds import checks_arguments
from mopref.plotting.style import DARK, POINT_SIZE, WARNING, new_figure, save, shown_name, style

__all__ = ["plot_gaps"]


@checks_arguments
def plot_gaps(
    gaps: Mapping[str, Sequence[float]],
    path: str | os.PathLike[str] | None = None,
    label: str = "difference",
    level: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a line for each method: a dot at its gap, and its interval; 0, which is no gap, is a dashed line.

    A dot is filled where its interval excludes 0, and hollow where it holds 0 or is not known. Methods are drawn from
    top to bottom in the order they come in.

    Args:
        gaps: method to ``(gap, low, high)``; bounds that are not known are NaN.
        path: where to write the picture (.png, .pdf, .svg, …), or ``None``. Missing folders are made.
        label: what the gap is, with its unit.
        level: of the intervals, for the label; ``None`` where it is not known.
        title: title of the picture.

    Raises:
        ValueError: no gap, one that is no triple of numbers or not finite, a lower bound above the upper, or a path
            whose ending is no picture's.
    """
    if not gaps:
        raise ValueError("gaps is empty: there is nothing to draw.")
    rows = {name: _checked(name, numbers) for name, numbers in gaps.items()}
    with style():
        figure = new_figure(7.2, 2.3 + 0.42 * len(rows))
        axes = figure.add_subplot()
        axes.axvline(0.0, color=WARNING, linestyle="--", linewidth=1.4, zorder=1)
        for place, (gap, low, high) in enumerate(rows.values()):
            _draw_gap(axes, place, gap, low, high)
        axes.set_yticks(range(len(rows)), [shown_name(name) for name in rows])
        axes.invert_yaxis()
        axes.set_xlabel(label if level is None else f"{label}\nline: interval, {100 * level:g} %")
        axes.margins(y=0.12)
        sns.despine(ax=axes, left=True)
        figure.legend(handles=_key(), loc="outside lower center", ncols=2, frameon=False, fontsize="small")
        if title is not None:
            axes.set_title(title, pad=12)
        save(figure, path)
    return figure


def _draw_gap(axes: Axes, place: int, gap: float, low: float, high: float) -> None:
    if np.isfinite(low):
        axes.plot([low, high], [place, place], color=DARK, linewidth=1.6, zorder=2)
    # Bounds that are not known compare with nothing: such a gap is as unsure as one whose interval holds 0.
    face = DARK if low > 0 or high < 0 else "white"
    axes.scatter([gap], [place], s=POINT_SIZE, facecolors=[face], edgecolors=[DARK], zorder=3)


def _key() -> list[Line2D]:
    """What filled and hollow dots mean, for the legend."""
    meanings = {"filled: the interval excludes 0": DARK, "hollow: it holds 0, or is not known (no line)": "white"}
    return [
        Line2D([], [], linestyle="", marker="o", markerfacecolor=face, markeredgecolor=DARK, label=meaning)
        for meaning, face in meanings.items()
    ]


def _checked(name: str, numbers: Sequence[float]) -> tuple[float, float, float]:
    values = np.asarray(numbers, dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values[0]):
        raise ValueError(f"the gap of {name!r} is {numbers!r}: give (gap, low, high), the gap finite.")
    gap, low, high = values.tolist()
    if np.isnan(low) != np.isnan(high) or low > high or np.isinf([low, high]).any():
        raise ValueError(f"the interval of {name!r} is [{low:g}, {high:g}]: give two finite bounds, or two NaN.")
    return gap, low, high
