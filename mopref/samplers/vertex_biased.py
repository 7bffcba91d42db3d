"""Corners of the simplex more often than uniform draws give them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mopref.preferences import uniform_preferences
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.setting_types import python_value

__all__ = ["VertexBiasedSampler"]


@SAMPLERS.register("vertex-biased")
class VertexBiasedSampler(PreferenceSampler):
    """A corner of the simplex with probability p (each corner equally likely), else uniform on the simplex.

    The corners are where a front is widest and uniform draws are rarest. Drawing them more often is what public
    re-implementations of Panacea (arXiv 2402.02030) do.

    Args:
        num_objectives: m, or the names of the m objectives.
        vertex_probability: p in [0, 1].
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: p outside [0, 1].

    Example:
        >>> VertexBiasedSampler(num_objectives=2, vertex_probability=1.0).sample(100).amax(dim=1).unique()
        tensor([1.])
    """

    def __init__(self, num_objectives: int | Sequence[str], vertex_probability: float = 0.3, seed: int = 0) -> None:
        super().__init__(num_objectives, seed)
        self.vertex_probability: float = python_value(vertex_probability, float, "vertex_probability")
        if not 0.0 <= self.vertex_probability <= 1.0:
            raise ValueError(f"vertex_probability is {vertex_probability}: it is a probability, between 0 and 1.")

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw from the mixture, shape ``(n, m)``."""
        inside = uniform_preferences(self.num_objectives, n, generator)
        corners = np.eye(self.num_objectives)[generator.integers(self.num_objectives, size=n)]
        at_corner = generator.random(n) < self.vertex_probability
        return np.where(at_corner[:, None], corners, inside)
