"""Problems whose Pareto set has no formula, but was computed once and is stored."""

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from mopref.bounds import Bounds
from mopref.problem import Problem
from mopref.setting_types import python_value

__all__ = ["StoredSetProblem"]


class StoredSetProblem(Problem):
    """A problem whose Pareto set has no formula: points of it, computed once, lie in ``data/`` beside this file.

    The ideal and the nadir point are those of the stored points. ``benchmarks/reference_fronts.py`` computes them.

    Args:
        file_name: in ``data/``, one point x a row; the first m rows hold the minimisers of the m objectives, and
            any first few rows are spread evenly over the front.
        num_variables: n.
        num_objectives: m.
        bounds: as in :class:`Problem`.
        names: as in :class:`Problem`.
    """

    def __init__(
        self,
        file_name: str,
        num_variables: int,
        num_objectives: int,
        bounds: Bounds = (0.0, 1.0),
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_variables, num_objectives, bounds, names)
        with files(__package__).joinpath("data", file_name).open(encoding="utf-8") as file:
            self._points = torch.from_numpy(np.loadtxt(file, delimiter=",", ndmin=2))
        front = self.evaluate(self._points)
        self.ideal_point, self.nadir_point = front.amin(dim=0), front.amax(dim=0)

    def pareto_set(self, num_points: int) -> Tensor:
        """Stored points, spread evenly over the front, the minimiser of each objective first: ``(≤ num_points, n)``.

        Raises:
            ValueError: fewer points than objectives.
            TypeError: no whole number.
        """
        num_points = python_value(num_points, int, "num_points")
        if num_points < self.num_objectives:
            raise ValueError(
                f"{num_points} points cannot hold the best of each of {self.num_objectives} objectives: ask for at "
                f"least {self.num_objectives}."
            )
        return self._points[:num_points].clone()
