"""The ZDT test problems: two objectives whose front is known in closed form."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mopref._arrays import real_array
from mopref.argument_kinds import checks_arguments
from mopref.bounds import Bounds
from mopref.problem import Problem, checks_variables
from mopref.registry import OBJECTIVES
from mopref.setting_types import check_numbers

from .even_points import even_along, even_spread

__all__ = ["ZDT1", "ZDT2", "ZDT3", "ZDT4", "ZDT6", "ScaledZDT1"]

# The slope of a root is cut off here: it is infinite at 0.
_STEEPEST = 5_000.0


class _ZDT(Problem):
    """What the family shares: f1 = f1(x_1), f2 = g · h(f1, f1 / g), where g ≥ 1 depends on the other variables only.

    g = 1 on the front, where all variables but the first are 0; so the front is f2 = h(f1, f1).

    Args:
        num_variables: n ≥ 2.
        bounds: as for :class:`mopref.problem.Problem`.

    Raises:
        ValueError: fewer than two variables, or bounds that are not finite with lower < upper.
    """

    def __init__(self, num_variables: int, bounds: Bounds = (0.0, 1.0)) -> None:
        if num_variables < 2:
            raise ValueError(f"num_variables is {num_variables}: {type(self).__name__} needs at least 2.")
        super().__init__(num_variables, 2, bounds)
        self.ideal_point = torch.zeros(2, dtype=torch.float64)
        self.nadir_point = torch.ones(2, dtype=torch.float64)

    def options(self) -> dict[str, Any]:
        """n, and what a problem adds."""
        return {"num_variables": self.num_variables, **super().options()}

    def _first(self, x: Tensor) -> Tensor:
        """f1 of x_1."""
        return x

    def _distance(self, others: Tensor) -> Tensor:
        """g of the variables after the first: ``(…, n − 1)`` to ``(…)``."""
        return 1 + 9 * others.mean(dim=-1)

    @abstractmethod
    def _shape(self, first: Tensor, ratio: Tensor) -> Tensor:
        """h(f1, f1 / g)."""

    def _front_coordinate(self, num_points: int) -> Tensor:
        """x_1 along the front, spread so that no part of it is sparse, shape ``(num_points,)``."""
        return even_spread(0.0, 1.0, num_points)

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f1 and f2: ``(N, n)`` to ``(N, 2)``."""
        first, g = self._first(x[..., 0]), self._distance(x[..., 1:])
        return torch.stack([first, g * self._shape(first, first / g)], dim=-1)

    def pareto_set(self, num_points: int) -> Tensor:
        """x_1 along the front, all other variables 0: ``(num_points, n)``."""
        x = torch.zeros(num_points, self.num_variables, dtype=torch.float64)
        x[:, 0] = self._front_coordinate(num_points)
        return x

    def pareto_front(self, num_points: int) -> Tensor:
        """f1 and f2 where g = 1, evenly spread: ``(num_points, 2)``."""
        return self._front_values(self._front_coordinate(num_points))

    def _front_values(self, x: Tensor) -> Tensor:
        first = self._first(x)
        return torch.stack([first, self._shape(first, first)], dim=-1)


@OBJECTIVES.register("zdt1")
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

    @checks_arguments
    def __init__(self, num_variables: int = 30) -> None:
        super().__init__(num_variables)

    def _shape(self, first: Tensor, ratio: Tensor) -> Tensor:
        return 1 - _root(ratio, 0.5)

    def _front_coordinate(self, num_points: int) -> Tensor:
        # Even steps of f2.
        return even_spread(0.0, 1.0, num_points).square()


