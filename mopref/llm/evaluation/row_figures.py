"""A front of means over held-out rows, with intervals: how far each figure would move with other prompts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mopref._arrays import Array
from mopref._repr import short_repr
from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.bootstrap import BootstrapMeans, bootstrap_means, checked_level, percentile_interval
from mopref.data_rows import token_tuples
from mopref.front import Front
from mopref.front.intervals import interval_columns
from mopref.preferences import validate_preferences
from mopref.resampled_volumes import resampled_hypervolumes

__all__ = ["Figure", "figure_columns", "front_of_figures", "prompt_units"]

_RESAMPLES = 1000


class Figure(NamedTuple):
    """A figure of every row at each of N preferences.

    Attributes:
        values: ``(N, rows)``.
        counted: bool ``(rows,)``, which rows count for it; ``None`` for all.
    """

    values: Tensor
    counted: Tensor | None = None


@checks_arguments
def prompt_units(data: Sequence[Any]) -> list[Any]:
    """A label for each row, the same for rows of the same prompt: what a bootstrap draws.

    Raises:
        ValueError: a row without a list of token ids under ``prompt_ids``.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    return token_tuples(data, "prompt_ids", "use tokenize_prompts or tokenize_records to make such rows")


@checks_arguments
def front_of_figures(
    objectives: Mapping[str, Figure],
    extra: Mapping[str, Figure],
    units: Sequence[Any],
    preferences: Any,
    *,
    maximize: bool = False,
    reference_point: ArrayLike | None = None,
    interval_level: float | None = 0.9,
    seed: int = 0,
    columns: Mapping[str, Sequence[Any]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    convention: Any = "importance",
) -> Front:
    """The front of the figures' means, with the interval of each by a paired bootstrap over units.

    The same resamples serve every figure at every preference, and the hypervolume.

    Args:
        objectives: figures that are the front's values, by the objectives' names.
        extra: figures that become extra columns, by their names.
        units: a label for each row, see :func:`prompt_units`.
        preferences: ``(N, m)``, or by name.
        maximize: whether the objectives are rewards.
        reference_point: ``(m,)``; with it the hypervolume has an interval, too.
        interval_level: in (0, 1), or ``None`` for no intervals.
        seed: of the resamples.
        columns: more columns, behind these, which have no intervals.
        metadata: for the front.
        convention: for the front.

    Returns:
        A front with ``<column>_low`` and ``<column>_high`` for every figure; its metadata say ``interval_level``, and
        ``reference_point`` and ``hypervolume_interval`` where that is asked for.

    Raises:
        ValueError: an objective with the name of another figure.
    """
    clash = next((name for name in objectives if name in {*extra, *(columns or {})}), None)
    if clash is not None:
        raise ValueError(
            f"{clash!r} is the name of an objective and of another figure: give the objective another name."
        )
    m, notes = len(objectives), dict(metadata or {})
    means, resampled = _bootstrapped({**objectives, **extra}, units, interval_level, seed)
    table = _columns({**objectives, **extra}, means, resampled, interval_level)
    values = np.stack([table.pop(name) for name in objectives], axis=1)
    if interval_level is not None:
        notes["interval_level"] = checked_level(interval_level, "interval_level")
        if reference_point is not None:
            interval = _hypervolume_interval(resampled[:, :m], reference_point, maximize, interval_level)
            if interval is not None:
                notes |= {"reference_point": np.asarray(reference_point).tolist(), "hypervolume_interval": interval}
    return Front(
        preferences=validate_preferences(preferences, tuple(objectives)).detach().cpu().numpy(),
        values=values,
        names=tuple(objectives),
        maximize=maximize,
        extra={**table, **(columns or {})},
        metadata=notes,
        convention=convention,
    )


@checks_arguments
def figure_columns(
    figures: Mapping[str, Figure], units: Sequence[Any], interval_level: float | None = 0.9, seed: int = 0
) -> dict[str, Array]:
    """Columns for a front, of figures of other rows than its own: means ``(N,)``, and intervals behind them.

    Args:
        figures: by the names of the columns.
        units: a label for each row, see :func:`prompt_units`.
        interval_level: in (0, 1), or ``None`` for no intervals.
        seed: of the resamples.
    """
    return _columns(figures, *_bootstrapped(figures, units, interval_level, seed), interval_level)


def _check_figures(figures: Mapping[str, Figure]) -> None:
    if not figures:
        raise ValueError("there is no figure: give one at least, by its name.")
    shapes = {}
    for name, figure in figures.items():
        if not isinstance(figure, Figure) or not isinstance(name, str):
            raise TypeError(
                f"the figure {short_repr(name)} is of type {type(figure).__name__}: give a Figure, by a text."
            )
        values = checked_kind(figure.values, torch.Tensor, f"the values of {name}")
        counted = checked_kind(figure.counted, torch.Tensor | None, f"counted of {name}")
        if values.ndim != 2 or (
            counted is not None and (counted.shape != values.shape[1:] or counted.dtype != torch.bool)
        ):
            raise ValueError(
                f"the figure {name} has values of shape {tuple(values.shape)}: give (N, rows), and counted as (rows,) "
                "of bool where some rows do not count."
            )
        shapes[name] = tuple(values.shape)
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"the figures have the shapes {short_repr(shapes)}: give the same preferences and rows in all."
        )


def _bootstrapped(
    figures: Mapping[str, Figure], units: Sequence[Any], interval_level: float | None, seed: int
) -> BootstrapMeans:
    """Means ``(figures, N)``, and resampled ones."""
    _check_figures(figures)
    values = torch.stack([figure.values for figure in figures.values()]).double().numpy()
    everywhere = torch.ones(values.shape[-1], dtype=torch.bool)
    counted = torch.stack([everywhere if f.counted is None else f.counted for f in figures.values()]).numpy()
    resamples = 1 if interval_level is None else _RESAMPLES
    return bootstrap_means(values, counted[:, None, :], units, resamples=resamples, seed=seed)


def _columns(figures: Mapping[str, Figure], means: Array, resampled: Array, level: float | None) -> dict[str, Array]:
    """All means by their names, then all bounds."""
    columns = dict(zip(figures, means, strict=True))
    if level is not None:
        for name, bounds in zip(figures, percentile_interval(resampled, level), strict=True):
            columns |= interval_columns(name, bounds)
    return columns


def _hypervolume_interval(
    resampled: Array, reference_point: ArrayLike, maximize: bool, level: float
) -> list[float] | None:
    """Lower and upper bound of the hypervolume, from objectives in each resample ``(resamples, m, N)``."""
    volumes = resampled_hypervolumes(resampled.swapaxes(1, 2), reference_point, maximize)
    if np.isfinite(volumes).sum() < 2:
        return None
    low, high = percentile_interval(volumes, level).tolist()
    return [low, high]
