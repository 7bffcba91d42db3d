"""Preference samplers: which preferences are drawn during training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref.preferences import simplex_cells, simplex_lattice

if TYPE_CHECKING:
    from mopref.gradients.weighting import GradientWeighting
    from mopref.scalarizer import Scalarizer

__all__ = [
    "DirichletSampler",
    "LatticeSampler",
    "LowDiscrepancySampler",
    "PreferenceSampler",
    "StratifiedSampler",
    "UniformSampler",
    "VertexBiasedSampler",
]


class PreferenceSampler(ABC):
    """Draws preferences from the simplex Δ^{m-1} with a random generator of its own.

    A new sampler implements :meth:`draw`; seeding, checkpointing and types are handled here.

    Args:
        num_objectives: m, the length of a preference.
        seed: seeds the sampler's own generator; the same seed gives the same sequence.

    Raises:
        ValueError: ``num_objectives`` is below 1.
    """

    def __init__(self, num_objectives: int, seed: int = 0) -> None:
        if num_objectives < 1:
            raise ValueError(f"num_objectives is {num_objectives}: at least one objective is needed.")
        self.num_objectives = num_objectives
        self.seed(seed)

    @abstractmethod
    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw ``n`` preferences, shape ``(n, m)``, with ``generator`` as the only source of randomness."""

    def sample(self, n: int) -> Tensor:
        """Draw ``n`` preferences, shape ``(n, m)``, of the default floating-point type.

        Raises:
            ValueError: ``n`` is below 1.
        """
        if n < 1:
            raise ValueError(f"cannot draw {n} preferences: ask for at least one.")
        return torch.as_tensor(self.draw(n, self._generator), dtype=torch.get_default_dtype())

    def observe(  # noqa: B027 - an optional hook
        self, preferences: Tensor, losses: Tensor, scalarizer: "Scalarizer | GradientWeighting"
    ) -> None:
        """See what was reached with drawn preferences; nothing to do by default.

        ``ParetoTrainer`` calls it after every forward, so that a sampler may draw where there is more to gain.

        Args:
            preferences: the preferences drawn, ``(G, m)``.
            losses: the losses reached with them, ``(G, m)``, without a gradient.
            scalarizer: what makes one number or one direction of each preference's losses.
        """

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart from ``seed``: the same seed gives the same sequence."""
        self._generator = np.random.default_rng(seed)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: the generator's state, and what a sampler adds to it."""
        return {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._generator.bit_generator.state = state["generator"]


class DirichletSampler(PreferenceSampler):
    """λ ~ Dirichlet(α): density ∝ Π λ_i^{α_i − 1}.

    Args:
        num_objectives: m.
        alpha: one concentration > 0 for all objectives, or one each. Below 1 favours the corners, above 1 the
            centre; 1 is uniform.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: a concentration that is not positive and finite, or a wrong number of them.
    """

    def __init__(self, num_objectives: int, alpha: float | Sequence[float] = 1.0, seed: int = 0) -> None:
        super().__init__(num_objectives, seed)
        concentration = np.array(alpha, dtype=np.float64)
        if concentration.ndim == 0:
            concentration = np.full(num_objectives, float(concentration))
        if concentration.shape != (num_objectives,):
            raise ValueError(f"alpha has shape {concentration.shape}: give one number or {num_objectives} of them.")
        if not (np.isfinite(concentration).all() and (concentration > 0).all()):
            raise ValueError(f"alpha is {concentration.tolist()}: every concentration must be positive and finite.")
        self.alpha = concentration

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw from the Dirichlet distribution, shape ``(n, m)``."""
        return generator.dirichlet(self.alpha, size=n)


class UniformSampler(DirichletSampler):
    """λ uniform on the simplex: Dirichlet(1, …, 1)."""

    def __init__(self, num_objectives: int, seed: int = 0) -> None:
        super().__init__(num_objectives, 1.0, seed)


class VertexBiasedSampler(PreferenceSampler):
    """A corner of the simplex with probability p (each corner equally likely), else uniform on the simplex.

    The corners are where a front is widest and uniform draws are rarest. Drawing them more often is what public
    re-implementations of Panacea (arXiv 2402.02030) do.

    Args:
        num_objectives: m.
        vertex_probability: p in [0, 1].
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: p outside [0, 1].
    """

    def __init__(self, num_objectives: int, vertex_probability: float = 0.3, seed: int = 0) -> None:
        super().__init__(num_objectives, seed)
        if not 0.0 <= vertex_probability <= 1.0:
            raise ValueError(f"vertex_probability is {vertex_probability}: it is a probability, between 0 and 1.")
        self.vertex_probability = vertex_probability

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw from the mixture, shape ``(n, m)``."""
        inside = generator.dirichlet(np.ones(self.num_objectives), size=n)
        corners = np.eye(self.num_objectives)[generator.integers(self.num_objectives, size=n)]
        at_corner = generator.random(n) < self.vertex_probability
        return np.where(at_corner[:, None], corners, inside)


class LowDiscrepancySampler(PreferenceSampler):
    r"""λ uniform on the simplex, from a scrambled Sobol or Halton sequence: fewer holes and clumps than random draws.

    The sequence fills the cube [0, 1]^{m-1} evenly, and λ breaks pieces off a stick of length 1:

    .. math:: \lambda_i = \Big(1 - \sum_{j<i} \lambda_j\Big) \Big(1 - (1 - u_i)^{1/(m-i)}\Big), \quad i < m

    with the rest for λ_m. This map is one-to-one and keeps shares of volume, so that evenly filled stays evenly filled.
    The gaps between sorted u_i are uniform on the simplex too, but lay (m − 1)! pieces of the cube on top of each
    other: with 64 Sobol points the shares of points in half-spaces were off by 1.15, 1.34 and 1.50 times as much for
    m = 3, 4 and 5 (23 directions, mean of 20 scramblings).

    All draws together are one sequence, however it is cut into draws. Where each draw is a power of two, each draw of a
    Sobol sequence is evenly spread by itself.

    Args:
        num_objectives: m.
        sequence: ``"sobol"`` or ``"halton"``.
        seed: seeds the scrambling, which makes every single λ uniform.

    Raises:
        ValueError: an unknown sequence.

    Source: A. B. Owen, Scrambling Sobol' and Niederreiter-Xing points (1998); K.-T. Fang and Y. Wang, Number-theoretic
    Methods in Statistics (1994), for the map.

    Example:
        >>> LowDiscrepancySampler(num_objectives=2).sample(4)[:, 0].mul(4).floor().sort().values
        tensor([0., 1., 2., 3.])
    """

    def __init__(self, num_objectives: int, sequence: str = "sobol", seed: int = 0) -> None:
        if sequence not in ("sobol", "halton"):
            raise ValueError(f"sequence is {sequence!r}: choose 'sobol' or 'halton'.")
        self.sequence = sequence
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
        # By itself, since SciPy warns of a first draw that is no power of two.
        first = self._engine.random(1) if self._engine.num_generated == 0 else np.empty((0, self._engine.d))
        points = np.concatenate([first, self._engine.random(n - len(first))])
        preferences = np.empty((n, self.num_objectives))
        rest = np.ones(n)
        for i in range(self.num_objectives - 1):
            left = rest * (1 - points[:, i]) ** (1 / (self.num_objectives - 1 - i))
            preferences[:, i] = rest - left
            rest = left
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


class StratifiedSampler(PreferenceSampler):
    """Each draw covers the whole simplex: one λ from each of n parts of equal volume, in random order.

    The parts are those of :func:`mopref.preferences.simplex_cells`: n intervals for two objectives, n small simplices
    for more. λ is uniform in its part, so each λ by itself is uniform on the simplex. A draw of one is a uniform draw.

    Args:
        num_objectives: m.
        seed: seeds the sampler's own generator.

    Example:
        >>> StratifiedSampler(num_objectives=2).sample(4)[:, 0].mul(4).floor().sort().values
        tensor([0., 1., 2., 3.])
    """

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw one preference from each of ``n`` parts, shape ``(n, m)``."""
        cells = simplex_cells(self.num_objectives, n)[generator.permutation(n)]
        weights = generator.dirichlet(np.ones(self.num_objectives), size=n)
        return np.einsum("ni,nij->nj", weights, cells)


class LatticeSampler(PreferenceSampler):
    """The points of a lattice in random order, each once before any comes again, in a new order each time.

    Every pass holds the corners exactly, and trains just the preferences that a lattice of this size evaluates.

    Args:
        num_objectives: m.
        num_points: about how many points; exactly as many as :func:`mopref.simplex_lattice` returns.
        method: the lattice's, see :func:`mopref.simplex_lattice`.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: fewer points than corners, or an unknown method.

    Example:
        >>> LatticeSampler(num_objectives=2, num_points=3).sample(3)[:, 0].sort().values
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __init__(self, num_objectives: int, num_points: int, method: str = "das-dennis", seed: int = 0) -> None:
        super().__init__(num_objectives, seed)
        self.lattice = simplex_lattice(num_objectives, num_points, method)

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart from ``seed`` with a new pass."""
        super().seed(seed)
        self._remaining: list[int] = []

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """The next ``n`` points, shape ``(n, m)``; a draw may end one pass and begin the next."""
        while len(self._remaining) < n:
            self._remaining += generator.permutation(len(self.lattice)).tolist()
        drawn, self._remaining = self._remaining[:n], self._remaining[n:]
        return self.lattice[drawn].double().numpy()

    def state_dict(self) -> dict[str, Any]:
        """The generator's state and the rest of the current pass."""
        return {**super().state_dict(), "remaining": list(self._remaining)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the pass of a state given by :meth:`state_dict`."""
        super().load_state_dict(state)
        self._remaining = list(state["remaining"])
