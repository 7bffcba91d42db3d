"""The volume below points that were checked: exact where that is quick, approximate otherwise."""

import numpy as np

from mopref._arrays import Array

__all__ = ["ALWAYS_EXACT_UP_TO", "EXACT_LIMITS", "volume_below"]

ALWAYS_EXACT_UP_TO = 4
# Largest number of points, by number of objectives, for which the exact hypervolume takes well under a second.
EXACT_LIMITS = {5: 5000, 6: 500, 7: 100}
_APPROXIMATION_SAMPLES = 2**18


def volume_below(points: Array, reference: Array) -> tuple[float, bool]:
    """The hypervolume, and whether it is exact.

    Args:
        points: ``(N, m)``, minimised and finite.
        reference: ``(m,)``, finite.
    """
    # What pymoo's indicator calls, too.
    from moocore import hv_approx, hypervolume, is_nondominated

    m = points.shape[1]
    if m > ALWAYS_EXACT_UP_TO:
        points = points[(points < reference).all(axis=1)]
        points = points[is_nondominated(points)]
    if len(points) == 0:
        return 0.0, True
    if m <= ALWAYS_EXACT_UP_TO or len(points) <= EXACT_LIMITS.get(m, 0):
        return float(hypervolume(points, ref=reference)), True
    # It samples directions evenly, and is 99 % off where objectives differ in size by 1000 : 1: give all one size.
    size = reference - points.min(axis=0)
    # This method samples a deterministic low-discrepancy sequence, so that the same points give the same number.
    unit = hv_approx(
        (points - reference) / size, ref=np.zeros_like(size), nsamples=_APPROXIMATION_SAMPLES, method="Rphi-FWE+"
    )
    return float(unit * np.prod(size)), False
