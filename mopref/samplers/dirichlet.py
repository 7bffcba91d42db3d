"""Dirichlet draws, and the uniform ones among them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mopref._arrays import named_array, real_array
from mopref.preferences import uniform_preferences
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler

__all__ = ["DirichletSampler", "UniformSampler"]


@SAMPLERS.register("dirichlet")
class DirichletSampler(PreferenceSampler):
    """λ ~ Dirichlet(α): density ∝ Π λ_i^{α_i − 1}.

    Args:
        num_objectives: m, or the names of the m objectives.
        alpha: one concentration > 0 for all objectives, or one each, also by name where ``num_objectives`` has names.
            Below 1 favours the corners, above 1 the centre; 1 is uniform.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: a concentration that is not positive and finite, or a wrong number of them.

    Attributes:
        alpha: the concentrations, ``(m,)``.

    Example:
        >>> DirichletSampler(num_objectives=3, alpha=0.5)
        DirichletSampler(num_objectives=3, alpha=[0.5, 0.5, 0.5])
    """

    def __init__(
        self,
        num_objectives: int | Sequence[str],
        alpha: float | Sequence[float] | Mapping[str, float] = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(num_objectives, seed)
        concentration = real_array(alpha, "alpha") if self.names is None else named_array(alpha, self.names, "alpha")
        if concentration.ndim == 0:
            concentration = np.full(self.num_objectives, float(concentration))
        if concentration.shape != (self.num_objectives,):
            raise ValueError(
                f"alpha has shape {concentration.shape}: give one number or {self.num_objectives} of them."
            )
        if not (np.isfinite(concentration).all() and (concentration > 0).all()):
            raise ValueError(f"alpha is {concentration.tolist()}: every concentration must be positive and finite.")
        self.alpha = concentration

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw from the Dirichlet distribution, shape ``(n, m)``."""
        return generator.dirichlet(self.alpha, size=n)


@SAMPLERS.register("uniform")
class UniformSampler(PreferenceSampler):
    """λ uniform on the simplex: Dirichlet(1, …, 1).

    Args:
        num_objectives: m, or the names of the m objectives.
        seed: seeds the sampler's own generator.

    Example:
        >>> UniformSampler(num_objectives=3).sample(2).sum(dim=1)
        tensor([1., 1.])
    """

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw from the uniform distribution, shape ``(n, m)``."""
        return uniform_preferences(self.num_objectives, n, generator)
