"""The VLMOP test problems."""

import math
from typing import Any

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.problem import Problem, checks_variables
from mopref.registry import OBJECTIVES

from .even_points import even_spread
from .stored_sets import StoredSetProblem

__all__ = ["VLMOP1", "VLMOP2", "VLMOP3"]


@OBJECTIVES.register("vlmop1")
class VLMOP1(Problem):
    """f1 = Σ_i x_i² / (4n), f2 = Σ_i (x_i − 2)² / (4n), x in [−2, 4]^n.

    Convex front √f1 + √f2 = 1: on the Pareto set all x_i are equal, and with s = x_i / 2 in [0, 1] the values are s²
    and (1 − s)². Divided by 4, so that each runs from 0 to 1.

    Args:
        num_variables: n ≥ 1.

    Raises:
        ValueError: no variable.

    Source: D. Van Veldhuizen and G. Lamont, Multiobjective Evolutionary Algorithm Test Suites (1999), after J. Schaffer
    (1985), who has one variable.

    Example:
        >>> VLMOP1(num_variables=1).evaluate(torch.tensor([[0.0], [1.0]]))
        tensor([[0.0000, 1.0000],
                [0.2500, 0.2500]])
    """

    @checks_arguments
    def __init__(self, num_variables: int = 10) -> None:
        super().__init__(num_variables, 2, bounds=(-2.0, 4.0))
        self.ideal_point = torch.zeros(2, dtype=torch.float64)
        self.nadir_point = torch.ones(2, dtype=torch.float64)

    def options(self) -> dict[str, Any]:
        """n."""
        return {"num_variables": self.num_variables}

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f1 and f2: ``(N, n)`` to ``(N, 2)``."""
        return torch.stack([x.square().mean(dim=-1), (x - 2).square().mean(dim=-1)], dim=-1) / 4

    def pareto_set(self, num_points: int) -> Tensor:
        """All variables equal, from 0 to 2 in even steps: ``(num_points, n)``."""
        return even_spread(0.0, 2.0, num_points).unsqueeze(-1).repeat(1, self.num_variables)

    def pareto_front(self, num_points: int) -> Tensor:
        """s² and (1 − s)² in even steps of s: ``(num_points, 2)``."""
        s = even_spread(0.0, 1.0, num_points)
        return torch.stack([s.square(), (1 - s).square()], dim=-1)


@OBJECTIVES.register("vlmop2")
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

    @checks_arguments
    def __init__(self, num_variables: int = 10) -> None:
        super().__init__(num_variables, 2, bounds=(-2.0, 2.0))
        self.ideal_point = torch.zeros(2, dtype=torch.float64)
        self.nadir_point = torch.full((2,), 1 - math.exp(-4), dtype=torch.float64)

    def options(self) -> dict[str, Any]:
        """n."""
        return {"num_variables": self.num_variables}

    @checks_variables
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


@OBJECTIVES.register("vlmop3")
class VLMOP3(StoredSetProblem):
    """Three objectives of two variables whose Pareto set is in several pieces, with s = x_1² + x_2².

        f1 = s / 2 + sin(s)
        f2 = (3 x_1 − 2 x_2 + 4)² / 8 + (x_1 − x_2 + 1)² / 27 + 15
        f3 = 1 / (s + 1) − 1.1 exp(−s)

    x in [−3, 3]². f1 has rings of local minima. The front is known from stored points only.

    Source: D. Van Veldhuizen and G. Lamont, Multiobjective Evolutionary Algorithm Test Suites (1999), after R. Viennet,
    C. Fonteix and I. Marc (1996); the bounds are those of J. Knowles, ParEGO (2006).

    Example:
        >>> VLMOP3().evaluate(torch.tensor([[0.0, 0.0]]))
        tensor([[ 0.0000, 17.0370, -0.1000]])
    """

    @checks_arguments
    def __init__(self) -> None:
        super().__init__("vlmop3.csv", num_variables=2, num_objectives=3, bounds=(-3.0, 3.0))

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f1, f2 and f3: ``(N, 2)`` to ``(N, 3)``."""
        first, second = x.unbind(dim=-1)
        square = x.square().sum(dim=-1)
        values = [
            square / 2 + square.sin(),
            (3 * first - 2 * second + 4).square() / 8 + (first - second + 1).square() / 27 + 15,
            1 / (square + 1) - 1.1 * torch.exp(-square),
        ]
        return torch.stack(values, dim=-1)
