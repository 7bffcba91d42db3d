"""The ZDT test problems: two objectives whose front is known in closed form."""

import torch
from torch import Tensor

from .problem import Problem, even_spread

__all__ = ["ZDT1", "ZDT2"]

# Where f1 / g is smaller, the slope of its square root is taken here, so that it is at most 5,000.
_SMALLEST_SLOPED = 1e-8


class _ZDT(Problem):
    """What the family shares: f1 = x_1, f2 = g · h(f1 / g) with g = 1 + 9 / (n − 1) · Σ_{i ≥ 2} x_i, on [0, 1]^n.

    g = 1 on the front, where all variables but the first are 0.
    """

    def __init__(self, num_variables: int = 30) -> None:
        if num_variables < 2:
            raise ValueError(f"num_variables is {num_variables}: {type(self).__name__} needs at least 2.")
        super().__init__(num_variables, 2)
        self.ideal_point = torch.zeros(2, dtype=torch.float64)
        self.nadir_point = torch.ones(2, dtype=torch.float64)

    def _front_coordinate(self, num_points: int) -> Tensor:
        """f1 along the front, spread so that neither end is sparse, shape ``(num_points,)``."""
        return even_spread(0.0, 1.0, num_points)

    def pareto_set(self, num_points: int) -> Tensor:
        """x_1 along the front, all other variables 0: ``(num_points, n)``."""
        x = torch.zeros(num_points, self.num_variables, dtype=torch.float64)
        x[:, 0] = self._front_coordinate(num_points)
        return x


class ZDT1(_ZDT):
    """f1 = x_1, f2 = g · (1 − √(f1 / g)), g = 1 + 9 / (n − 1) · Σ_{i ≥ 2} x_i, x in [0, 1]^n.

    Convex front f2 = 1 − √f1. Its slope is infinite at f1 = 0; the values are exact there, and the gradient of the
    square root is cut off at 5,000, where f1 / g < 1e-8.

    Args:
        num_variables: n ≥ 2.

    Raises:
        ValueError: fewer than two variables.

    Source: E. Zitzler, K. Deb and L. Thiele, Comparison of Multiobjective Evolutionary Algorithms (2000).

    Example:
        >>> ZDT1(num_variables=2).evaluate(torch.tensor([[0.25, 0.0]]))
        tensor([[0.2500, 0.5000]])
    """

    def evaluate(self, x: Tensor) -> Tensor:
        """f1 and f2: ``(N, n)`` to ``(N, 2)``."""
        first, g = x[..., 0], 1 + 9 * x[..., 1:].mean(dim=-1)
        ratio = first / g
        sloped = torch.where(ratio < _SMALLEST_SLOPED, ratio - ratio.detach() + _SMALLEST_SLOPED, ratio).sqrt()
        # The exact value with the slope of `sloped`; rounding may have put x a hair below 0.
        root = sloped - sloped.detach() + ratio.detach().clamp(min=0).sqrt()
        return torch.stack([first, g * (1 - root)], dim=-1)

    def _front_coordinate(self, num_points: int) -> Tensor:
        return even_spread(0.0, 1.0, num_points).square()

    def pareto_front(self, num_points: int) -> Tensor:
        """f2 = 1 − √f1, in even steps of f2: ``(num_points, 2)``."""
        root = even_spread(0.0, 1.0, num_points)
        return torch.stack([root.square(), 1 - root], dim=-1)


class ZDT2(_ZDT):
    """f1 = x_1, f2 = g · (1 − (f1 / g)²), g = 1 + 9 / (n − 1) · Σ_{i ≥ 2} x_i, x in [0, 1]^n.

    Concave front f2 = 1 − f1²: linear scalarization finds nothing but its two ends. The gradient of f2 in x_1 is 0 at
    x_1 = 0, so a model whose every output is 0 stays there.

    Args:
        num_variables: n ≥ 2.

    Raises:
        ValueError: fewer than two variables.

    Source: E. Zitzler, K. Deb and L. Thiele, Comparison of Multiobjective Evolutionary Algorithms (2000).

    Example:
        >>> ZDT2(num_variables=2).evaluate(torch.tensor([[0.5, 0.0]]))
        tensor([[0.5000, 0.7500]])
    """

    def evaluate(self, x: Tensor) -> Tensor:
        """f1 and f2: ``(N, n)`` to ``(N, 2)``."""
        first, g = x[..., 0], 1 + 9 * x[..., 1:].mean(dim=-1)
        return torch.stack([first, g * (1 - (first / g).square())], dim=-1)

    def pareto_front(self, num_points: int) -> Tensor:
        """f2 = 1 − f1², in even steps of f1: ``(num_points, 2)``."""
        first = even_spread(0.0, 1.0, num_points)
        return torch.stack([first, 1 - first.square()], dim=-1)
