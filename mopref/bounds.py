"""Box bounds of decision variables: one check and one layout for every problem and model that has them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Bounds", "box_bounds"]

# (lower, upper): a number for all variables, or one for each.
Bounds: TypeAlias = Sequence[float | Sequence[float] | Tensor] | Tensor


def box_bounds(bounds: Bounds, num_variables: int) -> Tensor:
    """Check box bounds and lay them out as ``(2, n)``, float64: the lower bounds, then the upper ones.

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
    if len(bounds) != 2:
        raise ValueError(f"bounds hold {len(bounds)} entries: give the pair (lower, upper), not a pair per variable.")
    sides = [_side(side, name, num_variables) for side, name in zip(bounds, ("lower", "upper"), strict=True)]
    box = torch.stack(sides)
    wrong = ~(box.isfinite().all(dim=0) & (box[0] < box[1]))
    if wrong.any():
        variable = int(wrong.nonzero()[0])
        lower, upper = box[:, variable].tolist()
        raise ValueError(
            f"variable {variable} has the bounds {lower:g} and {upper:g}: both must be finite, the lower below the "
            "upper. Bounds are (lower, upper), each a number or one number per variable."
        )
    return box


def _side(side: Any, name: str, num_variables: int) -> Tensor:
    values = torch.as_tensor(side, dtype=torch.float64).detach().cpu()
    if values.ndim == 0:
        values = values.expand(num_variables)
    if values.shape != (num_variables,):
        raise ValueError(
            f"the {name} bounds have shape {tuple(values.shape)}, but there are {num_variables} variables: give one "
            "number for all of them, or one for each."
        )
    return values.clone()
