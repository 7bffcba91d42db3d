"""One preference from each of several parts of the simplex."""

import numpy as np
from numpy.typing import NDArray

from mopref.preferences import simplex_cells, uniform_preferences
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler

__all__ = ["StratifiedSampler"]


@SAMPLERS.register("stratified")
class StratifiedSampler(PreferenceSampler):
    """Each draw covers the whole simplex: one λ from each of n parts of equal volume, in random order.

    The parts are those of :func:`mopref.preferences.simplex_cells`: n intervals for two objectives, n small simplices
    for more. λ is uniform in its part, so each λ by itself is uniform on the simplex. A draw of one is a uniform draw.

    Args:
        num_objectives: m, or the names of the m objectives.
        seed: seeds the sampler's own generator.

    Example:
        >>> StratifiedSampler(num_objectives=2).sample(4)[:, 0].mul(4).floor().sort().values
        tensor([0., 1., 2., 3.])
    """

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw one preference from each of ``n`` parts, shape ``(n, m)``."""
        cells = simplex_cells(self.num_objectives, n)[generator.permutation(n)]
        weights = uniform_preferences(self.num_objectives, n, generator)
        return np.einsum("ni,nij->nj", weights, cells)
