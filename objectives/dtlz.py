"""The DTLZ test problems: any number of objectives."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.preferences import simplex_lattice
from mopref.problem import Problem, checks_variables
from mopref.registry import OBJECTIVES
from mopref.setting_types import python_value

__all__ = ["DTLZ1", "DTLZ2", "DTLZ3", "DTLZ4", "InvertedDTLZ1"]


class _DTLZ(Problem):
    """What the family shares: the first m − 1 variables place a point on the front, the others its distance to it.

    The distance g is 0 on the front, where all other variables are ½.

    Args:
        num_objectives: m ≥ 2.
        num_variables: n ≥ m; ``None`` for m − 1 and the usual number of the others.
        distance_variables: that usual number.

    Raises:
        ValueError: fewer than two objectives, or fewer variables than objectives.
    """

    def __init__(self, num_objectives: int, num_variables: int | None, distance_variables: int) -> None:
        n = num_objectives - 1 + distance_variables if num_variables is None else num_variables
        if num_objectives < 2 or n < num_objectives:
            raise ValueError(
                f"{type(self).__name__} was asked for {num_objectives} objectives of {n} variables: it needs at least "
                "2 objectives, and at least as many variables as objectives."
            )
        super().__init__(n, num_objectives)
        self.ideal_point = torch.zeros(num_objectives, dtype=torch.float64)
        self.nadir_point = torch.ones(num_objectives, dtype=torch.float64)

    def options(self) -> dict[str, Any]:
        """m and n, and what a problem adds."""
        return {
            "num_objectives": self.num_objectives,
            "num_variables": self.num_variables,
            **super().options(),
        }

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., : self.num_objectives - 1], x[..., self.num_objectives - 1 :] - 0.5

    def _with_rest(self, positions: Tensor) -> Tensor:
        """The Pareto set's points of these first m − 1 variables: ``(N, m − 1)`` to ``(N, n)``."""
        rest = positions.new_full((len(positions), self.num_variables - self.num_objectives + 1), 0.5)
        return torch.cat([positions, rest], dim=1)


class _PlaneDTLZ(_DTLZ):
    """What DTLZ1 and its inverse share: a flat front between 0 and ½, behind the local ones of a rugged distance."""

    def __init__(self, num_objectives: int, num_variables: int | None) -> None:
        super().__init__(num_objectives, num_variables, distance_variables=5)
        self.nadir_point = torch.full((num_objectives,), 0.5, dtype=torch.float64)

    def pareto_set(self, num_points: int) -> Tensor:
        """The positions of :meth:`pareto_front`, and ½ for every other variable: ``(≤ num_points, n)``."""
        # x_1 … x_j is what the objectives 1 … m − j have of the sum.
        shares = _lattice(self.num_objectives, num_points).cumsum(dim=1).flip(1)
        # Where nothing is left to share, the position does not matter.
        return self._with_rest((shares[:, 1:] / shares[:, :-1]).nan_to_num(nan=0.0))


@OBJECTIVES.register("dtlz1")
class DTLZ1(_PlaneDTLZ):
    """The front is the part of the plane Σ_i f_i = ½ with all f_i ≥ 0, behind many local ones.

    With g = 100 · Σ_{i ≥ m} ((x_i − ½)² + 1 − cos(20π (x_i − ½))), x in [0, 1]^n:

        f_1 = ½ (1 + g) · x_1 … x_{m−2} · x_{m−1}
        f_2 = ½ (1 + g) · x_1 … x_{m−2} · (1 − x_{m−1})
        …
        f_m = ½ (1 + g) · (1 − x_1)

    g has 11^(n − m + 1) local minima, and descent stops at the nearest.

    Args:
        num_objectives: m ≥ 2.
        num_variables: n ≥ m; m + 4 by default.

    Raises:
        ValueError: fewer than two objectives, or fewer variables than objectives.

    Source: K. Deb, L. Thiele, M. Laumanns and E. Zitzler, Scalable Multi-Objective Optimization Test Problems (2002).

    Example:
        >>> DTLZ1(num_objectives=3, num_variables=3).evaluate(torch.tensor([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]))
        tensor([[ 0.1250,  0.1250,  0.2500],
                [13.0000,  0.0000,  0.0000]])
    """

    @checks_arguments
    def __init__(self, num_objectives: int = 3, num_variables: int | None = None) -> None:
        super().__init__(num_objectives, num_variables)

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f_1 … f_m: ``(N, n)`` to ``(N, m)``."""
        positions, others = self._split(x)
        return _linear(positions, (1 + _rugged(others)) / 2)

    def pareto_front(self, num_points: int) -> Tensor:
        """Half the evenly spread λ of ``simplex_lattice``: ``(≤ num_points, m)``.

        Raises:
            ValueError: fewer points than objectives.
        """
        return _lattice(self.num_objectives, num_points) / 2


@OBJECTIVES.register("inverted-dtlz1")
class InvertedDTLZ1(_PlaneDTLZ):
    """f_i = ½ (1 + g) − f_i of :class:`DTLZ1`: its front is the triangle of DTLZ1's upside down.

    The part of the plane Σ_i f_i = ½ (m − 1) with all f_i between 0 and ½: at a corner of it one objective is at its
    worst and all others are at their best. With three or more objectives, the ray f ∝ λ misses the front where some
    λ_i > 1 / (m − 1).

    Args:
        num_objectives: m ≥ 2.
        num_variables: n ≥ m; m + 4 by default.

    Raises:
        ValueError: fewer than two objectives, or fewer variables than objectives.

    Source: H. Jain and K. Deb, An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point Based
    Nondominated Sorting Approach, Part II (2014).

    Example:
        >>> InvertedDTLZ1(num_objectives=3, num_variables=3).evaluate(torch.tensor([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]))
        tensor([[ 0.3750,  0.3750,  0.2500],
                [ 0.0000, 13.0000, 13.0000]])
    """

    @checks_arguments
    def __init__(self, num_objectives: int = 3, num_variables: int | None = None) -> None:
        super().__init__(num_objectives, num_variables)

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f_1 … f_m: ``(N, n)`` to ``(N, m)``."""
        positions, others = self._split(x)
        half = (1 + _rugged(others)) / 2
        return half.unsqueeze(-1) - _linear(positions, half)

    def pareto_front(self, num_points: int) -> Tensor:
        """½ − λ / 2 at the evenly spread λ of ``simplex_lattice``: ``(≤ num_points, m)``.

        Raises:
            ValueError: fewer points than objectives.
        """
        return 0.5 - _lattice(self.num_objectives, num_points) / 2


