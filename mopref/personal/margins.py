"""By how much a model prefers one response to another, at every λ: what a person's choices are compared with.

Nothing here knows of a language model: margins may come from anything that has a number for each response and λ.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from math import comb
from typing import Any

import torch
from torch import Tensor

from mopref._arrays import as_points
from mopref.argument_kinds import checks_arguments
from mopref.objective_names import checked_names
from mopref.preferences import simplex_lattice, validate_preferences
from mopref.setting_types import check_numbers, checked_count

__all__ = ["LARGEST", "PairMargins", "margin_nodes"]

# Products of a margin, a weight and β_u stay finite below it.
LARGEST = 1e100


def margin_nodes(num_objectives: int, steps: int) -> Tensor:
    """The λ at which margins are given: the lattice {h / H : h ∈ N^m, Σh = H}, the corner of objective 1 first.

    Args:
        num_objectives: m, at least 2: with one objective there is nothing to choose.
        steps: H, at least 1. With 1 the nodes are the corners e_1 … e_m, in this order.

    Returns:
        ``(K, m)`` float64, K = C(m + H − 1, H).

    Raises:
        ValueError: fewer than 2 objectives, fewer than 1 step, or more nodes than memory holds.
        TypeError: a count that is no whole number.

    Example:
        >>> margin_nodes(2, 2)
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000],
                [0.0000, 1.0000]], dtype=torch.float64)
    """
    m, h = checked_count(num_objectives, "num_objectives"), checked_count(steps, "steps")
    if m < 2:
        raise ValueError(f"num_objectives is {m}: with one objective there is nothing to find, so give 2 or more.")
    check_numbers({"steps": h, "num_objectives": m})
    count = comb(m + h - 1, h)
    check_numbers({"nodes": count, "num_objectives": m})
    lattice = simplex_lattice(m, count).double().flip(0)
    return (lattice * h).round() / h


class PairMargins:
    """d_λ, by how much a model prefers response 0 to response 1 of each pair, as a function of λ.

    d is given at the nodes of :func:`margin_nodes` and is, between them, the one polynomial of degree H in λ through
    these values (Scheffé, Experiments with mixtures, 1958):

        d_λ = Σ_h d_{h/H} · Π_i Π_{j<h_i} (H λ_i − j) / (h_i − j)

    With H = 1 it is linear: Σ_i λ_i d_{e_i}, as where values are differences of m rewards.

    Args:
        values: d at the nodes, ``(pairs, K)``, in the order of ``margin_nodes(m, H)``; above 0 where response 0 is
            preferred, and in the unit of rewards: a person with decisiveness β chooses response 0 with probability
            σ(β d_λ). H is the one with which there are K nodes.
        names: the names of the m objectives, in the order of λ.
        keys: what tells pairs apart, one for each: pairs of one key are the same question. ``None``: all differ.

    Attributes:
        values: ``(pairs, K)`` float64.
        names: the names of the m objectives.
        steps: H.
        keys: one for each pair.

    Raises:
        ValueError: values of another shape, not finite or beyond 1e100, a number of columns that no H gives, names that
            are not distinct texts, fewer than two, or another number of keys than of pairs.
        TypeError: a key that cannot be hashed.

    Example:
        >>> rewards = [[1.0, -1.0], [0.5, 0.5]]  # differences of helpful and harmless in two pairs
        >>> PairMargins(rewards, ("helpful", "harmless")).at([0.75, 0.25])
        tensor([[0.5000],
                [0.5000]], dtype=torch.float64)
    """

    @checks_arguments(but=("names",))
    def __init__(self, values: Any, names: Sequence[str], keys: Sequence[Hashable] | None = None) -> None:
        self.names = checked_names(names)
        self.values = torch.from_numpy(as_points(values, "values"))
        if float(self.values.abs().max()) > LARGEST:
            raise ValueError(f"values hold {float(self.values.abs().max()):g}, beyond 1e100: choose a larger unit.")
        self.steps = _steps_of(self.values.shape[1], len(self.names))
        self.keys: tuple[Hashable, ...] = tuple(range(len(self.values)) if keys is None else keys)
        if len(self.keys) != len(self.values):
            raise ValueError(f"there are {len(self.keys)} keys and {len(self.values)} pairs: give one for each.")
        hash(self.keys)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"PairMargins({len(self)} pairs, names={self.names}, steps={self.steps})"

    def at(self, preferences: Any) -> Tensor:
        """d of every pair at preferences ``(N, m)`` or by name: ``(pairs, N)`` float64.

        Raises:
            ValueError: preferences that do not lie on the simplex of these objectives.
        """
        points = validate_preferences(preferences, self.names).cpu()
        return self.values @ _basis(points, self.steps).T


def _steps_of(count: int, num_objectives: int) -> int:
    """The H of that many nodes."""
    if num_objectives < 2:
        raise ValueError("names hold one objective: there is no preference to find, so give two or more.")
    steps = 1
    while comb(num_objectives + steps - 1, steps) < count:
        steps += 1
    if comb(num_objectives + steps - 1, steps) != count:
        known = [comb(num_objectives + h - 1, h) for h in range(1, 5)]
        raise ValueError(
            f"values have {count} columns, but margins of {num_objectives} objectives are given at {known[0]}, "
            f"{known[1]}, {known[2]}, {known[3]}, … nodes: give one column for each row of margin_nodes."
        )
    return steps


@lru_cache(maxsize=16)
def _counts(num_objectives: int, steps: int) -> Tensor:
    """h of each node, ``(K, m)``, whole numbers."""
    return (margin_nodes(num_objectives, steps) * steps).round().long()


def _basis(points: Tensor, steps: int) -> Tensor:
    """What each node weighs at preferences ``(N, m)``: ``(N, K)``; each row adds up to 1."""
    # Π_{j<h} (H λ_i − j) / (h − j) = C(H λ_i, h), for h = 0 … H: (N, m, H + 1).
    of_weight = [torch.ones_like(points)]
    for h in range(steps):
        of_weight.append(of_weight[-1] * (steps * points - h) / (h + 1))
    factors, counts = torch.stack(of_weight, dim=-1), _counts(points.shape[1], steps)
    basis = torch.ones(len(points), len(counts), dtype=points.dtype)
    for i in range(points.shape[1]):
        basis = basis * factors[:, i, counts[:, i]]
    return basis
