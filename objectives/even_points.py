"""Points in even steps along a curve, for fronts that are known in closed form."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mopref.setting_types import check_numbers, python_value

__all__ = ["even_along", "even_spread"]

# So many straight steps stand for a piece of a curve where its length is measured.
_KNOTS = 2_001


def even_spread(start: float, end: float, num_points: int) -> Tensor:
    """``num_points`` numbers in even steps from start to end, shape ``(num_points,)``, float64.

    Raises:
        ValueError: fewer than two points, or more than memory holds.
        TypeError: no whole number.
    """
    num_points = python_value(num_points, int, "num_points")
    if num_points < 2:
        raise ValueError(f"{num_points} points cannot hold both ends of the front: ask for at least 2.")
    check_numbers({"num_points": num_points})
    return torch.linspace(start, end, num_points, dtype=torch.float64)


def even_along(values: Callable[[Tensor], Tensor], pieces: Sequence[tuple[float, float]], num_points: int) -> Tensor:
    """Numbers t whose ``values(t)`` lie in even steps along a curve, whatever its speed: ``(num_points,)``, float64.

    The length of the curve is measured with each objective divided by its range. The first and the last end of the
    pieces are among the points.

    Args:
        values: t ``(K,)`` to the curve's points ``(K, m)``.
        pieces: the ranges of t that make up the curve, in order; what lies between two of them has no length.
        num_points: how many.

    Raises:
        ValueError: fewer than two points.
    """
    share = even_spread(0.0, 1.0, num_points)
    # Squared steps: a curve may start as steeply as a square root does.
    knots = torch.cat([start + (end - start) * even_spread(0.0, 1.0, _KNOTS).square() for start, end in pieces])
    curve = values(knots)
    steps = torch.linalg.vector_norm((curve / (curve.amax(dim=0) - curve.amin(dim=0))).diff(dim=0), dim=1)
    steps[_KNOTS - 1 :: _KNOTS] = 0
    length = torch.cat([steps.new_zeros(1), steps.cumsum(dim=0)])
    targets = share * length[-1]
    # The first knot at or beyond each length, so that no point is put between two pieces.
    right = torch.searchsorted(length, targets).clamp(min=1)
    left = right - 1
    fraction = (targets - length[left]) / (length[right] - length[left]).clamp(min=torch.finfo(length.dtype).tiny)
    return torch.lerp(knots[left], knots[right], fraction)