@OBJECTIVES.register("scaled-zdt1")
class ScaledZDT1(Problem):
    """ZDT1 with its objectives multiplied by ``scales``: objectives of different magnitudes.

    A scalarizer that does not account for the range of each objective sees little but the largest one.

    Args:
        num_variables: n ≥ 2.
        scales: the factors of f1 and f2, positive.

    Raises:
        ValueError: fewer than two variables, or scales that are not two finite, positive numbers.

    Source: the problem is ZDT1's; the magnitudes are this library's.

    Example:
        >>> ScaledZDT1(num_variables=2, scales=(1.0, 100.0)).evaluate(torch.tensor([[0.25, 0.0]]))
        tensor([[ 0.2500, 50.0000]])
    """

    @checks_arguments
    def __init__(self, num_variables: int = 30, scales: Sequence[float] = (1.0, 100.0)) -> None:
        self._unscaled = ZDT1(num_variables)
        super().__init__(num_variables, 2)
        factors = torch.from_numpy(real_array(scales, "the list of scales"))
        if factors.shape != (2,) or not (factors.isfinite() & (factors > 0)).all():
            raise ValueError(
                f"scales are {factors.tolist()}: ScaledZDT1 needs two finite numbers above 0, the factors of f1 and f2."
            )
        self.scales = factors
        self.ideal_point, self.nadir_point = torch.zeros(2, dtype=torch.float64), factors.clone()

    def options(self) -> dict[str, Any]:
        """n and the scales."""
        return {"num_variables": self.num_variables, **super().options()}

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """The scaled f1 and f2: ``(N, n)`` to ``(N, 2)``."""
        return self._unscaled.evaluate(x) * self.scales.to(x)

    def pareto_set(self, num_points: int) -> Tensor:
        """ZDT1's: ``(num_points, n)``."""
        return self._unscaled.pareto_set(num_points)

    def pareto_front(self, num_points: int) -> Tensor:
        """ZDT1's front, scaled: ``(num_points, 2)``."""
        return self._unscaled.pareto_front(num_points) * self.scales


@OBJECTIVES.register("zdt2")
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

    @checks_arguments
    def __init__(self, num_variables: int = 30) -> None:
        super().__init__(num_variables)

    def _shape(self, first: Tensor, ratio: Tensor) -> Tensor:
        return 1 - ratio.square()


# f1 along the five pieces of ZDT3's front. With φ(t) = 1 − √t − t · sin(10πt), a piece ends at a local minimum of φ,
# and the next one starts where φ falls below that minimum (rounded up, so that the start is not dominated itself).
_ZDT3_PIECES = (
    (0.0, 0.08300153492691163),
    (0.182228728029402, 0.25776236338783022),
    (0.4093136748086592, 0.45388210408883017),
    (0.6183967944392684, 0.65251170380466252),
    (0.8233317983266350, 0.85183286543641390),
)
_ZDT3_LOWEST = -0.77336901232664045


@OBJECTIVES.register("zdt3")
class ZDT3(_ZDT):
    """f1 = x_1, f2 = g · (1 − √(f1 / g) − f1 / g · sin(10π f1)), g = 1 + 9 / (n − 1) · Σ_{i ≥ 2} x_i, x in [0, 1]^n.

    The front lies on f2 = 1 − √f1 − f1 · sin(10π f1), in five pieces: between them the curve is dominated. f2 reaches
    below 0, to −0.773. The slope at f1 = 0 is cut off as in :class:`ZDT1`.

    Args:
        num_variables: n ≥ 2.

    Raises:
        ValueError: fewer than two variables.

    Source: E. Zitzler, K. Deb and L. Thiele, Comparison of Multiobjective Evolutionary Algorithms (2000).

    Example:
        >>> ZDT3(num_variables=2).evaluate(torch.tensor([[0.25, 0.0]]))
        tensor([[0.2500, 0.2500]])
    """

    @checks_arguments
    def __init__(self, num_variables: int = 30) -> None:
        super().__init__(num_variables)
        self.ideal_point = torch.tensor([0.0, _ZDT3_LOWEST], dtype=torch.float64)
        self.nadir_point = torch.tensor([_ZDT3_PIECES[-1][1], 1.0], dtype=torch.float64)

    def _shape(self, first: Tensor, ratio: Tensor) -> Tensor:
        return 1 - _root(ratio, 0.5) - ratio * torch.sin(10 * math.pi * first)

    def _front_coordinate(self, num_points: int) -> Tensor:
        return even_along(self._front_values, _ZDT3_PIECES, num_points)


