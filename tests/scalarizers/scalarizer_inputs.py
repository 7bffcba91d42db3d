"""The scalarizers under test and what they are tested on: cases, batches, and the published formulas in plain Python.

Tensors are on the device and in the type that tests/_tensors.py has from the environment: MOPREF_TEST_DEVICE and
MOPREF_TEST_DTYPE, the CPU and float64 by default.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from _tensors import rand, randn
from hypothesis import strategies as st
from torch import Tensor

from mopref.scalarizer import Scalarizer
from mopref.scalarizers import SCALARIZERS

EPSILON, THETA, INVERTED_THETA, RHO, MU = 1e-3, 5.0, 0.1, 0.01, 0.01  # defaults of the library
ACHIEVEMENT_RHO, P, COSMOS_MU = 0.05, 3.0, 0.5  # others than the defaults

# The keyword of a scalarizer's point.
POINTS = {
    "linear": None,
    "tchebycheff": "ideal",
    "modified-tchebycheff": "ideal",
    "augmented-tchebycheff": "ideal",
    "smooth-tchebycheff": "ideal",
    "pbi": "ideal",
    "inverted-pbi": "nadir",
    "achievement": "reference_point",
    "augmented-achievement": "reference_point",
    "p-norm": "ideal",
    "cosmos": None,
    "hypervolume": "reference_point",
}
OPTIONS = {"augmented-achievement": {"rho": ACHIEVEMENT_RHO}, "p-norm": {"p": P}, "cosmos": {"mu": COSMOS_MU}}
NAMES = tuple(POINTS)
# Those that can be told that λ is a ray, and what a test calls them then.
WITH_CONVENTION = ("modified-tchebycheff", "pbi", "achievement", "augmented-achievement", "cosmos")
RAYS = tuple(f"{name} ray" for name in WITH_CONVENTION)
VARIANTS = (*NAMES, *RAYS)
WITH_POINT = tuple(name for name, keyword in POINTS.items() if keyword is not None)
WITH_IDEAL = tuple(name for name, keyword in POINTS.items() if keyword == "ideal")
# A larger loss is never better.
MONOTONE = tuple(name for name in VARIANTS if name.removesuffix(" ray") not in ("pbi", "inverted-pbi", "cosmos"))


def has_ideal(name: str) -> bool:
    """Whether a variant measures losses from an ideal point, which lies below them all."""
    return name.removesuffix(" ray") in WITH_IDEAL


def build(name: str, point: Sequence[float] | Tensor, **options: Any) -> Scalarizer:
    """The scalarizer of that name, or of that name and " ray", with its point, whatever the point is called."""
    if name in RAYS:
        name, options = name.removesuffix(" ray"), {"convention": "ray", **options}
    keyword = POINTS[name]
    return SCALARIZERS.make(name, **({} if keyword is None else {keyword: point}), **(OPTIONS.get(name, {}) | options))


class Case(NamedTuple):
    """Losses and a preference, and for each loss how far the scalarizer's point is from it, and on which side."""

    losses: list[float]
    preference: list[float]
    gaps: list[float]
    above: list[bool]

    def point(self, name: str) -> list[float]:
        """The point of that scalarizer: below all losses where it has to be, else on any side of any of them."""
        return [
            f + gap if above and not has_ideal(name) else f - gap
            for f, gap, above in zip(self.losses, self.gaps, self.above, strict=True)
        ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Cases of two to five objectives; weights may be 0."""
    m = draw(st.integers(2, 5))
    losses = draw(st.lists(st.floats(-5, 5), min_size=m, max_size=m))
    gaps = draw(st.lists(st.floats(0.01, 4), min_size=m, max_size=m))
    raw = draw(st.lists(st.integers(0, 20), min_size=m, max_size=m).filter(any))
    above = draw(st.just([True] * m) | st.just([False] * m) | st.lists(st.booleans(), min_size=m, max_size=m))
    return Case(losses, [weight / sum(raw) for weight in raw], gaps, above)


def away_from_zero(case: Case) -> bool:
    """Whether the losses have a direction, as COSMOS needs it."""
    return math.hypot(*case.losses) > 1e-2


def random_batch(shape: tuple[int, ...], name: str, seed: int = 0, dtype: torch.dtype | None = None) -> tuple:
    """Losses and interior preferences of a shape (…, m), and a point: below all losses where it has to be, or amid."""
    generator = torch.Generator().manual_seed(seed)
    losses, raw = randn(shape, generator, dtype), rand(shape, generator, dtype) + 0.05
    rows = losses.reshape(-1, shape[-1])
    point = rows.amin(0) - 0.3 if has_ideal(name) else rows.median(0).values + 0.01
    return losses, raw / raw.sum(-1, keepdim=True), point


def formula(name: str, f: Sequence[float], lam: Sequence[float], point: Sequence[float]) -> float:
    """The formula in plain Python, with the options of :func:`build`; of a variant " ray" the published one."""
    return _FORMULAS[name](f, lam, [a - b for a, b in zip(f, point, strict=True)])


def along_and_off(v: Sequence[float], lam: Sequence[float]) -> tuple[float, float]:
    """Length of v along λ, and its distance from the ray."""
    norm = math.sqrt(sum(w * w for w in lam))
    d1 = sum(x * w for x, w in zip(v, lam, strict=True)) / norm
    return d1, math.sqrt(sum((x - d1 * w / norm) ** 2 for x, w in zip(v, lam, strict=True)))


def _times(lam: Sequence[float], v: Sequence[float]) -> list[float]:
    return [w * x for w, x in zip(lam, v, strict=True)]


def _over(lam: Sequence[float], v: Sequence[float]) -> list[float]:
    return [x / max(w, EPSILON) for w, x in zip(lam, v, strict=True)]


def _smooth(f: Sequence[float], lam: Sequence[float], up: Sequence[float]) -> float:
    weighted = _times(lam, up)
    top = max(weighted)
    return top + MU * math.log(sum(math.exp((x - top) / MU) for x in weighted))


def _clamped(lam: Sequence[float]) -> list[float]:
    return [max(w, EPSILON) for w in lam]


def _inverse(lam: Sequence[float]) -> list[float]:
    return [1 / w for w in _clamped(lam)]


def _achievement(f: Sequence[float], lam: Sequence[float], up: Sequence[float]) -> float:
    return max(w * x if x >= 0 else x / w for w, x in zip(_clamped(lam), up, strict=True))


def _augmented_achievement(f: Sequence[float], lam: Sequence[float], up: Sequence[float]) -> float:
    return _achievement(f, lam, up) + ACHIEVEMENT_RHO * sum(_times(_clamped(lam), up))


def _pbi(f: Sequence[float], lam: Sequence[float], up: Sequence[float]) -> float:
    d1, d2 = along_and_off(up, lam)
    return d1 + THETA * d2


def _inverted_pbi(f: Sequence[float], lam: Sequence[float], up: Sequence[float]) -> float:
    d1, d2 = along_and_off([-x for x in up], lam)
    return -(d1 - INVERTED_THETA * d2)


def _cosmos(f: Sequence[float], lam: Sequence[float], ray: Sequence[float]) -> float:
    return sum(_times(lam, f)) - COSMOS_MU * along_and_off(f, ray)[0] / math.hypot(*f)


def _hypervolume(f: Sequence[float], lam: Sequence[float], up: Sequence[float]) -> float:
    s = min(-x for x in _over(lam, up))
    return -(s ** len(f)) if s >= 0 else max((1 + len(f) * w) * x for w, x in zip(lam, up, strict=True))


# Of the losses f, λ and the losses above the point.
_FORMULAS: dict[str, Callable[[Sequence[float], Sequence[float], Sequence[float]], float]] = {
    "linear": lambda f, lam, up: sum(_times(lam, f)),
    "tchebycheff": lambda f, lam, up: max(_times(lam, up)),
    "modified-tchebycheff": lambda f, lam, up: max(_times(_clamped(lam), up)),
    "modified-tchebycheff ray": lambda f, lam, up: max(_over(lam, up)),
    "augmented-tchebycheff": lambda f, lam, up: max(_times(lam, up)) + RHO * sum(up),
    "smooth-tchebycheff": _smooth,
    "pbi": lambda f, lam, up: _pbi(f, _inverse(lam), up),
    "pbi ray": _pbi,
    "inverted-pbi": _inverted_pbi,
    "achievement": _achievement,
    "achievement ray": lambda f, lam, up: max(_over(lam, up)),
    "augmented-achievement": _augmented_achievement,
    "augmented-achievement ray": lambda f, lam, up: max(_over(lam, up)) + ACHIEVEMENT_RHO * sum(_over(lam, up)),
    "p-norm": lambda f, lam, up: sum(x**P for x in _times(lam, up)) ** (1 / P),
    "cosmos": lambda f, lam, up: _cosmos(f, lam, _inverse(lam)),
    "cosmos ray": lambda f, lam, up: _cosmos(f, lam, lam),
    "hypervolume": _hypervolume,
}
