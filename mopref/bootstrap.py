"""How far a mean over held-out rows would move with other prompts: a paired bootstrap over prompts.

Rows of one prompt belong together, so whole prompts are drawn and not rows; and every figure is measured on the same
draw, so that a difference of two figures, or a hypervolume of several, has its own right interval.
"""

from collections.abc import Hashable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mopref._arrays import Array, real_array
from mopref._repr import short_repr
from mopref.setting_types import check_numbers, checked_count, checked_seed, python_value

__all__ = ["BootstrapMeans", "bootstrap_means", "checked_level", "holm", "paired_p_value", "percentile_interval"]


class BootstrapMeans(NamedTuple):
    """Means of figures, and what they are in resamples.

    Attributes:
        means: Σ values / number of them, over the rows that count: ``(…)``; NaN where none does.
        resampled: the same in each resample, ``(resamples, …)``; NaN where a resample holds no row that counts, and in
            all resamples of a figure that rests on fewer than two units.
    """

    means: Array
    resampled: Array


def bootstrap_means(values: Any, counted: Any, units: Any, *, resamples: int = 1000, seed: int = 0) -> BootstrapMeans:
    """Means over rows, and the same means in resamples of whole units (Davison and Hinkley 1997, §3.8).

    A resample b draws as many units as there are, with replacement, the same ones for every figure. With w_bu the
    times that unit u was drawn, S_u the sum of a figure's values over the rows of u that count, and K_u their number,
    a resampled mean is the ratio Σ_u w_bu S_u / Σ_u w_bu K_u.

    Args:
        values: ``(…, rows)``, in any unit and direction; what does not count may be NaN.
        counted: bool, of a shape that broadcasts to that of ``values``: whether a row counts for a figure.
        units: ``(rows,)``, a label for each row: which prompt it belongs to. Labels are drawn in their sorted order
            where they have one, so that the order of the rows does not matter; else in that of their first row.
        resamples: how many.
        seed: of the draw; a seed gives the same resamples twice, and more of them begin with the same ones.

    Returns:
        The means ``(…)`` and the resampled means ``(resamples, …)``, float64.

    Raises:
        ValueError: shapes that do not match, no rows, a value that counts and is NaN or infinite, a label that is
            missing or cannot be compared, resamples below 1, or a seed out of range.
        TypeError: flags that are no bools, or resamples or a seed that are no whole numbers.

    Example:
        >>> means, resampled = bootstrap_means([[0.0, 1.0, 5.0]], [True, True, True], ["a", "a", "b"])
        >>> means
        array([2.])
        >>> np.unique(resampled)  # twice a, both, and twice b
        array([0.5, 2. , 5. ])
    """
    count, generator = checked_count(resamples, "resamples"), np.random.default_rng(checked_seed(seed) % 2**64)
    array = real_array(values, "values")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"values has shape {array.shape}: it must be (…, rows), with one row at least.")
    flags = _checked_flags(counted, array.shape)
    places = _places_of_units(units, array.shape[-1])
    array[~np.broadcast_to(flags, array.shape)] = 0.0
    if not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(
            f"values has {array[place]} at {place}, in a row that counts: find out why it diverged, or let that row "
            "not count and say so."
        )
    sums, numbers = _by_unit(array, places), _by_unit(flags.astype(np.float64), places)
    check_numbers({"resamples": count, "units": sums.shape[-1]})
    weights = _drawn_times(count, sums.shape[-1], generator)
    resampled = _ratio(_weighted(weights, sums), _weighted(weights, numbers))
    resampled[:, np.broadcast_to((numbers > 0).sum(axis=-1) < 2, resampled.shape[1:])] = np.nan
    return BootstrapMeans(_ratio(sums.sum(axis=-1), numbers.sum(axis=-1)), resampled)


