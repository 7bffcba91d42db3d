"""Problem: objectives that are plain functions of decision variables x, such as the synthetic test problems."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mopref.bounds import Bounds, box_bounds
from mopref.objective import Objective

__all__ = ["Problem", "StoredSetProblem"]

# How far outside its bounds a variable may lie, as a fraction of their distance: float32 rounding of a model's output.
_TOLERANCE = 1e-5

# So many straight steps stand for a piece of a curve where its length is measured.
_KNOTS = 2_001


class Problem(Objective):
    """m functions f(x) of n variables x inside a box, all to be minimised.

    A new problem calls ``super().__init__`` and implements :meth:`evaluate`; everything else is optional. What is
    known of its Pareto front goes into :attr:`ideal_point`, :attr:`nadir_point`, :meth:`pareto_set` and
    :meth:`pareto_front`, which are in float64.

    Args:
        num_variables: n.
        num_objectives: m.
        bounds: ``(lower, upper)``, each a number for all variables or one for each.
        names: one name per objective; f1 … fm by default.

    Attributes:
        bounds: ``(2, n)``, float64: the lower bounds, then the upper ones.
        ideal_point: the smallest value of each objective on the front, ``(m,)``; ``None`` where unknown.
        nadir_point: the largest value of each objective on the front, ``(m,)``; ``None`` where unknown.

    Raises:
        ValueError: a count below 1, a wrong number of names, or bounds that are not finite with lower < upper.

    Example:
        >>> class Parabolas(Problem):
        ...     def __init__(self):
        ...         super().__init__(num_variables=1, num_objectives=2, bounds=(-2.0, 2.0))
        ...     def evaluate(self, x):
        ...         return torch.cat([x**2, (x - 1) ** 2], dim=-1)
        >>> Parabolas().evaluate(torch.tensor([[2.0]]))
        tensor([[4., 1.]])
    """

    ideal_point: Tensor | None
    nadir_point: Tensor | None

    def __init__(
        self,
        num_variables: int,
        num_objectives: int,
        bounds: Bounds = (0.0, 1.0),
        names: Sequence[str] | None = None,
    ) -> None:
        for name, count in (("num_variables", num_variables), ("num_objectives", num_objectives)):
            if count < 1:
                raise ValueError(f"{name} is {count}: it must be at least 1.")
        self.num_variables = num_variables
        self.names = tuple(names) if names is not None else tuple(f"f{i + 1}" for i in range(num_objectives))
        if len(self.names) != num_objectives:
            raise ValueError(
                f"there are {num_objectives} objectives, but {len(self.names)} names ({', '.join(self.names)}): give "
                "one name each."
            )
        self.bounds = box_bounds(bounds, num_variables)
        self.ideal_point = None
        self.nadir_point = None

    @abstractmethod
    def evaluate(self, x: Tensor) -> Tensor:
        """f(x), differentiable and row by row independent: ``(N, n)`` to ``(N, m)`` in the dtype of ``x``."""

    def pareto_set(self, num_points: int) -> Tensor:
        """Points x of the Pareto set, evenly spread along it, at most ``num_points`` of them: ``(≤ num_points, n)``.

        Raises:
            NotImplementedError: the Pareto set is not known.
        """
        raise NotImplementedError(
            f"the Pareto set of {type(self).__name__} is not known in closed form: implement pareto_set() if you know "
            "it, or use a front found by training."
        )

    def pareto_front(self, num_points: int) -> Tensor:
        """Values f of the Pareto front, at most ``num_points`` of them: ``(≤ num_points, m)``; f(pareto_set) here.

        Raises:
            NotImplementedError: the Pareto front is not known.
        """
        if type(self).pareto_set is Problem.pareto_set:
            raise NotImplementedError(
                f"the Pareto front of {type(self).__name__} is not known in closed form: implement pareto_front() or "
                "pareto_set() if you know it, or use a front found by training."
            )
        return self.evaluate(self.pareto_set(num_points))

    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """f(model(λ)): preferences ``(G, m)`` to ``(G, m)``. There is no data; ``batch`` is not looked at.

        Raises:
            ValueError: the model's output is not ``(G, n)``, or lies outside the bounds.
        """
        x = model(preferences)
        expected = (preferences.shape[0], self.num_variables)
        if x.shape != expected:
            raise ValueError(
                f"the model returned shape {tuple(x.shape)}, not {expected}: one row for each preference, one column "
                f"for each variable of {type(self).__name__}."
            )
        self._check_bounds(x.detach())
        return self.evaluate(x)

    def _check_bounds(self, x: Tensor) -> None:
        lower, upper = self.bounds.to(x)
        slack = _TOLERANCE * (upper - lower)
        # NaN passes: the trainer reports a loss that is not finite, with its step and preference.
        outside = (x < lower - slack) | (x > upper + slack)
        if outside.any():
            row, variable = (int(i) for i in outside.nonzero()[0])
            raise ValueError(
                f"row {row} of the model's output has {x[row, variable].item():g} for variable {variable}, outside "
                f"{type(self).__name__}'s bounds [{lower[variable].item():g}, {upper[variable].item():g}]: give the "
                "model the problem's bounds (ParetoSetModel.for_problem does)."
            )


class StoredSetProblem(Problem):
    """A problem whose Pareto set has no formula: points of it, computed once, lie in ``data/`` beside this file.

    The ideal and the nadir point are those of the stored points. ``benchmarks/reference_fronts.py`` computes them.

    Args:
        stored: the name of the file, one point x a row; the first m rows hold the minimisers of the m objectives, and
            any first few rows are spread evenly over the front.
        num_variables: n.
        num_objectives: m.
        bounds: as in :class:`Problem`.
        names: as in :class:`Problem`.
    """

    def __init__(
        self,
        stored: str,
        num_variables: int,
        num_objectives: int,
        bounds: Bounds = (0.0, 1.0),
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_variables, num_objectives, bounds, names)
        with files(__package__).joinpath("data", stored).open(encoding="utf-8") as file:
            self._stored = torch.from_numpy(np.loadtxt(file, delimiter=",", ndmin=2))
        front = self.evaluate(self._stored)
        self.ideal_point, self.nadir_point = front.amin(dim=0), front.amax(dim=0)

    def pareto_set(self, num_points: int) -> Tensor:
        """Stored points, spread evenly over the front, the minimiser of each objective first: ``(≤ num_points, n)``.

        Raises:
            ValueError: fewer points than objectives.
        """
        if num_points < self.num_objectives:
            raise ValueError(
                f"{num_points} points cannot hold the best of each of {self.num_objectives} objectives: ask for at "
                f"least {self.num_objectives}."
            )
        return self._stored[:num_points].clone()


def even_spread(start: float, end: float, num_points: int) -> Tensor:
    """``num_points`` numbers in even steps from start to end, shape ``(num_points,)``, float64.

    Raises:
        ValueError: fewer than two points.
    """
    if num_points < 2:
        raise ValueError(f"{num_points} points cannot hold both ends of the front: ask for at least 2.")
    return torch.linspace(start, end, num_points, dtype=torch.float64)


def even_along(values: Callable[[Tensor], Tensor], pieces: Sequence[tuple[float, float]], num_points: int) -> Tensor:
    """Numbers t whose ``values(t)`` lie in even steps along a curve, whatever its speed: ``(num_points,)``, float64.

    The length of the curve is measured with each objective divided by its range. The first and the last end of the
    pieces are among the points.

    Args:
        values: t ``(K,)`` to the curve's points ``(K, m)``.
        pieces: the ranges of t that make up the curve, in order; what lies between two of them has no length.
        num_points: how many.

    Raises:
        ValueError: fewer than two points.
    """
    share = even_spread(0.0, 1.0, num_points)
    # Squared steps: a curve may start as steeply as a square root does.
    knots = torch.cat([start + (end - start) * even_spread(0.0, 1.0, _KNOTS).square() for start, end in pieces])
    curve = values(knots)
    steps = torch.linalg.vector_norm((curve / (curve.amax(dim=0) - curve.amin(dim=0))).diff(dim=0), dim=1)
    steps[_KNOTS - 1 :: _KNOTS] = 0
    length = torch.cat([steps.new_zeros(1), steps.cumsum(dim=0)])
    wanted = share * length[-1]
    # The first knot at or beyond each length, so that no point is put between two pieces.
    after = torch.searchsorted(length, wanted).clamp(min=1)
    before = after - 1
    fraction = (wanted - length[before]) / (length[after] - length[before]).clamp(min=torch.finfo(length.dtype).tiny)
    return torch.lerp(knots[before], knots[after], fraction)
