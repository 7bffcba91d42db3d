"""PreferenceSampler: which preferences are drawn during training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._repr import OptionsRepr
from mopref.scalarizer import Scalarizer

__all__ = ["PreferenceSampler"]


class PreferenceSampler(OptionsRepr, ABC):
    """Draws preferences from the simplex Δ^{m-1} with a random generator of its own.

    A new sampler implements :meth:`draw`; seeding, checkpointing and types are handled here. A ``repr`` tells what is
    drawn, and not the seed, which ``ParetoTrainer`` replaces by its config's.

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

    def options(self) -> dict[str, Any]:
        """m and what else the public attributes hold."""
        return {"num_objectives": self.num_objectives, **super().options()}

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

    def observe(self, preferences: Tensor, losses: Tensor, scalarizer: Scalarizer | None) -> None:
        """See what was reached with drawn preferences; nothing to do by default.

        ``ParetoTrainer`` calls it after every forward, so that a sampler may draw where there is more to gain.

        Args:
            preferences: the preferences drawn, ``(G, m)``.
            losses: the losses reached with them, ``(G, m)``, without a gradient.
            scalarizer: what makes one number of each preference's losses; ``None`` under a gradient weighting.
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
