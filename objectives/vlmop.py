"""The VLMOP test problems."""

import math

import torch
from torch import Tensor

from .problem import Problem, even_spread

__all__ = ["VLMOP2"]


class VLMOP2(Problem):
    """f1 = 1 − exp(−Σ_i (x_i − 1/√n)²), f2 = 1 − exp(−Σ_i (x_i + 1/√n)²), x in [−2, 2]^n.

    Concave front: on the Pareto set all x_i are equal, and with s = √n · x_i in [−1, 1] the values are
    1 − exp(−(s − 1)²) and 1 − exp(−(s + 1)²), each from 0 to 1 − e⁻⁴. Far from the Pareto set both values are 1 and
    the gradient vanishes.

    Args:
        num_variables: n ≥ 1.

    Raises:
        ValueError: no variable.

    Source: D. Van Veldhuizen and G. Lamont, Multiobjective Evolutionary Algorithm Test Suites (1999), after C. Fonseca
    and P. Fleming (1995).

    Example:
        >>> VLMOP2(num_variables=1).evaluate(torch.tensor([[1.0], [0.0]]))
        tensor([[0.0000, 0.9817],
                [0.6321, 0.6321]])
    """

    def __init__(self, num_variables: int = 10) -> None:
        super().__init__(num_variables, 2, bounds=(-2.0, 2.0))
        self.ideal_point = torch.zeros(2, dtype=torch.float64)
        self.nadir_point = torch.full((2,), 1 - math.exp(-4), dtype=torch.float64)

    def evaluate(self, x: Tensor) -> Tensor:
        """f1 and f2: ``(N, n)`` to ``(N, 2)``."""
        shift = 1 / math.sqrt(self.num_variables)
        # expm1 keeps small values exact in float32.
        near = [-torch.expm1(-(x + sign * shift).square().sum(dim=-1)) for sign in (-1, 1)]
        return torch.stack(near, dim=-1)

    def pareto_set(self, num_points: int) -> Tensor:
        """All variables equal, from −1/√n to 1/√n in even steps: ``(num_points, n)``."""
        along = even_spread(-1.0, 1.0, num_points) / math.sqrt(self.num_variables)
        return along.unsqueeze(-1).repeat(1, self.num_variables)

    def pareto_front(self, num_points: int) -> Tensor:
        """1 − exp(−(s ∓ 1)²) in even steps of s: ``(num_points, 2)``."""
        s = even_spread(-1.0, 1.0, num_points)
        return torch.stack([-torch.expm1(-(s - 1).square()), -torch.expm1(-(s + 1).square())], dim=-1)
