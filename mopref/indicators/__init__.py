"""How good a front is: pure functions of arrays.

Everything is **minimised** unless ``maximize`` says otherwise: one bool for all objectives, or one per objective.
``values`` is always ``(N, m)``: N points, m objectives. Lists, numpy arrays and torch tensors (with a gradient, on a
device, in half precision) are accepted, computed on as float64 copies, and never modified. A NaN or an infinite number
raises a :class:`ValueError` that names the row, since an indicator that drops a diverged point silently makes a broken
model look good. An empty set of points raises too, except where the answer is plain (:func:`hypervolume` is 0,
:func:`non_dominated` is empty).

A front on which every preference reaches the same point has perfect :func:`sparsity` and :func:`spacing`: read those
next to :func:`hypervolume`, :func:`range_of_objectives` and :func:`number_of_distinct_non_dominated`.
"""

from mopref.indicators.distances import fill_distance, gd, gd_plus, igd, igd_plus
from mopref.indicators.front_quality import (
    fraction_non_dominated,
    non_dominated,
    number_of_distinct_non_dominated,
    range_of_objectives,
    spacing,
    sparsity,
)
from mopref.indicators.preference import (
    PreferenceRegret,
    cross_angle,
    inner_product,
    preference_regret,
    scalarizer_cross_angle,
    scalarizer_regret,
)
from mopref.indicators.volume import HypervolumeResult, hypervolume, hypervolume_with_method

__all__ = [
    "HypervolumeResult",
    "PreferenceRegret",
    "cross_angle",
    "fill_distance",
    "fraction_non_dominated",
    "gd",
    "gd_plus",
    "hypervolume",
    "hypervolume_with_method",
    "igd",
    "igd_plus",
    "inner_product",
    "non_dominated",
    "number_of_distinct_non_dominated",
    "preference_regret",
    "range_of_objectives",
    "scalarizer_cross_angle",
    "scalarizer_regret",
    "spacing",
    "sparsity",
]
