"""Problem: objectives that are plain functions of decision variables x, such as the synthetic test problems."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.bounds import Bounds, box_bounds
from mopref.objective import Objective
from mopref.objective_names import checked_names, numbered_names
from mopref.setting_types import check_numbers

__all__ = ["Problem", "checks_variables"]

_Of = TypeVar("_Of", bound="Problem")
# What every problem has as attributes; a subclass's own are its options.
_FRAME = frozenset(("bounds", "ideal_point", "nadir_point", "names", "num_variables"))
# How far outside its bounds a variable may lie, as a fraction of their distance: float32 rounding of a model's output.
_TOLERANCE = 1e-5


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
        >>> import torch
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

    @checks_arguments
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
        check_numbers({"num_variables": num_variables, "num_objectives": num_objectives})
        self.num_variables = num_variables
        self.names = numbered_names(num_objectives) if names is None else checked_names(names)
        if len(self.names) != num_objectives:
            raise ValueError(
                f"there are {num_objectives} objectives, but {len(self.names)} names ({', '.join(self.names)}): give "
                "one name each."
            )
        self.bounds = box_bounds(bounds, num_variables)
        self.ideal_point = None
        self.nadir_point = None

    def options(self) -> dict[str, Any]:
        """The public attributes that a subclass adds."""
        return {name: value for name, value in super().options().items() if name not in _FRAME}

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

    @checks_arguments
    def losses(self, model: Callable[..., Any], batch: Any, preferences: Tensor) -> Tensor:
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
        lower, upper = self.bounds.to(x).unbind()
        if torch.equal(x, x.clamp(lower, upper)):
            return
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


def checks_variables(evaluate: Callable[[_Of, Tensor], Tensor]) -> Callable[[_Of, Tensor], Tensor]:
    """Decorate a problem's ``evaluate``, so that it refuses an x that is no floating-point tensor ``(…, n)``.

    Raises:
        TypeError: by the decorated method, for an x that is no tensor.
        ValueError: by the decorated method, for one of another shape or type.
    """

    @wraps(evaluate)
    def checked(self: _Of, x: Tensor) -> Tensor:
        variables = checked_kind(x, Tensor, "x")
        if not variables.is_floating_point() or variables.ndim == 0 or variables.shape[-1] != self.num_variables:
            raise ValueError(
                f"x is {variables.dtype} of shape {tuple(variables.shape)}: give floating-point numbers, one row a "
                f"point and one column for each of the {self.num_variables} variables."
            )
        return evaluate(self, variables)

    return checked