class _SphereDTLZ(_DTLZ):
    """What DTLZ2 to DTLZ4 share: the angles of a point on the sphere, of radius 1 + g."""

    def __init__(self, num_objectives: int, num_variables: int | None) -> None:
        super().__init__(num_objectives, num_variables, distance_variables=10)

    @abstractmethod
    def _distance(self, others: Tensor) -> Tensor:
        """g of the x_i − ½: ``(…, n − m + 1)`` to ``(…)``."""

    def _turn(self, positions: Tensor) -> Tensor:
        """θ as a fraction of the right angle, of the first m − 1 variables: these themselves, by default."""
        return positions

    def _position(self, turns: Tensor) -> Tensor:
        """The inverse of :meth:`_turn`."""
        return turns

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f_1 … f_m: ``(N, n)`` to ``(N, m)``."""
        positions, others = self._split(x)
        turns = self._turn(positions)
        # sin(π/2 − θ) for cos θ: at θ = π/2 it is 0, not a rounding error below 0 that a large g would multiply.
        cosines, sines = ((math.pi / 2) * (1 - turns)).sin(), ((math.pi / 2) * turns).sin()
        return _chain(cosines, sines, 1 + self._distance(others))

    def pareto_set(self, num_points: int) -> Tensor:
        """The angles of :meth:`pareto_front`, and ½ for every other variable: ``(≤ num_points, n)``."""
        front = self.pareto_front(num_points)
        turns = front.new_zeros(len(front), self.num_objectives - 1)
        for j in range(self.num_objectives - 1):
            last = self.num_objectives - 1 - j
            turns[:, j] = torch.atan2(front[:, last], torch.linalg.vector_norm(front[:, :last], dim=1)) * (2 / math.pi)
        return self._with_rest(self._position(turns))

    def pareto_front(self, num_points: int) -> Tensor:
        """λ / ‖λ‖ at the evenly spread λ of ``simplex_lattice``: ``(≤ num_points, m)``.

        Raises:
            ValueError: fewer points than objectives.
        """
        lattice = _lattice(self.num_objectives, num_points)
        return lattice / torch.linalg.vector_norm(lattice, dim=1, keepdim=True)


@OBJECTIVES.register("dtlz2")
class DTLZ2(_SphereDTLZ):
    """The front is the part of the unit sphere Σ_i f_i² = 1 with all f_i ≥ 0: concave.

    With angles θ_j = π/2 · x_j for j < m and g = Σ_{i ≥ m} (x_i − ½)², x in [0, 1]^n:

        f_1 = (1 + g) cos θ_1 … cos θ_{m−2} cos θ_{m−1}
        f_2 = (1 + g) cos θ_1 … cos θ_{m−2} sin θ_{m−1}
        …
        f_m = (1 + g) sin θ_1

    Args:
        num_objectives: m ≥ 2.
        num_variables: n ≥ m; m + 9 by default.

    Raises:
        ValueError: fewer than two objectives, or fewer variables than objectives.

    Source: K. Deb, L. Thiele, M. Laumanns and E. Zitzler, Scalable Multi-Objective Optimization Test Problems (2002).

    Example:
        >>> DTLZ2(num_objectives=3, num_variables=3).evaluate(torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 1.0]]))
        tensor([[1.0000, 0.0000, 0.0000],
                [1.2500, 0.0000, 0.0000]])
    """

    @checks_arguments
    def __init__(self, num_objectives: int = 3, num_variables: int | None = None) -> None:
        super().__init__(num_objectives, num_variables)

    def _distance(self, others: Tensor) -> Tensor:
        return _smooth(others)


@OBJECTIVES.register("dtlz3")
class DTLZ3(_SphereDTLZ):
    """:class:`DTLZ2` with the distance g of :class:`DTLZ1`: the same front behind many local ones.

    g has 11^(n − m + 1) local minima, and descent stops at the nearest.

    Args:
        num_objectives: m ≥ 2.
        num_variables: n ≥ m; m + 9 by default.

    Raises:
        ValueError: fewer than two objectives, or fewer variables than objectives.

    Source: K. Deb, L. Thiele, M. Laumanns and E. Zitzler, Scalable Multi-Objective Optimization Test Problems (2002).

    Example:
        >>> DTLZ3(num_objectives=3, num_variables=3).evaluate(torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 1.0]]))
        tensor([[ 1.,  0.,  0.],
                [26.,  0.,  0.]])
    """

    @checks_arguments
    def __init__(self, num_objectives: int = 3, num_variables: int | None = None) -> None:
        super().__init__(num_objectives, num_variables)

    def _distance(self, others: Tensor) -> Tensor:
        return _rugged(others)


@OBJECTIVES.register("dtlz4")
class DTLZ4(_SphereDTLZ):
    """:class:`DTLZ2` with the angles θ_j = π/2 · x_j^α: the same front, whose points crowd at its edges.

    With the paper's α = 100 the gradient in x_j is below 1e-10 wherever x_j < 0.75, though never infinite; a smaller α
    keeps the crowding and lets descent move.

    Args:
        num_objectives: m ≥ 2.
        num_variables: n ≥ m; m + 9 by default.
        alpha: the power α ≥ 1, a whole number.

    Raises:
        ValueError: fewer than two objectives, fewer variables than objectives, or an alpha that is no whole number
            above 0.
        TypeError: an argument of another kind, named.

    Source: K. Deb, L. Thiele, M. Laumanns and E. Zitzler, Scalable Multi-Objective Optimization Test Problems (2002).

    Example:
        >>> DTLZ4(num_objectives=2, num_variables=2, alpha=2).evaluate(torch.tensor([[0.5**0.5, 0.5], [0.0, 1.0]]))
        tensor([[0.7071, 0.7071],
                [1.2500, 0.0000]])
    """

    @checks_arguments(but=("alpha",))
    def __init__(self, num_objectives: int = 3, num_variables: int | None = None, alpha: int = 100) -> None:
        power: float = python_value(alpha, float, "alpha")
        if power < 1 or not power.is_integer():
            raise ValueError(f"alpha is {alpha}: the power of DTLZ4 must be a whole number of at least 1.")
        super().__init__(num_objectives, num_variables)
        self.alpha = int(power)

    def _distance(self, others: Tensor) -> Tensor:
        return _smooth(others)

    def _turn(self, positions: Tensor) -> Tensor:
        return positions.pow(self.alpha)

    def _position(self, turns: Tensor) -> Tensor:
        return turns.pow(1 / self.alpha)


def _lattice(num_objectives: int, num_points: int) -> Tensor:
    """``simplex_lattice`` in float64, each row's sum 1."""
    lattice = simplex_lattice(num_objectives, num_points).double()
    return lattice / lattice.sum(dim=1, keepdim=True)


def _smooth(others: Tensor) -> Tensor:
    """Σ (x − ½)²: the distance without local minima."""
    return others.square().sum(dim=-1)


def _rugged(others: Tensor) -> Tensor:
    """100 · Σ ((x − ½)² + 1 − cos(20π (x − ½))): the distance with a local minimum every tenth."""
    # 1 − cos(2a) = 2 sin²(a), which float32 keeps exact near 0.
    return 100 * (others.square() + 2 * torch.sin(10 * math.pi * others).square()).sum(dim=-1)


def _linear(positions: Tensor, size: Tensor) -> Tensor:
    """size · x_1 … x_{m−1}, size · x_1 … (1 − x_{m−1}), …, size · (1 − x_1): the rows sum to ``size``."""
    return _chain(positions, 1 - positions, size)


def _chain(a: Tensor, b: Tensor, size: Tensor) -> Tensor:
    """size · a_1 … a_{m−1}, size · a_1 … a_{m−2} b_{m−1}, …, size · b_1: ``(…, m − 1)`` twice to ``(…, m)``."""
    values = []
    for j in range(a.shape[-1]):
        values.append(size * b[..., j])
        size = size * a[..., j]
    return torch.stack([size, *reversed(values)], dim=-1)
