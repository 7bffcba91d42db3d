"""Preference samplers: which preferences are drawn during training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["DirichletSampler", "PreferenceSampler", "UniformSampler", "VertexBiasedSampler"]


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

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart the generator from ``seed``."""
        self._generator = np.random.default_rng(seed)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state: JSON-able, for a checkpoint."""
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
