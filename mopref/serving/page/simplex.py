"""λ on the page: what sliders and a triangle do with it, under the least weights that an operator set."""

from collections.abc import Sequence

__all__ = ["bounds", "centre", "corner", "moved", "nearest"]


def bounds(minimums: Sequence[float]) -> list[tuple[float, float]]:
    """Between which values each λ_i lies: [l_i, 1 − Σ_{j≠i} l_j].

    Example:
        >>> bounds([0.0, 0.25])
        [(0.0, 0.75), (0.25, 1.0)]
    """
    total = sum(minimums)
    return [(least, max(least, 1 - (total - least))) for least in minimums]


def corner(place: int, minimums: Sequence[float]) -> tuple[float, ...]:
    """The λ that gives an objective all that bounds leave.

    Example:
        >>> corner(0, [0.0, 0.25])
        (0.75, 0.25)
    """
    return tuple(high if i == place else low for i, (low, high) in enumerate(bounds(minimums)))


def centre(minimums: Sequence[float]) -> tuple[float, ...]:
    """The allowed λ nearest to that of equal weights.

    Example:
        >>> centre([0.0, 0.75])
        (0.25, 0.75)
    """
    return nearest([1 / len(minimums)] * len(minimums), minimums)


def moved(weights: Sequence[float], place: int, value: float, minimums: Sequence[float]) -> tuple[float, ...]:
    """λ after its slider ``place`` was moved to ``value``: what the others have beyond their bounds is scaled alike.

        λ'_j = l_j + (λ_j − l_j) · (1 − λ'_i − Σ_{k≠i} l_k) / Σ_{k≠i} (λ_k − l_k)      j ≠ i

    Where all others are at their bounds, they share evenly.

    Args:
        weights: λ before, which keeps the bounds, ``(m,)``.
        place: i, of the slider that was moved.
        value: where to; one out of bounds is the nearest within.
        minimums: l, the least weights, ``(m,)``, whose sum is at most 1.

    Returns:
        λ', ``(m,)``.

    Example:
        >>> moved([0.5, 0.3, 0.2], 0, 0.0, [0.0, 0.0, 0.0])
        (0.0, 0.6, 0.4)
    """
    low, high = bounds(minimums)[place]
    wanted = min(max(value, low), high)
    others = [i for i in range(len(weights)) if i != place]
    spare = {i: max(0.0, weights[i] - minimums[i]) for i in others}
    total = sum(spare.values())
    left = max(0.0, 1 - wanted - sum(minimums[i] for i in others))
    shares = {i: spare[i] / total if total > 0 else 1 / len(others) for i in others}
    return tuple(wanted if i == place else minimums[i] + left * shares[i] for i in range(len(weights)))


def nearest(weights: Sequence[float], minimums: Sequence[float]) -> tuple[float, ...]:
    """The λ nearest to given weights that lies on the simplex and keeps the bounds: argmin Σ_i (λ_i − w_i)², λ_i ≥ l_i.

    Args:
        weights: any finite numbers, ``(m,)``.
        minimums: l, the least weights, ``(m,)``, whose sum is at most 1.

    Returns:
        λ, ``(m,)``.

    Source: Held, Wolfe and Crowder, Validation of subgradient optimization (1974), for the threshold.

    Example:
        >>> nearest([0.9, 0.1], [0.0, 0.25])
        (0.75, 0.25)
    """
    spare = max(0.0, 1 - sum(minimums))
    excess = [weight - least for weight, least in zip(weights, minimums, strict=True)]
    threshold, total = 0.0, 0.0
    for count, value in enumerate(sorted(excess, reverse=True), start=1):
        total += value
        if value - (total - spare) / count > 0 or count == 1:
            threshold = (total - spare) / count
    kept = [max(0.0, value - threshold) for value in excess]
    # Rounding is taken off once more.
    scale = spare / sum(kept) if sum(kept) > 0 else 0.0
    return tuple(least + scale * value for least, value in zip(minimums, kept, strict=True))
