"""The front of a run as markup, with the measured point that is nearest to a visitor's λ."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mopref import indicators
from mopref._arrays import Array
from mopref.front import Front
from mopref.front.intervals import interval_level, objective_intervals
from mopref.serving.page.texts import escaped, preference_text

__all__ = ["front_markup", "front_sentence", "nearest_point"]

_WIDTH, _HEIGHT = 460, 350
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 18, 18, 56


def nearest_point(front: Front, preference: Sequence[float]) -> int:
    """The row of the point that was measured nearest to λ."""
    return int(((front.preferences - np.asarray(preference)) ** 2).sum(axis=1).argmin())


def front_sentence(front: Front, preference: Sequence[float]) -> str:
    """What was measured nearest to λ, in words; not escaped."""
    row = nearest_point(front, preference)
    bounds, level = objective_intervals(front), interval_level(front.metadata)
    told = []
    for place, name in enumerate(front.names):
        low, high = bounds[row, place]
        interval = "" if math.isnan(low) else f" ({low:.3g} to {high:.3g})"
        better = "higher" if front.is_maximized()[place] else "lower"
        told.append(f"{name} {front.values[row, place]:.3g}{interval}, {better} is better")
    exact = np.allclose(front.preferences[row], preference, atol=5e-3)
    where = preference_text(front.names, front.preferences[row].tolist())
    nearest = "Measured at your λ" if exact else f"Measured nearest to your λ, at {where}"
    known = not np.isnan(bounds[row]).all()
    of_level = f" In brackets: the {100 * level:g} % interval." if known and level is not None else ""
    return f"{nearest}: {'; '.join(told)}.{of_level}"


def front_markup(front: Front, preference: Sequence[float]) -> str:
    """The front with the point nearest to λ marked: a plane for two objectives, an axis for each where there are more.

    What is on the front is round and what is dominated a square; the mark is a large diamond with its interval.
    """
    sentence = escaped(front_sentence(front, preference))
    row = nearest_point(front, preference)
    shown = _plane(front, row) if len(front.names) == 2 else _axes(front, row)
    picture = (
        f'<svg class="picture" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{sentence}" '
        f'data-row="{row}">{shown}</svg>'
    )
    key = '<span class="mark-text" aria-hidden="true">◆</span> nearest to your λ, with its interval'
    if len(front.names) == 2:
        dominated = ', <span aria-hidden="true">□</span> measured, and another is better'
        key = f'<span aria-hidden="true">●</span> measured{dominated}, {key}'
    else:
        key = f'<span aria-hidden="true">┄</span> measured, {key}'
    key = f'<p class="key">{key}.</p>'
    return f"<figure>{picture}{key}<figcaption>{sentence}</figcaption></figure>"


class _Scale(NamedTuple):
    """Where a value lies in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values within."""
        step = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(step))
        step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= step * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _scale(values: Array, bounds: Array, start: float, end: float) -> _Scale:
    """A scale for all values and their bounds, ``(N,)`` and ``(N, 2)``, with a margin."""
    known = np.concatenate([values, bounds[~np.isnan(bounds)]])
    low, high = float(known.min()), float(known.max())
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return _Scale(low - margin, high + margin, start, end)


def _plane(front: Front, row: int) -> str:
    bounds = objective_intervals(front)
    across = _scale(front.values[:, 0], bounds[:, 0], _LEFT, _WIDTH - _RIGHT)
    up = _scale(front.values[:, 1], bounds[:, 1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(across, up)]
    order = np.argsort(front.preferences[:, 0], kind="stable")
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in front.values[order])
    parts.append(f'<polyline class="line" points="{line}"/>')
    on_front = indicators.non_dominated(front.values, front.maximize)
    for (x, y), good in zip(front.values, on_front, strict=True):
        parts.append(_dot(across(x), up(y), bool(good)))
    x, y = across(front.values[row, 0]), up(front.values[row, 1])
    (left, right), (low, high) = bounds[row]
    if not math.isnan(left):
        parts.append(f'<path class="interval" d="M{across(left):.1f} {y:.1f}H{across(right):.1f}"/>')
    if not math.isnan(low):
        parts.append(f'<path class="interval" d="M{x:.1f} {up(low):.1f}V{up(high):.1f}"/>')
    parts.append(_diamond(x, y))
    labels = [f"{name} ({'higher' if up_ else 'lower'} is better)" for name, up_ in _directions(front)]
    middle, height = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escaped(labels[0])}</text>')
    parts.append(
        f'<text class="axis" transform="translate(17 {height}) rotate(-90)" text-anchor="middle">'
        f"{escaped(labels[1])}</text>"
    )
    return "".join(parts)


def _axes(front: Front, row: int) -> str:
    """An upright axis for each objective, the better end above."""
    bounds, count = objective_intervals(front), len(front.names)
    places = [_LEFT + (_WIDTH - _LEFT - 50) * place / (count - 1) for place in range(count)]
    parts, labels, scales = [], [], []
    for place, (name, is_higher) in enumerate(_directions(front)):
        ends = (_HEIGHT - _BOTTOM, _TOP) if is_higher else (_TOP, _HEIGHT - _BOTTOM)
        scale = _scale(front.values[:, place], bounds[:, place], *ends)
        scales.append(scale)
        x = places[place]
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        labels += [
            f'<text class="tick" x="{x - 6:.1f}" y="{scale(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
            for tick in scale.ticks
        ]
        shown = escaped(_short(name, 44 // count))
        labels.append(
            f'<text class="axis" x="{x:.1f}" y="{_HEIGHT - 32}" text-anchor="middle">{shown}</text>'
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">better ↑</text>'
        )
    for values in front.values:
        line = " ".join(f"{x:.1f},{scale(v):.1f}" for x, scale, v in zip(places, scales, values, strict=True))
        parts.append(f'<polyline class="line" points="{line}"/>')
    parts += labels
    marked = list(zip(places, scales, front.values[row], bounds[row], strict=True))
    line = " ".join(f"{x:.1f},{scale(value):.1f}" for x, scale, value, _ in marked)
    parts.append(f'<polyline class="marked" points="{line}"/>')
    for x, scale, value, (low, high) in marked:
        if not math.isnan(low):
            parts.append(f'<path class="interval" d="M{x:.1f} {scale(low):.1f}V{scale(high):.1f}"/>')
        parts.append(_diamond(x, scale(value)))
    return "".join(parts)


def _directions(front: Front) -> list[tuple[str, bool]]:
    return list(zip(front.names, front.is_maximized(), strict=True))


def _short(name: str, most: int) -> str:
    """A name that leaves its neighbours room."""
    return name if len(name) <= max(most, 4) else f"{name[: max(most, 4) - 1]}…"


def _grid(across: _Scale, up: _Scale) -> str:
    lines = [
        f'<path class="grid" d="M{across(tick):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
        f'<text class="tick" x="{across(tick):.1f}" y="{_HEIGHT - _BOTTOM + 19}" text-anchor="middle">{tick:.4g}</text>'
        for tick in across.ticks
    ]
    lines += [
        f'<path class="grid" d="M{_LEFT} {up(tick):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        for tick in up.ticks
    ]
    return "".join(lines)


def _dot(x: float, y: float, is_good: bool) -> str:
    if is_good:
        return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    return f'<rect class="point dominated" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'


def _diamond(x: float, y: float) -> str:
    return f'<path class="mark" d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"/>'
