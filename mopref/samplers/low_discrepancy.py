"""Low-discrepancy sequences on the simplex."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler, objective_count
from mopref.setting_types import check_numbers

__all__ = ["LowDiscrepancySampler"]


@SAMPLERS.register("low-discrepancy")
class LowDiscrepancySampler(PreferenceSampler):
    """λ uniform on the simplex, from a scrambled Sobol or Halton sequence: fewer holes and clumps than random draws.

    The sequence fills the cube [0, 1]^{m-1} evenly, and λ breaks pieces off a stick of length 1:

        λ_i = (1 − Σ_{j<i} λ_j) (1 − (1 − u_i)^{1/(m−i)}),   i < m

    with the rest for λ_m. This map is one-to-one and keeps shares of volume, so that evenly filled stays evenly filled.
    The gaps between sorted u_i are uniform on the simplex too, but lay (m − 1)! pieces of the cube on top of each
    other, and spread less evenly the more objectives there are (see docs/benchmarks.md).

    All draws together are one sequence, however it is cut into draws. Where each draw is a power of two, each draw of a
    Sobol sequence is evenly spread by itself.

    Args:
        num_objectives: m, or the names of the m objectives.
        sequence: ``"sobol"`` or ``"halton"``.
        seed: seeds the scrambling, which makes every single λ uniform.

    Raises:
        ValueError: an unknown sequence, or more objectives than it is known for.

    Source: A. B. Owen, Scrambling Sobol' and Niederreiter-Xing points (1998); K.-T. Fang and Y. Wang, Number-theoretic
    Methods in Statistics (1994), for the map.

    Example:
        >>> LowDiscrepancySampler(num_objectives=2).sample(4)[:, 0].mul(4).floor().sort().values
        tensor([0., 1., 2., 3.])
    """

    def __init__(self, num_objectives: int | Sequence[str], sequence: str = "sobol", seed: int = 0) -> None:
        from scipy.stats import qmc

        if sequence not in ("sobol", "halton"):
            raise ValueError(f"sequence is {sequence!r}: choose 'sobol' or 'halton'.")
        self.sequence = sequence
        count = objective_count(num_objectives)
        check_numbers({"num_objectives": count})
        if sequence == "sobol" and count - 1 > qmc.Sobol.MAXDIM:
            raise ValueError(
                f"num_objectives is {count}: Sobol's sequence is known for {qmc.Sobol.MAXDIM + 1} at most, so choose "
                "'halton'."
            )
        super().__init__(num_objectives, seed)

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart with the first point of the sequence whose scrambling is drawn with ``seed``."""
        from scipy.stats import qmc

        super().seed(seed)
        self._seed = [int(word) for word in seed] if isinstance(seed, Sequence) else int(seed)
        engine = qmc.Sobol if self.sequence == "sobol" else qmc.Halton
        self._engine = engine(max(self.num_objectives - 1, 1), scramble=True, seed=self._generator)

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """The next ``n`` points of the sequence, shape ``(n, m)``; the generator was used up for the scrambling."""
        # The very first point is drawn alone: SciPy warns where the first draw's size is no power of two.
        first = self._engine.random(1) if self._engine.num_generated == 0 else np.empty((0, self._engine.d))
        points = np.concatenate([first, self._engine.random(n - len(first))])
        preferences = np.empty((n, self.num_objectives))
        rest = np.ones(n)
        for i in range(self.num_objectives - 1):
            remainder = rest * (1 - points[:, i]) ** (1 / (self.num_objectives - 1 - i))
            preferences[:, i] = rest - remainder
            rest = remainder
        preferences[:, -1] = rest
        return preferences

    def state_dict(self) -> dict[str, Any]:
        """The seed, and how many points of the sequence were drawn."""
        return {"seed": self._seed, "drawn": self._engine.num_generated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the sequence of a state given by :meth:`state_dict`."""
        self.seed(state["seed"])
        if state["drawn"]:
            self._engine.fast_forward(state["drawn"])
