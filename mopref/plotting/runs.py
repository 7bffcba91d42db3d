"""How training went: losses and hypervolumes over the steps."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mopref._repr import short_repr
from mopref.argument_kinds import checks_arguments
from mopref.data_rows import checked_rows
from mopref.plotting.style import DARK, line_looks, new_figure, save, shown_name, style
from mopref.setting_types import python_value

__all__ = ["plot_hypervolume", "plot_training"]

Record = Mapping[str, Any]
_MARKERS_PER_LINE = 8


@checks_arguments
def plot_training(
    history: Sequence[Record], path: str | os.PathLike[str] | None = None, title: str | None = None
) -> Figure:
    """Draw each objective's loss over the steps.

    Args:
        history: log records such as ``{"step": 10, "loss/helpful": 0.69}``. A record without a step or without any
            ``loss/…`` is about something else and left out; a loss that is not finite leaves a gap.
        path: where to write the picture, or ``None``.
        title: title of the picture.

    Raises:
        ValueError: no record holds a loss.
    """
    prefix = "loss/"
    records = [
        record
        for record in _checked(history, "history")
        if "step" in record and any(key.startswith(prefix) for key in record)
    ]
    names = list(dict.fromkeys(key for record in records for key in record if key.startswith(prefix)))
    if not records:
        raise ValueError(
            f"none of the {len(history)} records has both 'step' and a 'loss/<name>': there is nothing to draw."
        )
    with style():
        figure = new_figure(7.2, 4.2)
        axes = figure.add_subplot()
        for name, look in zip(names, line_looks(len(names)), strict=True):
            own_records = [record for record in records if name in record]
            losses = np.array([_number(record, name) for record in own_records])
            losses[~np.isfinite(losses)] = np.nan
            label = shown_name(name.removeprefix(prefix))
            _draw_line(axes, [_number(record, "step") for record in own_records], losses, label, look)
        axes.set_ylabel("loss")
        _finish(figure, axes, title, path)
    return figure


@checks_arguments
def plot_hypervolume(
    runs: Mapping[str, Sequence[Record]] | Sequence[Record],
    path: str | os.PathLike[str] | None = None,
    limits: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the hypervolume over the steps, of one run or of several.

    Hypervolumes compare only under the same reference point and the same preferences; this picture cannot check that.

    Args:
        runs: records such as ``{"step": 100, "hypervolume": 0.81}``, or label to records. ``records`` of
            :class:`~mopref.HypervolumeCallback` are such. A record without ``hypervolume`` is left out; one
            with ``"exact": False`` has "approximate" put behind the label.
        path: where to write the picture, or ``None``.
        limits: label to a hypervolume that is drawn as a level line, such as ``{"true front": 0.8767}``.
        title: title of the picture.

    Raises:
        ValueError: a run without any hypervolume, or a hypervolume that is not finite.
    """
    lines = dict(_hypervolume_line(label, records) for label, records in _labelled(runs))
    if not lines:
        raise ValueError("runs is empty: there is nothing to draw.")
    limits = {
        python_value(label, str, "a label of limits"): python_value(level, float, f"limits[{label!r}]")
        for label, level in (limits or {}).items()
    }
    for label, level in limits.items():
        if not math.isfinite(level):
            raise ValueError(f"limits[{label!r}] is {level}: a level line needs a finite hypervolume.")
    with style():
        figure = new_figure(7.2, 4.2)
        axes = figure.add_subplot()
        for (label, (steps, volumes)), look in zip(lines.items(), line_looks(len(lines)), strict=True):
            _draw_line(axes, steps, np.array(volumes), shown_name(label), look)
        for label, level in limits.items():
            axes.axhline(level, color=DARK, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
            axes.annotate(
                f"{shown_name(label)} {level:.4g}",
                (1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize="small",
                color=DARK,
            )
        axes.margins(y=0.1)
        axes.set_ylabel("hypervolume (higher is better) →")
        _finish(figure, axes, title, path)
    return figure


def _labelled(runs: Mapping[str, Sequence[Record]] | Sequence[Record]) -> list[tuple[str | None, Sequence[Record]]]:
    """Each run with its label, which one run alone needs not have."""
    return list(runs.items()) if isinstance(runs, Mapping) else [(None, runs)]


def _hypervolume_line(label: str | None, records: Sequence[Record]) -> tuple[str, tuple[list[float], list[float]]]:
    """What the legend says of a run, and its steps and hypervolumes."""
    name = "the run" if label is None else f"run {label!r}"
    measurements = [record for record in _checked(records, name) if "step" in record and "hypervolume" in record]
    if not measurements:
        raise ValueError(
            f"none of the {len(records)} records of {name} has both 'step' and 'hypervolume': there is nothing to draw."
        )
    volumes = [_number(record, "hypervolume") for record in measurements]
    for record, volume in zip(measurements, volumes, strict=True):
        if not math.isfinite(volume):
            raise ValueError(
                f"the hypervolume of {name} is {record['hypervolume']} at step {record['step']}: only finite ones can "
                "be drawn."
            )
    is_approximate = any(not record.get("exact", True) for record in measurements)
    text = " ".join(part for part in (label, "(approximate)" if is_approximate else "") if part)
    return text, ([_number(record, "step") for record in measurements], volumes)


def _checked(records: Any, what: str) -> Sequence[Record]:
    """The records, if they are a list of dicts whose keys are texts."""
    for index, record in enumerate(checked_rows(records, what)):
        if not isinstance(record, Mapping) or not all(isinstance(key, str) for key in record):
            raise ValueError(f"record {index} of {what} is {short_repr(record)}: give a dict with 'step' in it.")
    checked: Sequence[Record] = records
    return checked


def _number(record: Record, key: str) -> float:
    number: float = python_value(record[key], float, f"{key} of a record")
    return number


def _draw_line(axes: Axes, steps: list[float], heights: Any, label: str, look: dict[str, Any]) -> None:
    """Draw a line with a few markers; those of several lines are set apart, so that equal lines are seen as two."""
    every = max(1, len(steps) // _MARKERS_PER_LINE)
    first = len(axes.lines) * max(1, every // 4) % every
    axes.plot(steps, heights, label=label, markevery=(first, every), markersize=5, markeredgecolor="white", **look)


def _finish(figure: Figure, axes: Axes, title: str | None, path: str | os.PathLike[str] | None) -> None:
    axes.set_xlabel("step")
    if any(label for label in axes.get_legend_handles_labels()[1]):
        # Long enough for the dashes to show.
        axes.legend(frameon=False, handlelength=3.5)
    sns.despine(ax=axes)
    if title is not None:
        axes.set_title(title, pad=12)
    save(figure, path)
