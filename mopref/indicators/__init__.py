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

from mopref._faces import public_names as _public_names

from .coverage import coverage as coverage, shares_of_union as shares_of_union
from .distances import (
    fill_distance as fill_distance,
    gd as gd,
    gd_plus as gd_plus,
    igd as igd,
    igd_plus as igd_plus,
)
from .front_quality import (
    fraction_non_dominated as fraction_non_dominated,
    largest_hole as largest_hole,
    non_dominated as non_dominated,
    number_of_distinct_non_dominated as number_of_distinct_non_dominated,
    range_of_objectives as range_of_objectives,
    spacing as spacing,
    sparsity as sparsity,
)
from .preference import (
    PreferenceRegret as PreferenceRegret,
    cross_angle as cross_angle,
    inner_product as inner_product,
    preference_regret as preference_regret,
    scalarizer_cross_angle as scalarizer_cross_angle,
    scalarizer_regret as scalarizer_regret,
)
from .volume import (
    HypervolumeResult as HypervolumeResult,
    hypervolume as hypervolume,
    hypervolume_with_method as hypervolume_with_method,
)

__all__ = _public_names(globals())
