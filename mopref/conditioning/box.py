"""From a network's outputs into a box: one map for every model of decision variables."""

import math
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["BoxProblem", "map_to_box"]


class BoxProblem(Protocol):
    """What a model of decision variables has to know of a problem; ``mopref.objectives.Problem`` has it."""

    num_variables: int
    bounds: Tensor

    @property
    def num_objectives(self) -> int:
        """The number of objectives m."""


def map_to_box(raw: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """x = (l + u)/2 + (u − l)/2 · sin(π · raw): ``(…, n)`` to ``(…, n)`` inside the box [l, u].

    A sine reaches the bounds and saturates nowhere; ``ParetoSetModel`` has the measurements.

    Args:
        raw: a network's outputs, ``(…, n)``.
        lower: l, ``(n,)``.
        upper: u, ``(n,)``.

    Example:
        >>> map_to_box(torch.tensor([-0.5, 0.0, 0.5]), torch.zeros(3), torch.ones(3))
        tensor([0.0000, 0.5000, 1.0000])
    """
    wave = torch.sin(math.pi * raw)
    x = (lower + upper) / 2 + (upper - lower) / 2 * wave
    # Rounding may put x a hair outside.
    return x.clamp(lower, upper)