def percentile_interval(resampled: Any, level: float = 0.9) -> Array:
    """The interval between the (1 − level)/2 and the (1 + level)/2 quantile of resampled figures.

    Efron and Tibshirani 1993, chapter 13.

    Args:
        resampled: ``(resamples, …)``: means of :func:`bootstrap_means`, or differences or hypervolumes of them. NaN
            is left out.
        level: share of resamples between the bounds, in (0, 1).

    Returns:
        Lower and upper bounds, ``(…, 2)``, in the unit of the figures; both NaN where every resample is, as it is where
        a figure rests on fewer than two units: nothing is known of its spread then.

    Raises:
        ValueError: no resamples, an infinite number, or a level that is not between 0 and 1.
        TypeError: a level that is no number.

    Example:
        >>> percentile_interval(np.arange(101.0), level=0.9)
        array([ 5., 95.])
    """
    share = checked_level(level)
    array = real_array(resampled, "resampled")
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"resampled has shape {array.shape}: it must be (resamples, …), with one resample at least.")
    if np.isinf(array).any():
        place = tuple(np.argwhere(np.isinf(array))[0].tolist())
        raise ValueError(f"resampled has {array[place]} at {place}: leave out what cannot be measured as NaN.")
    quantiles = [(1 - share) / 2, (1 + share) / 2]
    flat = array.reshape(len(array), -1)
    missing = np.isnan(flat)
    bounds = np.full((2, flat.shape[1]), np.nan)
    whole = ~missing.any(axis=0)
    partly = missing.any(axis=0) & ~missing.all(axis=0)
    bounds[:, whole] = np.quantile(flat[:, whole], quantiles, axis=0)
    # Slow, a figure at a time.
    bounds[:, partly] = np.nanquantile(flat[:, partly], quantiles, axis=0)
    return bounds.T.reshape(*array.shape[1:], 2)


def paired_p_value(differences: Any) -> float:
    """Two-sided p of "there is no difference", from resampled differences: 2·min(P(δ ≤ 0), P(δ ≥ 0)), at most 1.

    The level at which the percentile interval would just hold 0. With B resamples each share is (count + 1)/(B + 1), so
    that p is never below 2/(B + 1). (Davison and Hinkley 1997, §4.4, and Efron and Tibshirani 1993, §15.4.)

    Args:
        differences: ``(resamples,)``, of figures that were measured on the same draws. NaN is left out.

    Returns:
        p in (0, 1]; NaN where every difference is.

    Raises:
        ValueError: no differences, or more dimensions than one.

    Example:
        >>> paired_p_value([0.3, 0.1, 0.2, -0.1, 0.2, 0.4, 0.2, 0.1, 0.2])
        0.4
    """
    array = real_array(differences, "differences")
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"differences have shape {array.shape}: give one for each resample, one at least.")
    known = array[~np.isnan(array)]
    if len(known) == 0:
        return float("nan")
    shares = [((known <= 0).sum() + 1) / (len(known) + 1), ((known >= 0).sum() + 1) / (len(known) + 1)]
    return float(min(1.0, 2 * min(shares)))


