"""From the centre of the simplex to its corners, as training goes on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref.preferences import uniform_preferences
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.setting_types import python_value

__all__ = ["CurriculumSampler"]


@SAMPLERS.register("curriculum")
class CurriculumSampler(PreferenceSampler):
    """λ = 1/m + a (λ' − 1/m), where a grows from 0 to 1 with the number of preferences drawn so far.

    λ' is a corner with probability p (each equally likely), else uniform on the simplex. So the first draws lie around
    the centre, where all objectives count alike, and the corners come last; after ``num_preferences`` draws a stays 1.

    Args:
        num_objectives: m, or the names of the m objectives.
        num_preferences: how many are drawn until the whole simplex is reached, ≥ 1; half of steps · preferences a
            step, say.
        start: a of the first draw, in [0, 1].
        vertex_probability: p in [0, 1].
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> sampler = CurriculumSampler(num_objectives=2, num_preferences=100, vertex_probability=1.0)
        >>> sampler.sample(51)[[0, 50]].amax(dim=1)
        tensor([0.5000, 0.7500])
    """

    def __init__(
        self,
        num_objectives: int | Sequence[str],
        num_preferences: int = 1000,
        start: float = 0.0,
        vertex_probability: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(num_objectives, seed)
        self.num_preferences: int = python_value(num_preferences, int, "num_preferences")
        if self.num_preferences < 1:
            raise ValueError(
                f"num_preferences is {num_preferences}: the whole simplex is reached after 1 draw or more."
            )
        self.start: float = python_value(start, float, "start")
        self.vertex_probability: float = python_value(vertex_probability, float, "vertex_probability")
        for name, what in (("start", "a share of the simplex"), ("vertex_probability", "a probability")):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: it is {what}, between 0 and 1.")

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart from ``seed``, at the centre."""
        super().seed(seed)
        self._drawn = 0

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """The next ``n`` preferences, shape ``(n, m)``, each a little further out than the one before may be."""
        numbers = np.minimum(self._drawn + np.arange(n), self.num_preferences)
        self._drawn = int(min(self._drawn + n, self.num_preferences))
        reach = self.start + (1 - self.start) * numbers / self.num_preferences
        whole = uniform_preferences(self.num_objectives, n, generator)
        corners = np.eye(self.num_objectives)[generator.integers(self.num_objectives, size=n)]
        at_corner = generator.random(n) < self.vertex_probability
        target = np.where(at_corner[:, None], corners, whole)
        centre = 1 / self.num_objectives
        return np.asarray(centre + reach[:, None] * (target - centre)).clip(min=0)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state, and how many preferences were drawn until the whole simplex was reached."""
        return {**super().state_dict(), "drawn": self._drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`.

        Raises:
            ValueError: a state that is none; the sampler is unchanged then.
        """
        drawn = state.get("drawn")
        if type(drawn) is not int or drawn < 0:
            raise ValueError(
                f"the state of CurriculumSampler has drawn {drawn!r:.80}: give what its state_dict() gave."
            )
        super().load_state_dict(state)
        self._drawn = drawn
