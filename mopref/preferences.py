"""Preference vectors: validation at the boundary and the evenly spread lattice used for evaluation."""

from collections.abc import Sequence
from math import comb
from typing import Any

import torch
from torch import Tensor

__all__ = ["SUM_TOLERANCE", "simplex_lattice", "validate_preferences"]

SUM_TOLERANCE = 1e-6


def validate_preferences(preferences: Any, objectives: int | Sequence[str]) -> Tensor:
    """Check preferences once, where they enter the library, and return them as a tensor of shape ``(N, m)``.

    A preference λ lies on the simplex Δ^{m-1}: every λ_i ≥ 0 and Σ_i λ_i = 1 (within 1e-6).

    Args:
        preferences: one vector of shape ``(m,)`` or a matrix ``(N, m)``: list, array or tensor.
        objectives: the number of objectives m, or their names in order.

    Returns:
        A floating-point tensor of shape ``(N, m)``, on the device of the input; N is 1 for a single vector.

    Raises:
        ValueError: wrong shape or length, no row, NaN or infinite, negative, or a sum other than 1.

    Example:
        >>> validate_preferences([0.25, 0.75], ("helpful", "harmless"))
        tensor([[0.2500, 0.7500]])
    """
    names = tuple(f"objective {i}" for i in range(objectives)) if isinstance(objectives, int) else tuple(objectives)
    tensor = torch.as_tensor(preferences)
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.get_default_dtype())
    matrix = tensor.unsqueeze(0) if tensor.ndim == 1 else tensor
    if matrix.ndim != 2 or matrix.shape[1] != len(names) or matrix.shape[0] == 0:
        raise ValueError(
            f"preferences have shape {tuple(tensor.shape)}, but there are {len(names)} objectives "
            f"({', '.join(names)}): give one weight per objective, shape ({len(names)},) or (N, {len(names)})."
        )
    checked = matrix.detach().double()
    for bad, what in (
        (~checked.isfinite(), "is not finite"),
        (checked < 0, "is negative"),
    ):
        if bad.any():
            row, column = (int(i) for i in bad.nonzero()[0])
            raise ValueError(
                f"preference {row} has weight {checked[row, column].item():g} for {names[column]}, which {what}: "
                "weights must be ≥ 0 and sum to 1."
            )
    # float32 weights of many objectives cannot sum to 1 more exactly than their own rounding.
    tolerance = max(SUM_TOLERANCE, len(names) * torch.finfo(matrix.dtype).eps)
    sums = checked.sum(dim=1)
    off = (sums - 1).abs() > tolerance
    if off.any():
        row = int(off.nonzero()[0])
        raise ValueError(
            f"preference {row} = {[round(w, 6) for w in checked[row].tolist()]} sums to {sums[row].item():g}, not 1: "
            "divide it by its sum."
        )
    return matrix


def simplex_lattice(num_objectives: int, num_points: int) -> Tensor:
    """Evenly spread preferences with every corner among them (Das and Dennis, 1998), shape ``(≤ num_points, m)``.

    With two objectives these are exactly ``num_points`` points from (1, 0)… to (0, 1) in even steps, ordered by the
    first weight, rising. With more, the finest lattice {h / H : h ∈ N^m, Σh = H} of at most ``num_points`` points.

    Raises:
        ValueError: fewer than one objective, or fewer points than corners.

    Example:
        >>> simplex_lattice(2, 3)
        tensor([[0.0000, 1.0000],
                [0.5000, 0.5000],
                [1.0000, 0.0000]])
    """
    if num_objectives < 1:
        raise ValueError(f"num_objectives is {num_objectives}: at least one objective is needed.")
    if num_points < num_objectives:
        raise ValueError(
            f"a lattice of {num_points} points cannot hold the {num_objectives} corners of the simplex: "
            f"ask for at least {num_objectives} points."
        )
    if num_objectives == 1:
        return torch.ones(1, 1)
    from pymoo.util.ref_dirs import get_reference_directions

    partitions = 1
    while comb(partitions + num_objectives, num_objectives - 1) <= num_points:
        partitions += 1
    lattice = get_reference_directions("das-dennis", num_objectives, n_partitions=partitions)
    return torch.as_tensor(lattice, dtype=torch.get_default_dtype())
