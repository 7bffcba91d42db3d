"""The points of a lattice in random order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref.preferences import simplex_lattice
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.setting_types import python_value

__all__ = ["LatticeSampler"]


@SAMPLERS.register("lattice")
class LatticeSampler(PreferenceSampler):
    """The points of a lattice in random order, each once before any comes again, in a new order each time.

    Every pass holds the corners exactly, and trains just the preferences that a lattice of this size evaluates.

    Args:
        num_objectives: m, or the names of the m objectives.
        num_points: about how many points; exactly as many as :func:`mopref.simplex_lattice` returns.
        method: the lattice's, see :func:`mopref.simplex_lattice`.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: fewer points than corners, or an unknown method.

    Attributes:
        lattice: the points, ``(≤ num_points, m)``.

    Example:
        >>> LatticeSampler(num_objectives=2, num_points=3).sample(3)[:, 0].sort().values
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __init__(
        self, num_objectives: int | Sequence[str], num_points: int, method: str = "das-dennis", seed: int = 0
    ) -> None:
        super().__init__(num_objectives, seed)
        self.num_points: int = python_value(num_points, int, "num_points")
        self.method = method
        self.lattice = simplex_lattice(self.num_objectives, self.num_points, method)

    def options(self) -> dict[str, Any]:
        """What the lattice is made from."""
        return {**self._objectives, "num_points": self.num_points, "method": self.method}

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart from ``seed`` with a new pass."""
        super().seed(seed)
        self._remaining: list[int] = []

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """The next ``n`` points, shape ``(n, m)``; a draw may end one pass and begin the next."""
        while len(self._remaining) < n:
            self._remaining += generator.permutation(len(self.lattice)).tolist()
        indices, self._remaining = self._remaining[:n], self._remaining[n:]
        return self.lattice[indices].double().numpy()

    def state_dict(self) -> dict[str, Any]:
        """The generator's state and the rest of the current pass."""
        return {**super().state_dict(), "remaining": list(self._remaining)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the pass of a state given by :meth:`state_dict`."""
        super().load_state_dict(state)
        self._remaining = list(state["remaining"])
