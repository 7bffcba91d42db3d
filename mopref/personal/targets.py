"""λ from targets: "helpful at most −0.6, then the least harmful", among the points of a front."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._arrays import Array, signs
from mopref._labels import listed
from mopref._repr import short_repr
from mopref.argument_kinds import checks_arguments
from mopref.front import Front
from mopref.front.intervals import interval_level, objective_intervals
from mopref.setting_types import python_value

__all__ = ["TargetedPreference", "from_targets"]

Flags = NDArray[np.bool_]


class TargetedPreference(NamedTuple):
    """The point of a front that was chosen.

    Attributes:
        preference: its λ, ``(m,)`` float64.
        row: its place in the front.
        values: its value of each objective, as the front has it.
        probabilities: of each target, that it holds there, by the front's interval; ``None`` where the front carries
            no interval of that objective, so that its estimate alone was compared.
    """

    preference: Tensor
    row: int
    values: dict[str, float]
    probabilities: dict[str, float | None]


@checks_arguments(but=("probability",))
def from_targets(
    front: Front, targets: Mapping[str, float], then: str, *, probability: float | None = 0.9
) -> TargetedPreference:
    """The λ with the best ``then`` among the points of a front that meet every target.

        min_i f_then(λ^i)   subject to   P(f_j(λ^i) ≤ t_j) ≥ probability for every target j

    for objectives that the front minimises; of one that it maximises a target is the least value, and the best ``then``
    the largest. The probability is that of a normal distribution around the estimate whose quantiles are the front's
    interval, each side by itself, so that with an interval of level .9 a point whose upper bound is t_j meets it with
    probability .95. It is about each target by itself, and about other prompts of the same kind. Where the front
    carries no interval of an objective, its estimate is compared.

    Args:
        front: what was reached at each preference, on held-out prompts.
        targets: the worst value that will do, by the name of its objective, in the direction of the front: losses at
            most, rewards at least this.
        then: the objective that decides among the points that meet the targets; of equals the first one.
        probability: in [½, 1), with which each target is to hold; ``None`` to compare estimates.

    Raises:
        ValueError: no target, an objective that the front has not, ``then`` among the targets, a target that is not
            finite, a probability out of its range, or a front with intervals whose level it does not say. Where no
            point meets the targets: which one, the best attainable, and by how much it falls short.
        TypeError: something else than a front, texts or numbers.

    Source: the ε-constraint method, Haimes, Lasdon and Wismer (1971).

    Example:
        >>> front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[0.5, 0.9], [0.6, 0.7], [0.9, 0.5]], ("helpful", "harmless"))
        >>> from_targets(front, {"helpful": 0.65}, then="harmless").preference
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    limits = _checked_targets(front, targets, then)
    wanted = _checked_probability(probability)
    sign = signs(front.maximize, len(front.names))
    # All minimised from here on: the bound that f stays under with the probability, and the largest that will do.
    spreads = _spreads(front, wanted)
    columns = [front.names.index(name) for name in limits]
    estimates = front.values * sign
    bounds, above = estimates[:, columns], spreads[:, columns, 1]
    if wanted is not None:
        is_known = ~np.isnan(above)
        bounds = bounds + NormalDist().inv_cdf(wanted) * np.where(is_known, above, 0.0)
        # Where an objective has intervals at all, a point without one is not known to meet anything.
        bounds[~is_known & is_known.any(axis=0)] = np.inf
    largest = np.array(list(limits.values())) * sign[columns]
    meets: Flags = np.asarray(bounds <= largest)
    if not meets.all(axis=1).any():
        raise ValueError(
            _infeasible(
                front, limits, bounds * sign[columns], meets, None if np.isnan(spreads[:, columns]).all() else wanted
            )
        )
    place = front.names.index(then)
    row = int(np.where(meets.all(axis=1), estimates[:, place], np.inf).argmin())
    gaps = largest - estimates[row, columns]
    return TargetedPreference(
        torch.from_numpy(front.preferences[row].copy()),
        row,
        dict(zip(front.names, front.values[row].tolist(), strict=True)),
        {
            name: _probability(gap, spreads[row, column])
            for name, column, gap in zip(limits, columns, gaps.tolist(), strict=True)
        },
    )


