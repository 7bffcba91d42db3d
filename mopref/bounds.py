"""Box bounds of decision variables: one check, one layout and one map into the box, for problems and models alike."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from mopref._arrays import real_array
from mopref.argument_kinds import checks_arguments
from mopref.setting_types import check_numbers

__all__ = ["Bounds", "BoxProblem", "box_bounds", "map_to_box"]

# (lower, upper): a number for all variables, or one for each.
Bounds: TypeAlias = Sequence[float | Sequence[float] | Tensor] | Tensor


class BoxProblem(Protocol):
    """What a model of decision variables has to know of a problem; ``mopref.Problem`` has it."""

    num_variables: int
    bounds: Tensor

    @property
    def num_objectives(self) -> int:
        """The number of objectives m."""


@checks_arguments
def box_bounds(bounds: Bounds, num_variables: int) -> Tensor:
    """Box bounds, checked and laid out as ``(2, n)``, float64: the lower bounds, then the upper ones.

    Args:
        bounds: ``(lower, upper)``, each a number for all variables or a sequence of one number for each.
        num_variables: n.

    Raises:
        ValueError: not a pair, a wrong number of bounds, or bounds that are not finite with lower < upper.

    Example:
        >>> box_bounds((0.0, [1.0, 2.0]), 2)
        tensor([[0., 0.],
                [1., 2.]], dtype=torch.float64)
    """
    if num_variables < 1:
        raise ValueError(f"num_variables is {num_variables}: it must be at least 1.")
    check_numbers({"num_variables": num_variables})
    if len(bounds) != 2:
        raise ValueError(f"bounds hold {len(bounds)} entries: give the pair (lower, upper), not a pair per variable.")
    sides = [_side(side, name, num_variables) for side, name in zip(bounds, ("lower", "upper"), strict=True)]
    box = torch.stack(sides)
    faults = ~(box.isfinite().all(dim=0) & (box[0] < box[1]))
    if faults.any():
        variable = int(faults.nonzero()[0])
        lower, upper = box[:, variable].tolist()
        raise ValueError(
            f"variable {variable} has the bounds {lower:g} and {upper:g}: both must be finite, the lower below the "
            "upper. Bounds are (lower, upper), each a number or one number per variable."
        )
    return box


def map_to_box(raw: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """x = (l + u)/2 + (u − l)/2 · sin(π · raw): ``(…, n)`` to ``(…, n)`` inside the box [l, u].

    A sine reaches the bounds and saturates nowhere; see docs/benchmarks.md for other maps.

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


def _side(side: Any, name: str, num_variables: int) -> Tensor:
    values = torch.from_numpy(real_array(side, f"the list of {name} bounds"))
    if values.ndim == 0:
        values = values.expand(num_variables)
    if values.shape != (num_variables,):
        raise ValueError(
            f"the {name} bounds have shape {tuple(values.shape)}, but there are {num_variables} variables: give one "
            "number for all of them, or one for each."
        )
    return values.clone()
