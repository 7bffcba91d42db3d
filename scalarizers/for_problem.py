"""A scalarizer by name, with the points it needs taken from a problem whose front is known."""

from inspect import signature
from typing import Any, Protocol

from torch import Tensor

from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer

from .normalized import Normalized

__all__ = ["scalarizer_for_problem"]

# Where each point lies once losses are normalised to ideal 0 and nadir 1.
_NORMALIZED_POINTS = {"ideal": 0.0, "nadir": 1.0, "reference_point": 0.0}
# The hypervolume's reference point lies beyond the nadir point, so that the front's ends count.
_HYPERVOLUME_REFERENCE = 1.1


class _KnownPoints(Protocol):
    """What has to be known of a problem; ``mopref.objectives.Problem`` has it."""

    ideal_point: Tensor | None
    nadir_point: Tensor | None

    @property
    def num_objectives(self) -> int: ...


def scalarizer_for_problem(name: str, problem: _KnownPoints, **options: Any) -> Scalarizer:
    """The scalarizer registered as ``name``, on losses normalised by the problem's ideal and nadir points.

    What it measures from follows: ideal point 0, nadir point 1, reference point 0 for achievement scalarizing and 1.1
    for hypervolume scalarization.

    Args:
        name: a name in ``SCALARIZERS``.
        problem: a problem whose ``ideal_point`` and ``nadir_point`` are known.
        **options: further options of the scalarizer.

    Raises:
        ValueError: an unknown name, or a problem whose points are not known.

    Example:
        >>> import torch
        >>> from mopref.objectives import ScaledZDT1
        >>> g = scalarizer_for_problem("tchebycheff", ScaledZDT1(scales=(1.0, 100.0)))
        >>> g(torch.tensor([0.5, 50.0]), torch.tensor([0.5, 0.5]))
        tensor(0.2500)
    """
    if problem.ideal_point is None or problem.nadir_point is None:
        raise ValueError(
            f"the ideal and nadir points of {type(problem).__name__} are not known: use Normalized(scalarizer), which "
            "tracks them."
        )
    m = problem.num_objectives
    if name in SCALARIZERS:
        for parameter in signature(SCALARIZERS[name]).parameters:
            if parameter in _NORMALIZED_POINTS:
                place = _HYPERVOLUME_REFERENCE if name == "hypervolume" else _NORMALIZED_POINTS[parameter]
                options = {parameter: [place] * m, **options}
    return Normalized(SCALARIZERS.make(name, **options), ideal=problem.ideal_point, nadir=problem.nadir_point)
