"""Figures of a comparison of methods: each seed's, their means, and gaps to ours with intervals and corrected p."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mopref import indicators
from mopref._arrays import Array
from mopref.baselines import Budget
from mopref.bootstrap import BootstrapMeans, bootstrap_means, holm, paired_p_value, percentile_interval
from mopref.recipes.method_cells import Cell
from mopref.resampled_volumes import resampled_hypervolumes

__all__ = ["Gap", "HeldOut", "MethodFigures", "SeedFigures", "method_figures", "order_correlation"]

_OURS = "ours"
# Of losses that are computed in float32.
_ROUNDING = 1e-6
# Ours' points in another order, so that there is no difference to test, but rounding where they were computed anew.
_NOT_TESTED = {("shuffled", "hypervolume")}


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
        p: two-sided, of no difference; NaN where nothing is tested.
        p_holm: the same, corrected over all methods of the comparison, for this figure alone.
        resamples: on how many resamples interval and p rest.
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float
    resamples: int


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

    1 where a larger weight never makes its objective worse, 0 where λ says nothing of the losses. Losses that differ by
    less than a millionth of the largest are equal but for rounding, and so is an objective that does not move.

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
        if np.ptp(first) > 0 and np.ptp(values) > _ROUNDING * np.abs(values).max():
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
    drawn: dict[str, dict[str, Array]] = {}
    seeds: dict[str, tuple[SeedFigures, ...]] = {}
    # A method at a time, as the resamples of all may not fit into memory; the seed draws the same prompts for each.
    for name, of_method in cells.items():
        means, resampled = _bootstrapped(of_method, held_out)
        seeds[name] = tuple(_seed_figures(*pair, held_out) for pair in zip(of_method, means, strict=True))
        drawn[name] = {figure: of(resampled, held_out).mean(axis=1) for figure, of in _RESAMPLED.items()}
    bare = [
        MethodFigures(name, seeds[name], {}, _mean_budget(of_method), of_method[0].notes)
        for name, of_method in cells.items()
    ]
    gaps = {figure: _gaps(figure, bare, drawn, held_out.interval_level) for figure in _RESAMPLED}
    return [
        replace(own, gaps={figure: found[own.method] for figure, found in gaps.items() if own.method in found})
        for own in bare
    ]


def _bootstrapped(cells: Sequence[Cell], held_out: HeldOut) -> BootstrapMeans:
    """Mean losses of a method, ``(seeds, N, m)``, and in each resample."""
    # (seeds, N, m, rows)
    losses = np.moveaxis(np.stack([cell.losses for cell in cells]), 2, -1)
    counted = np.moveaxis(np.asarray(held_out.labelled), 0, -1)
    return bootstrap_means(losses, counted, held_out.units, resamples=held_out.resamples, seed=held_out.seed)


def _seed_figures(cell: Cell, values: Array, held_out: HeldOut) -> SeedFigures:
    return SeedFigures(
        cell.seed,
        values,
        float(indicators.hypervolume(values, held_out.reference_point)),
        float(_inner_products(values, held_out)),
        indicators.largest_hole(values),
        order_correlation(held_out.preferences, values),
        cell.columns,
    )


def _hypervolumes(values: Array, held_out: HeldOut) -> Array:
    return resampled_hypervolumes(values, held_out.reference_point)


def _inner_products(values: Array, held_out: HeldOut) -> Array:
    return np.asarray(-(held_out.preferences * values).sum(axis=-1).mean(axis=-1))


# What gaps are of: figures ``(resamples, seeds)`` of mean losses ``(resamples, seeds, N, m)``.
_RESAMPLED = {"hypervolume": _hypervolumes, "inner_product": _inner_products}


def _gaps(
    figure: str, methods: Sequence[MethodFigures], drawn: Mapping[str, Mapping[str, Array]], level: float
) -> dict[str, Gap]:
    """Of each method but ours; ``drawn`` are figures ``(resamples,)``, means over seeds."""
    (ours,) = (own for own in methods if own.method == _OURS)
    others = [own for own in methods if own is not ours]
    differences = {own.method: drawn[own.method][figure] - drawn[_OURS][figure] for own in others}
    p_values = [
        np.nan if (name, figure) in _NOT_TESTED else paired_p_value(column) for name, column in differences.items()
    ]
    gaps = {}
    for own, p, corrected in zip(others, p_values, holm(p_values), strict=True):
        column = differences[own.method]
        low, high = percentile_interval(column, level).tolist()
        value = own.mean(figure) - ours.mean(figure)
        gaps[own.method] = Gap(value, low, high, p, float(corrected), int(np.isfinite(column).sum()))
    return gaps


def _mean_budget(cells: Sequence[Cell]) -> Budget:
    """The budget of a seed; all seeds have the same but for the seconds, of which it is the mean."""
    seconds = float(np.mean([cell.budget.seconds for cell in cells]))
    return replace(cells[0].budget, seconds=seconds)
