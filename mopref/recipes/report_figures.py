"""The pictures of a report: the front, each objective under its own λ, and how training went."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mopref.front import Front
from mopref.plotting import plot_calibration, plot_front, plot_hypervolume, plot_training
from mopref.plotting.inline import inline_svg
from mopref.plotting.parallel import draw_parallel
from mopref.plotting.style import DARK, line_looks, new_figure, shown_name, style
from mopref.recipes.front_table import is_finite_number
from mopref.recipes.run_files import RunFiles
from mopref.training.evaluation_callback import point_label

__all__ = ["Picture", "front_pictures", "training_pictures"]

# What is measured of each objective while training: the picture's title, and what its axes say.
_CURVES = {
    "loss": ("Held-out losses", "loss (lower is better)"),
    "reward": ("Held-out rewards", "reward (higher is better)"),
    "accuracy": ("Held-out accuracies", "accuracy (higher is better)"),
    "margin": ("Held-out margins", "margin (higher is better)"),
}
_SINGLE_CURVES = {"kl": "KL from the base model\nnats", "sampled_length": "length of sampled answers\ntokens"}


@dataclass(frozen=True)
class Picture:
    """A picture within the report.

    Args:
        title: what it shows.
        caption: how it is read.
        markup: SVG.
        is_wide: it has so many panels that it takes the page's width.
    """

    title: str
    caption: str
    markup: str
    is_wide: bool = False


def front_pictures(front: Front) -> list[Picture]:
    """The front, across parallel axes too where it has more than two objectives, and each objective under its own λ."""
    if len(front.names) < 2:
        return []
    base = _base(front)
    figure = plot_front(front, reference_values=base)
    if len(front.names) == 2:
        # Smaller than on its own, so that its texts are legible on a narrow screen; more axes need the room.
        figure.set_size_inches(*(0.78 * figure.get_size_inches()))
    color = f" The colour is λ {front.names[0]}, the weight of the first objective."
    how = "Each point is the one model under another λ." + color
    how += " A square is dominated." if len(front.names) <= 3 else " A dashed line is dominated."
    how += " Bars are the intervals of the table." if set(front.names) & front.intervals.keys() else ""
    pictures = [Picture("The front", how, inline_svg(figure, "front", "the front"))]
    if len(front.names) == 3:
        with style():
            figure = new_figure(5.4, 4.0)
            draw_parallel(figure, front, None, {label: np.asarray(point) for label, point in base.items()})
        how = "A line for each point; a dashed one is dominated. An axis spans its smallest to its largest number."
        how += color + " Points that share this weight share their colour."
        pictures.append(Picture("Across the objectives", how, inline_svg(figure, "parallel", "the front in parallel")))
    if len(front) > 1:
        how = "A thick dashed step goes the wrong way: more λ_i, and objective i did not get what it asked for."
        markup = inline_svg(plot_calibration(front), "calibration", "each objective against its own weight")
        pictures.append(Picture("Each objective under its own weight", how, markup, len(front.names) > 2))
    return pictures


def training_pictures(files: RunFiles) -> list[Picture]:
    """Losses of the training, and what was measured on held-out rows meanwhile."""
    pictures = []
    if any("step" in entry and any(key.startswith("loss/") for key in entry) for entry in files.log):
        entries = [{key: np.nan if value is None else value for key, value in entry.items()} for entry in files.log]
        how = "Of each objective, over the rows and the λ that were drawn: they scatter as these do."
        pictures.append(Picture("Training losses", how, inline_svg(plot_training(entries), "log", "training losses")))
    if any(is_finite_number(entry.get("hypervolume")) for entry in files.evaluations):
        pictures.append(_hypervolume(files))
    names = files.recipe.objectives
    for place, (title, panels) in enumerate(_panels(files.evaluations, names)):
        how = "A line for each λ, on held-out rows."
        if any(_ends(point, key) is not None for point in _points(files.evaluations) for key in panels):
            level = files.recipe.evaluation.interval_level
            how += f" Bands are the {'' if level is None else f'{100 * level:g} % '}intervals over the prompts."
        markup = inline_svg(_curves(files.evaluations, panels, names), f"curves{place}", title.lower())
        pictures.append(Picture(title, how, markup, len(panels) > 2))
    return pictures


def _hypervolume(files: RunFiles) -> Picture:
    """The hypervolume over the steps, in which the step is marked that the adapter was kept of."""
    figure = plot_hypervolume([entry for entry in files.evaluations if is_finite_number(entry.get("hypervolume"))])
    how, step = "Of the front at that step.", files.adapter_step
    if files.adapter is not None and step is not None and (files.recipe.monitoring.keep_best or step != files.steps):
        how += f" The kept adapter is of step {step}."
        with style():
            axes = figure.axes[0]
            axes.axvline(step, color=DARK, linewidth=1.2, linestyle="--", zorder=1, label="kept adapter")
            axes.legend(frameon=False, handlelength=3.5)
    return Picture("Held-out hypervolume", how, inline_svg(figure, "volume", "held-out hypervolume"))


def _base(front: Front) -> dict[str, list[float]]:
    losses = front.metadata.get("base_losses")
    if isinstance(losses, list) and len(losses) == len(front.names) and all(map(is_finite_number, losses)):
        return {"base model": losses}
    return {}


def _panels(evaluations: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """For each picture its title, and the keys of its panels with their labels."""
    keys = {key for point in _points(evaluations) for key, value in point.items() if is_finite_number(value)}
    for kind, (title, unit) in _CURVES.items():
        panels = {f"{kind}/{name}": f"{shown_name(name)}\n{unit}" for name in names if f"{kind}/{name}" in keys}
        if panels:
            yield title, panels
    panels = {key: label for key, label in _SINGLE_CURVES.items() if key in keys}
    if panels:
        yield "Distance and length", panels


def _curves(evaluations: Sequence[Mapping[str, Any]], panels: Mapping[str, str], names: Sequence[str]) -> Figure:
    """A panel for each key, in which each λ has a line over the steps with the band of its intervals."""
    # Each λ to the lines of its figures: step, number, and the ends of its interval.
    lines: dict[tuple[float, ...], dict[str, list[tuple[float, ...]]]] = {}
    for entry in evaluations:
        for point in entry["points"]:
            weights = tuple(float(point["preference"][name]) for name in names)
            for key in panels:
                number = float(point[key]) if is_finite_number(point.get(key)) else np.nan
                row = (float(entry["step"]), number, *(_ends(point, key) or (np.nan, np.nan)))
                lines.setdefault(weights, {}).setdefault(key, []).append(row)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    width = max(3.3 * columns, 5.0)
    labels = [shown_name(point_label(names, weights)) for weights in lines]
    # Inches of the widest entry of the legend, about, and so how many stand side by side.
    beside = min(len(labels), max(1, int(width / (0.6 + 0.085 * max(map(len, labels))))))
    with style():
        figure = new_figure(width, 2.9 * rows + 0.22 * -(-len(labels) // beside))
        for place, (key, label) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, place + 1)
            for look, of_point in zip(line_looks(len(lines)), lines.values(), strict=True):
                _draw_line(axes, np.array(of_point[key]), look)
            axes.set_xlabel("step", fontsize="small")
            title, _, unit = label.partition("\n")
            axes.set_title(title, fontsize="medium")
            axes.set_ylabel(unit, fontsize="small")
            axes.tick_params(labelsize="small")
            sns.despine(ax=axes)
        handles = figure.axes[0].lines
        figure.legend(handles, labels, loc="outside lower left", ncols=beside, frameon=False, fontsize="small")
    return figure


def _draw_line(axes: Axes, table: NDArray[np.float64], look: Mapping[str, Any]) -> None:
    """Draw steps, numbers and ends of intervals, ``(steps, 4)``."""
    steps, numbers, low, high = table.T
    axes.plot(steps, numbers, markersize=4, linewidth=1.2, markeredgecolor="white", markeredgewidth=0.4, **look)
    if len(steps) > 1:
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0, zorder=1)
    else:
        axes.vlines(steps, low, high, color=look["color"], alpha=0.6, linewidth=1.1)


def _points(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (point for entry in evaluations for point in entry["points"])


def _ends(point: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """The interval of a point's figure, where both of its ends are known."""
    low, high = (point.get("intervals") or {}).get(key) or (None, None)
    return (float(low), float(high)) if is_finite_number(low) and is_finite_number(high) else None  # type: ignore[arg-type]
