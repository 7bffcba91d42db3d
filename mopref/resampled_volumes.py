"""The hypervolume in resamples of held-out rows: in all of them, or in fewer where each takes long."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mopref._arrays import Array, Maximize, as_vector, real_array, signs
from mopref._volume import ALWAYS_EXACT_UP_TO, volume_below

__all__ = ["resampled_hypervolumes"]

# Of so many resamples at most, by number of objectives, where volumes are exact: one takes a millisecond at m = 6, and
# some ten microseconds up to m = 4. Others take up to a tenth of a second.
_MOST_RESAMPLES = {5: 1000, 6: 1000}
_MOST_RESAMPLES_BEYOND = 200


def resampled_hypervolumes(resampled: Any, reference_point: ArrayLike, maximize: Maximize = False) -> Array:
    """The hypervolume of each front in each resample (:func:`mopref.indicators.hypervolume`; higher is better).

    Args:
        resampled: points, ``(resamples, …, N, m)``: resampled means of :func:`mopref.bootstrap.bootstrap_means`.
        reference_point: ``(m,)``, in the direction of the points.
        maximize: direction, one bool or one per objective.

    Returns:
        ``(resamples, …)``. NaN where a front has a number that is not known, and where a volume takes long in all
        resamples but the first: 1000 for m = 5 and 6, 200 for more objectives or where it is approximate.

    Raises:
        ValueError: points of fewer axes, or a reference point of another length or that is not finite.
    """
    fronts = real_array(resampled, "resampled")
    if fronts.ndim < 3:
        raise ValueError(f"resampled has shape {fronts.shape}: it must be (resamples, …, N, m).")
    m = fronts.shape[-1]
    factors = signs(maximize, m)
    reference = as_vector(reference_point, m, "reference_point") * factors
    known = np.asarray(np.isfinite(fronts).all(axis=(-2, -1)))
    if m > ALWAYS_EXACT_UP_TO and known.any():
        _, is_exact = volume_below(fronts[known][0] * factors, reference)
        most = _MOST_RESAMPLES.get(m, _MOST_RESAMPLES_BEYOND) if is_exact else _MOST_RESAMPLES_BEYOND
        known[most:] = False
    volumes = np.full(known.shape, np.nan)
    volumes[known] = [volume_below(points, reference)[0] for points in fronts[known] * factors]
    return volumes