@OBJECTIVES.register("zdt4")
class ZDT4(_ZDT):
    """f1 = x_1, f2 = g · (1 − √(f1 / g)), g = 1 + Σ_{i ≥ 2} (x_i² + 10 − 10 cos(4π x_i)).

    x_1 in [0, 1], all others in [−5, 5]. ZDT1's front, behind local ones: g has 21^(n − 1) local minima, and descent
    stops at the nearest. The slope at f1 = 0 is cut off as in :class:`ZDT1`.

    Args:
        num_variables: n ≥ 2.

    Raises:
        ValueError: fewer than two variables.

    Source: E. Zitzler, K. Deb and L. Thiele, Comparison of Multiobjective Evolutionary Algorithms (2000).

    Example:
        >>> ZDT4(num_variables=2).evaluate(torch.tensor([[0.25, 0.0], [0.0, 0.25]]))
        tensor([[ 0.2500,  0.5000],
                [ 0.0000, 21.0625]])
    """

    @checks_arguments
    def __init__(self, num_variables: int = 10) -> None:
        others = max(num_variables - 1, 0)
        check_numbers({"num_variables": num_variables})
        super().__init__(num_variables, ([0.0] + [-5.0] * others, [1.0] + [5.0] * others))

    def _distance(self, others: Tensor) -> Tensor:
        # 10 − 10 cos(2a) = 20 sin²(a), which float32 keeps exact near 0.
        return 1 + (others.square() + 20 * torch.sin(2 * math.pi * others).square()).sum(dim=-1)

    def _shape(self, first: Tensor, ratio: Tensor) -> Tensor:
        return 1 - _root(ratio, 0.5)

    def _front_coordinate(self, num_points: int) -> Tensor:
        return even_spread(0.0, 1.0, num_points).square()


# The x_1 of ZDT6's smallest f1: there tan(6πx) = 9π.
_ZDT6_LOWEST_AT = math.atan(9 * math.pi) / (6 * math.pi)


@OBJECTIVES.register("zdt6")
class ZDT6(_ZDT):
    """f1 = 1 − exp(−4 x_1) · sin⁶(6π x_1), f2 = g · (1 − (f1 / g)²), g = 1 + 9 · (Σ_{i ≥ 2} x_i / (n − 1))^¼.

    x in [0, 1]^n. Concave front f2 = 1 − f1² for f1 from 0.281 to 1. Every x_1 is Pareto optimal where the other
    variables are 0; :meth:`pareto_set` runs from x_1 = 0.0815 to 0, which passes the front once. Evenly spread x_1
    crowd near f1 = 1.

    The slope of g is infinite where the other variables are 0; the values are exact there, and the gradient of the
    fourth root is cut off at 5,000, where its argument is below 1.9e-6.

    Args:
        num_variables: n ≥ 2.

    Raises:
        ValueError: fewer than two variables.

    Source: E. Zitzler, K. Deb and L. Thiele, Comparison of Multiobjective Evolutionary Algorithms (2000).

    Example:
        >>> ZDT6(num_variables=2).evaluate(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
        tensor([[1.0000, 0.0000],
                [1.0000, 9.9000]])
    """

    @checks_arguments
    def __init__(self, num_variables: int = 10) -> None:
        super().__init__(num_variables)
        lowest = float(self._first(torch.tensor(_ZDT6_LOWEST_AT, dtype=torch.float64)))
        self.ideal_point = torch.tensor([lowest, 0.0], dtype=torch.float64)
        self.nadir_point = torch.tensor([1.0, 1 - lowest**2], dtype=torch.float64)

    def _first(self, x: Tensor) -> Tensor:
        return 1 - torch.exp(-4 * x) * torch.sin(6 * math.pi * x).pow(6)

    def _distance(self, others: Tensor) -> Tensor:
        return 1 + 9 * _root(others.mean(dim=-1), 0.25)

    def _shape(self, first: Tensor, ratio: Tensor) -> Tensor:
        return 1 - ratio.square()

    def _front_coordinate(self, num_points: int) -> Tensor:
        return even_along(self._front_values, [(_ZDT6_LOWEST_AT, 0.0)], num_points)


def _root(base: Tensor, exponent: float) -> Tensor:
    """base^exponent for an exponent between 0 and 1, its value exact, its slope at most ``_STEEPEST``."""
    smallest = (exponent / _STEEPEST) ** (1 / (1 - exponent))
    surrogate = torch.where(base < smallest, base - base.detach() + smallest, base).pow(exponent)
    # The exact value with the slope of `surrogate`; rounding may have put x a hair below 0.
    return surrogate - surrogate.detach() + base.detach().clamp(min=0).pow(exponent)
