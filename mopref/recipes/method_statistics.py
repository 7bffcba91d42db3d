"""Figures of a comparison of methods: each seed's, their means, and gaps to ours with intervals and corrected p."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mopref import indicators
from mopref._arrays import Array
from mopref.baselines import Budget
from mopref.bootstrap import bootstrap_means, holm, paired_p_value, percentile_interval
from mopref.recipes.method_cells import Cell

__all__ = ["Gap", "HeldOut", "MethodFigures", "SeedFigures", "method_figures", "order_correlation"]

_OURS = "ours"


@dataclass(frozen=True)
class HeldOut:
    """What all cells are measured on.

    Args:
        names: of the m objectives.
        preferences: ``(N, m)``.
        labelled: which row counts for which objective, ``(rows, m)`` bool.
        units: a label for each row, its prompt.
        reference_point: ``(m,)``, in losses, fixed before.
        interval_level: of the gaps' intervals.
        resamples: of the bootstrap over prompts.
        seed: of the resamples.
    """

    names: tuple[str, ...]
    preferences: Array
    labelled: Any
    units: Sequence[Any]
    reference_point: Array
    interval_level: float
    resamples: int
    seed: int = 0


@dataclass(frozen=True)
class SeedFigures:
    """One seed's figures of a method.

    Args:
        seed: of its trainings.
        values: mean held-out losses, ``(N, m)``.
        hypervolume: under the reference point.
        inner_product: mean over λ of ⟨λ, −losses⟩.
        largest_hole: see ``mopref.indicators``.
        order_correlation: see :func:`order_correlation`.
        columns: more figures at each preference.
    """

    seed: int
    values: Array
    hypervolume: float
    inner_product: float
    largest_hole: float
    order_correlation: float
    columns: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Gap:
    """A method's figure less ours, the mean over seeds.

    Args:
        value: the difference.
        low: lower bound of its interval, by a paired bootstrap over prompts.
        high: upper bound.
        p: two-sided, of no difference.
        p_holm: the same, corrected over all methods of the comparison.
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class MethodFigures:
    """A method's figures.

    Args:
        method: its name.
        seeds: each seed's figures.
        gaps: to ours, by figure; none of ours itself.
        budget: what it takes, the mean over seeds.
        notes: what the first seed's cell tells.
    """

    method: str
    seeds: tuple[SeedFigures, ...]
    gaps: Mapping[str, Gap]
    budget: Budget
    notes: Mapping[str, Any]

    def mean(self, figure: str) -> float:
        """The mean of a figure over seeds."""
        return float(np.mean([getattr(own, figure) for own in self.seeds]))


def order_correlation(preferences: Array, losses: Array) -> float:
    """Spearman's ρ between λ_i and −loss_i over all preferences, the mean over objectives; NaN where none moves.

    1 where a larger weight never makes its objective worse, 0 where λ says nothing of the losses.

    Args:
        preferences: ``(N, m)``.
        losses: ``(N, m)``, minimised.

    Example:
        >>> order_correlation(np.array([[1, 0], [0.5, 0.5], [0, 1]]), np.array([[0.1, 0.9], [0.2, 0.5], [0.9, 0.1]]))
        1.0
    """
    from scipy.stats import rankdata

    found = []
    for weights, values in zip(preferences.T, -losses.T, strict=True):
        first, second = rankdata(weights), rankdata(values)
        if np.ptp(first) > 0 and np.ptp(second) > 0:
            found.append(np.corrcoef(first, second)[0, 1])
    return float(np.round(np.mean(found), 12)) if found else float("nan")


def method_figures(cells: Mapping[str, Sequence[Cell]], held_out: HeldOut) -> list[MethodFigures]:
    """The figures of every method, in the order of the cells.

    The same resamples of prompts serve every method and seed, so that a gap's interval is that of a paired difference.
    Seeds are taken as they are: the interval says how far a gap would move with other prompts.

    Args:
        cells: of each method, one for each seed in the same order; "ours" among them.
        held_out: what they were measured on.
    """
    losses = np.stack([np.stack([cell.losses for cell in of_method]) for of_method in cells.values()])
    # (methods, seeds, N, m, rows)
    rows_last = np.moveaxis(losses, 3, -1)
    counted = np.moveaxis(np.asarray(held_out.labelled), 0, -1)
    means, resampled = bootstrap_means(
        rows_last, counted, held_out.units, resamples=held_out.resamples, seed=held_out.seed
    )
    names = list(cells)
    gaps = {name: _gaps(resampled, means, figure, names, held_out) for name, figure in _FIGURES.items()}
    methods = []
    for place, (name, of_method) in enumerate(cells.items()):
        seeds = tuple(_seed_figures(cell, means[place, number], held_out) for number, cell in enumerate(of_method))
        own = {figure: of_figure[name] for figure, of_figure in gaps.items() if name in of_figure}
        methods.append(MethodFigures(name, seeds, own, _mean_budget(of_method), of_method[0].notes))
    return methods


def _seed_figures(cell: Cell, values: Array, held_out: HeldOut) -> SeedFigures:
    return SeedFigures(
        cell.seed,
        values,
        _hypervolume(values, held_out),
        _inner_product(values, held_out),
        indicators.largest_hole(values),
        order_correlation(held_out.preferences, values),
        cell.columns,
    )


def _hypervolume(values: Array, held_out: HeldOut) -> float:
    return float(indicators.hypervolume(values, held_out.reference_point))


def _inner_product(values: Array, held_out: HeldOut) -> float:
    return float(-(held_out.preferences * values).sum(axis=1).mean())


_FIGURES = {"hypervolume": _hypervolume, "inner_product": _inner_product}


def _gaps(resampled: Array, means: Array, figure: Any, names: Sequence[str], held_out: HeldOut) -> dict[str, Gap]:
    """Of each method but ours; resampled means are ``(resamples, methods, seeds, N, m)``."""

    def of_seeds(values: Array) -> Array:
        """The mean over seeds of the figure, ``(methods,)``; NaN where a resample holds no row that counts."""
        if not np.isfinite(values).all():
            return np.full(len(values), np.nan)
        return np.array([np.mean([figure(points, held_out) for points in seeds]) for seeds in values])

    ours = names.index(_OURS)
    value = of_seeds(means)
    drawn = np.array([of_seeds(one) for one in resampled])
    others = [place for place in range(len(names)) if place != ours]
    differences = drawn[:, others] - drawn[:, [ours]]
    bounds = percentile_interval(differences, held_out.interval_level)
    p_values = [paired_p_value(column) for column in differences.T]
    corrected = holm(p_values)
    return {
        names[place]: Gap(float(value[place] - value[ours]), float(low), float(high), p, float(adjusted))
        for place, (low, high), p, adjusted in zip(others, bounds, p_values, corrected, strict=True)
    }


def _mean_budget(cells: Sequence[Cell]) -> Budget:
    """The budget of a seed; all seeds have the same but for the seconds, of which it is the mean."""
    seconds = float(np.mean([cell.budget.seconds for cell in cells]))
    return replace(cells[0].budget, seconds=seconds)
