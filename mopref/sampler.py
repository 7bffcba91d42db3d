"""PreferenceSampler: which preferences are drawn during training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._repr import OptionsRepr
from mopref.objective_names import checked_names
from mopref.scalarizer import Scalarizer
from mopref.setting_types import check_numbers, python_value, python_values

__all__ = ["PreferenceSampler", "objective_count"]


class PreferenceSampler(OptionsRepr, ABC):
    """Draws preferences from the simplex Δ^{m-1} with a random generator of its own.

    A new sampler implements :meth:`draw`; seeding, checkpointing and types are handled here. A ``repr`` tells what is
    drawn, and not the seed, which ``ParetoTrainer`` replaces by its config's.

    Args:
        num_objectives: m, the length of a preference; or the names of the m objectives in the order of a preference,
            which are then compared with those that are trained.
        seed: seeds the sampler's own generator; the same seed gives the same sequence.

    Attributes:
        num_objectives: m.
        names: the names of the objectives; ``None`` where only their number was given.

    Raises:
        ValueError: ``num_objectives`` is below 1, no whole number, or names that are not distinct texts; or a negative
            seed.
        TypeError: a seed that is no whole number.
    """

    # Of a sampler that does not call __init__, too.
    names: tuple[str, ...] | None = None

    def __init__(self, num_objectives: int | Sequence[str], seed: int = 0) -> None:
        self.num_objectives = objective_count(num_objectives)
        self.names = None if isinstance(num_objectives, Integral) else checked_names(num_objectives, "num_objectives")
        self.seed(seed)

    def options(self) -> dict[str, Any]:
        """m or the objectives' names, and what else the public attributes hold."""
        others = {name: value for name, value in super().options().items() if name not in ("names", "num_objectives")}
        return {**self._objectives, **others}

    @property
    def _objectives(self) -> dict[str, Any]:
        """The option that says what preferences are over."""
        return {"num_objectives": self.names or self.num_objectives}

    @abstractmethod
    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw ``n`` preferences, shape ``(n, m)``, with ``generator`` as the only source of randomness."""

    def sample(self, n: int) -> Tensor:
        """Draw ``n`` preferences, shape ``(n, m)``, of the default floating-point type.

        Raises:
            ValueError: ``n`` is below 1, or so large that no memory holds them.
            TypeError: ``n`` is no whole number.
        """
        count = python_value(n, int, "n")
        if count < 1:
            raise ValueError(f"cannot draw {n} preferences: ask for at least one.")
        check_numbers({"n": count, "num_objectives": self.num_objectives})
        return torch.as_tensor(self.draw(count, self._generator), dtype=torch.get_default_dtype())

    def observe(self, preferences: Tensor, losses: Tensor, scalarizer: Scalarizer | None) -> None:
        """See what was reached with drawn preferences; nothing to do by default.

        ``ParetoTrainer`` calls it after every forward, so that a sampler may draw where there is more to gain.

        Args:
            preferences: the preferences drawn, ``(G, m)``.
            losses: the losses reached with them, ``(G, m)``, without a gradient.
            scalarizer: what makes one number of each preference's losses; ``None`` under a gradient weighting.
        """

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart from ``seed``: the same seed gives the same sequence.

        Raises:
            ValueError: a negative seed.
            TypeError: one that is no whole number, nor a list of them.
        """
        is_list = isinstance(seed, Sequence) and not isinstance(seed, str)
        words = list(python_values(seed, int, "seed")) if is_list else [python_value(seed, int, "seed")]
        if min(words, default=0) < 0:
            raise ValueError(f"seed is {seed}: it must be ≥ 0.")
        self._generator = np.random.default_rng(words if is_list else words[0])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: the generator's state, and what a sampler adds to it."""
        return {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`.

        Raises:
            ValueError: a state that is none; the sampler is unchanged then.
        """
        generator = np.random.default_rng(0)
        try:
            generator.bit_generator.state = state["generator"]
        except (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError) as error:
            raise ValueError(
                f"the state of {type(self).__name__} cannot be read ({type(error).__name__}: {error}): give what its "
                "state_dict() returned."
            ) from error
        self._generator = generator


def objective_count(num_objectives: int | Sequence[str]) -> int:
    """m, from the number or the names of the objectives.

    Raises:
        ValueError: below 1, no whole number, or names that are not distinct texts.

    Example:
        >>> objective_count(3), objective_count(("helpful", "harmless"))
        (3, 2)
    """
    if not isinstance(num_objectives, Integral) or isinstance(num_objectives, bool):
        return len(checked_names(num_objectives, "num_objectives"))
    if num_objectives < 1:
        raise ValueError(f"num_objectives is {num_objectives}: at least one objective is needed.")
    return int(num_objectives)
