"""The DTLZ test problems: any number of objectives."""

import math

import torch
from torch import Tensor

from mopref.preferences import simplex_lattice

from .problem import Problem

__all__ = ["DTLZ2"]


class DTLZ2(Problem):
    """The front is the part of the unit sphere Σ_i f_i² = 1 with all f_i ≥ 0: concave.

    With angles θ_j = π/2 · x_j for j < m and g = Σ_{i ≥ m} (x_i − ½)², x in [0, 1]^n:

        f_1 = (1 + g) cos θ_1 … cos θ_{m−2} cos θ_{m−1}
        f_2 = (1 + g) cos θ_1 … cos θ_{m−2} sin θ_{m−1}
        …
        f_m = (1 + g) sin θ_1

    Args:
        num_objectives: m ≥ 2.
        num_variables: n ≥ m.

    Raises:
        ValueError: fewer than two objectives, or fewer variables than objectives.

    Source: K. Deb, L. Thiele, M. Laumanns and E. Zitzler, Scalable Multi-Objective Optimization Test Problems (2002).

    Example:
        >>> DTLZ2(num_objectives=3, num_variables=3).evaluate(torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 1.0]]))
        tensor([[1.0000, 0.0000, 0.0000],
                [1.2500, 0.0000, 0.0000]])
    """

    def __init__(self, num_objectives: int = 3, num_variables: int = 12) -> None:
        if num_objectives < 2 or num_variables < num_objectives:
            raise ValueError(
                f"DTLZ2 was asked for {num_objectives} objectives of {num_variables} variables: it needs at least 2 "
                "objectives, and at least as many variables as objectives."
            )
        super().__init__(num_variables, num_objectives)
        self.ideal_point = torch.zeros(num_objectives, dtype=torch.float64)
        self.nadir_point = torch.ones(num_objectives, dtype=torch.float64)

    def evaluate(self, x: Tensor) -> Tensor:
        """f_1 … f_m: ``(N, n)`` to ``(N, m)``."""
        num_angles = self.num_objectives - 1
        angles = x[..., :num_angles] * (math.pi / 2)
        cosines, sines = angles.cos(), angles.sin()
        product = 1 + (x[..., num_angles:] - 0.5).square().sum(dim=-1)
        values = []
        for j in range(num_angles):
            values.append(product * sines[..., j])
            product = product * cosines[..., j]
        return torch.stack([product, *reversed(values)], dim=-1)

    def pareto_set(self, num_points: int) -> Tensor:
        """The angles of :meth:`pareto_front`, and ½ for every other variable: ``(≤ num_points, n)``."""
        front = self.pareto_front(num_points)
        x = torch.full((len(front), self.num_variables), 0.5, dtype=torch.float64)
        for j in range(self.num_objectives - 1):
            last = self.num_objectives - 1 - j
            x[:, j] = torch.atan2(front[:, last], torch.linalg.vector_norm(front[:, :last], dim=1)) * (2 / math.pi)
        return x

    def pareto_front(self, num_points: int) -> Tensor:
        """λ / ‖λ‖ at the evenly spread λ of ``simplex_lattice``: ``(≤ num_points, m)``.

        Raises:
            ValueError: fewer points than objectives.
        """
        lattice = simplex_lattice(self.num_objectives, num_points).double()
        return lattice / torch.linalg.vector_norm(lattice, dim=1, keepdim=True)
