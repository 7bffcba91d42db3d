"""The pictures of a report: the front, each objective under its own λ, and how training went."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from mopref.front import Front
from mopref.plotting import plot_calibration, plot_front, plot_hypervolume, plot_training
from mopref.plotting.inline import inline_svg
from mopref.plotting.parallel import draw_parallel
from mopref.plotting.style import new_figure, preference_colors, style
from mopref.recipes.run_files import RunFiles

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
    how = "Each point is the one model under another λ; the colour is the weight of the first objective."
    how += " A square is dominated." if len(front.names) <= 3 else " A dashed line is dominated."
    how += " Bars are the intervals of the table." if set(front.names) & front.intervals.keys() else ""
    pictures = [Picture("The front", how, inline_svg(figure, "front", "the front"))]
    if len(front.names) == 3:
        with style():
            figure = new_figure(7.2, 4.6)
            draw_parallel(figure, front, None, {label: np.asarray(point) for label, point in base.items()})
        how = "A line for each point; a dashed one is dominated. An axis spans its smallest to its largest number."
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
    volumes = [entry for entry in files.evaluations if _is_finite(entry.get("hypervolume"))]
    if volumes:
        markup = inline_svg(plot_hypervolume(volumes), "volume", "held-out hypervolume")
        pictures.append(Picture("Held-out hypervolume", "Of the front at that step.", markup))
    names = files.recipe.objectives
    how = f"A line for each λ on held-out rows, coloured by the weight of {names[0]}."
    for place, (title, panels) in enumerate(_panels(files.evaluations, names)):
        markup = inline_svg(_curves(files.evaluations, panels, names), f"curves{place}", title.lower())
        pictures.append(Picture(title, how, markup, len(panels) > 2))
    return pictures


def _base(front: Front) -> dict[str, list[float]]:
    losses = front.metadata.get("base_losses")
    if isinstance(losses, list) and len(losses) == len(front.names) and all(map(_is_finite, losses)):
        return {"base model": losses}
    return {}


def _panels(evaluations: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """For each picture its title, and the keys of its panels with their labels."""
    points = [point for entry in evaluations for point in entry["points"]]
    keys = {key for point in points for key, value in point.items() if _is_finite(value)}
    for kind, (title, unit) in _CURVES.items():
        panels = {f"{kind}/{name}": f"{name}\n{unit}" for name in names if f"{kind}/{name}" in keys}
        if panels:
            yield title, panels
    panels = {key: label for key, label in _SINGLE_CURVES.items() if key in keys}
    if panels:
        yield "Distance and length", panels


def _curves(evaluations: Sequence[Mapping[str, Any]], panels: Mapping[str, str], names: Sequence[str]) -> Figure:
    """A panel for each key, in which each λ has a line over the steps."""
    lines: dict[tuple[float, ...], dict[str, list[tuple[float, float]]]] = {}
    for entry in evaluations:
        for point in entry["points"]:
            weights = tuple(float(point["preference"][name]) for name in names)
            for key in panels:
                value = point.get(key)
                number = float(value) if _is_finite(value) else np.nan
                lines.setdefault(weights, {}).setdefault(key, []).append((float(entry["step"]), number))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    color_map, scale = preference_colors()
    with style():
        figure = new_figure(max(3.3 * columns, 5.0), 2.9 * rows)
        for place, (key, label) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, place + 1)
            for weights, of_point in sorted(lines.items()):
                steps, values = np.array(of_point[key]).T
                axes.plot(steps, values, color=color_map(scale(weights[0])), marker="o", markersize=3, linewidth=1.2)
            axes.set_xlabel("step")
            title, _, unit = label.partition("\n")
            axes.set_title(title, fontsize="medium")
            axes.set_ylabel(unit)
            sns.despine(ax=axes)
    return figure


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