def _checked_targets(front: Front, targets: Mapping[str, float], then: str) -> dict[str, float]:
    """The targets as numbers."""
    if not targets:
        raise ValueError("targets are empty: give the worst value that will do for one objective at least.")
    for name in (*targets, then):
        if name not in front.names:
            raise ValueError(
                f"there is no objective {short_repr(name)} in the front: choose from {listed(front.names)}."
            )
    if then in targets:
        raise ValueError(f"then is {then!r}, which has a target as well: give it in one of the two.")
    limits = {name: python_value(value, float, f"the target of {name!r}") for name, value in targets.items()}
    for name, value in limits.items():
        if not math.isfinite(value):
            raise ValueError(f"the target of {name!r} is {value}: give a finite number.")
    return limits


def _checked_probability(probability: float | None) -> float | None:
    if probability is None:
        return None
    number: float = python_value(probability, float, "probability")
    if not 0.5 <= number < 1:
        raise ValueError(
            f"probability is {number:g}: give one of ½ at least and below 1, or None to compare estimates."
        )
    return number


def _spreads(front: Front, probability: float | None) -> Array:
    """Standard deviations below and above each minimised value, by its interval, ``(N, m, 2)``; NaN where not known."""
    intervals = objective_intervals(front)
    level = interval_level(front.metadata)
    if np.isnan(intervals).all() or (level is None and probability is None):
        return np.full_like(intervals, np.nan)
    if level is None:
        raise ValueError(
            "the front has intervals, but its metadata do not say their level: set metadata['interval_level'], or give "
            "probability=None to compare estimates."
        )
    values = front.values[..., None]
    sides = np.concatenate([values - intervals[..., :1], intervals[..., 1:] - values], axis=-1)
    maximized = np.array(front.is_maximized())
    sides[:, maximized] = sides[:, maximized, ::-1]
    # An estimate outside of its interval is on its edge.
    spreads: Array = np.maximum(sides, 0.0) / NormalDist().inv_cdf((1 + level) / 2)
    return spreads


def _probability(gap: float, spread: Array) -> float | None:
    """That a value of this spread is at most ``gap`` above its estimate."""
    below, above = spread.tolist()
    if math.isnan(above):
        return None
    side = above if gap >= 0 else below
    return NormalDist().cdf(gap / side) if side > 0 else float(gap >= 0)


def _infeasible(front: Front, limits: Mapping[str, float], bounds: Array, meets: Flags, wanted: float | None) -> str:
    """Which targets no point meets, alone or beside the others, and by how much."""
    problems = []
    alone: Flags = np.asarray(~meets.any(axis=0))
    for column, (name, limit) in enumerate(limits.items()):
        if alone.any() and not alone[column]:
            continue
        others = np.delete(meets, column, axis=1).all(axis=1)
        among = np.ones(len(front), dtype=bool) if alone[column] else others
        if not among.any():
            continue
        place = front.names.index(name)
        sign = signs(front.maximize, len(front.names))[place]
        row = int(np.where(among, bounds[:, column] * sign, np.inf).argmin())
        best, where = bounds[row, column], "" if alone[column] else " where the other targets hold"
        if not math.isfinite(best):
            problems.append(f"{name} has no known interval at any point{where}")
            continue
        weights = ", ".join(f"{weight:g}" for weight in front.preferences[row])
        problems.append(
            f"{name} is to be at {'least' if sign < 0 else 'most'} {limit:g}, but the best attainable{where} is "
            f"{best:g}, short by {abs(best - limit):g} (at λ = {weights}; estimate {front.values[row, place]:g})"
        )
    how = " by its estimates" if wanted is None else f" with probability {wanted:g}"
    if not problems:
        problems.append("no two of them hold at the same point")
    return f"no point of the front meets the targets{how}: {'; '.join(problems)}. Relax a target."