def holm(p_values: Any) -> Array:
    """Holm's correction of K tests: the k-th smallest p times K − k + 1, never below the one before, at most 1.

    A test whose corrected p is at most α is rejected while the chance of any false rejection stays at α, however the
    tests depend on each other (Holm 1979).

    Args:
        p_values: ``(K,)``, in [0, 1]; NaN stays NaN and is no test.

    Returns:
        Corrected p, ``(K,)``, in their order.

    Raises:
        ValueError: more dimensions than one, or a p outside [0, 1].

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2)
        array([0.03, 0.06, 0.06])
    """
    array = real_array(p_values, "p_values")
    if array.ndim != 1 or ((array < 0) | (array > 1)).any():
        raise ValueError(f"p_values are {short_repr(p_values)}: give a list of numbers between 0 and 1.")
    tested = np.flatnonzero(~np.isnan(array))
    order = tested[np.argsort(array[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected = np.full(len(array), np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * array[order]))
    return corrected


def checked_level(level: Any, name: str = "level") -> float:
    """The level of an interval as a float, in (0, 1).

    Raises:
        ValueError: a level that is not between 0 and 1.
        TypeError: no number.
    """
    share: float = python_value(level, float, name)
    if not 0 < share < 1:
        raise ValueError(f"{name} is {share:g}: it is a probability, so give a number between 0 and 1.")
    return share


def _checked_flags(counted: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The flags with as many axes as values have, of length 1 where they were given so, and one for each row."""
    try:
        flags = np.asarray(counted.detach().cpu() if hasattr(counted, "detach") else counted)
    except (ValueError, RuntimeError) as error:
        raise TypeError(
            f"counted is no rectangular array of bools ({error}): give True for a row that counts."
        ) from error
    if flags.dtype != np.bool_:
        raise TypeError(f"counted is of type {flags.dtype}: give bools, True for a row that counts.")
    try:
        fits = np.broadcast_shapes(flags.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"counted has shape {flags.shape}, and values {shape}: it must broadcast to theirs.")
    flags = flags.reshape((1,) * (len(shape) - flags.ndim) + flags.shape)
    return np.broadcast_to(flags, (*flags.shape[:-1], shape[-1]))


def _places_of_units(units: Any, rows: int) -> NDArray[np.intp]:
    """For each row the place of its unit in their order, ``(rows,)``."""
    if isinstance(units, str | bytes | Mapping | Set | Iterator) or not _is_list(units):
        raise ValueError(f"units are {short_repr(units)}, which is no list of labels: give one for each row.")
    # Tensors and the numbers of an array are told apart by their identity or their type, not by what they hold.
    labels: list[Any] = units.tolist() if hasattr(units, "tolist") else list(units)
    labels = [label.item() if getattr(label, "ndim", None) == 0 else label for label in labels]
    if len(labels) != rows:
        raise ValueError(f"there are {len(labels)} units, but values has {rows} rows: give one for each row.")
    for row, label in enumerate(labels):
        if hasattr(label, "ndim") or not isinstance(label, Hashable) or label is None or label != label:
            raise ValueError(f"the unit of row {row} is {label!r}: give a label that is the same for rows of a prompt.")
    found = dict.fromkeys(labels)
    try:
        order = sorted(found)
    except TypeError:  # labels of several types
        order = list(found)
    places = {label: place for place, label in enumerate(order)}
    return np.array([places[label] for label in labels], dtype=np.intp)


def _is_list(units: Any) -> bool:
    """Whether units are many: an array of no dimension has a length by its type alone."""
    return hasattr(units, "__len__") and getattr(units, "ndim", 1) != 0


def _by_unit(rows: Array, places: NDArray[np.intp]) -> Array:
    """Sums ``(…, units)`` over the rows ``(…, rows)`` of each unit."""
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    return np.asarray(np.add.reduceat(rows[..., order], starts, axis=-1))


def _drawn_times(resamples: int, units: int, generator: np.random.Generator) -> Array:
    """How often each unit is drawn in each resample, ``(resamples, units)``: multinomial counts, units a row."""
    weights = np.empty((resamples, units))
    for row in weights:
        row[:] = np.bincount(generator.integers(units, size=units), minlength=units)
    return weights


def _weighted(weights: Array, of_units: Array) -> Array:
    """Σ_u w_bu x_u, ``(resamples, …)`` of ``(…, units)``."""
    totals = weights @ of_units.reshape(-1, of_units.shape[-1]).T
    return np.asarray(totals.reshape(len(weights), *of_units.shape[:-1]))


def _ratio(sums: Array, numbers: Array) -> Array:
    """Sums by numbers that broadcast to them; NaN where a number is 0."""
    shape = np.broadcast_shapes(sums.shape, numbers.shape)
    return np.asarray(np.divide(sums, numbers, out=np.full(shape, np.nan), where=numbers > 0))
