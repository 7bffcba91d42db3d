"""A scalarizer by name, with the points it needs taken from a problem whose front is known."""

from inspect import signature
from typing import Any, Protocol, cast

from torch import Tensor

from mopref._repr import short_repr
from mopref.option_checks import Convention, checked_convention
from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer

from .normalized import Normalized

__all__ = ["scalarizer_for_problem"]


# Options that are the problem's own points here.
_POINTS = ("ideal", "nadir", "reference_point")


class _KnownPoints(Protocol):
    """What has to be known of a problem; ``mopref.objectives.Problem`` has it."""

    ideal_point: Tensor | None
    nadir_point: Tensor | None

    @property
    def num_objectives(self) -> int: ...


def scalarizer_for_problem(
    name: str, problem: _KnownPoints, *, convention: Convention = "importance", **options: Any
) -> Scalarizer:
    """The scalarizer registered as ``name``, on losses normalised by the problem's ideal and nadir points.

    It is made by :meth:`Scalarizer.between` for losses between 0 and 1: each class says which point it measures from.

    Args:
        name: a name in ``SCALARIZERS``.
        problem: a problem whose ``ideal_point`` and ``nadir_point`` are known.
        convention: what λ says: "importance", or "ray" for the literature's formula of those that aim along a ray.
        **options: further options of the scalarizer, in normalised units.

    Raises:
        ValueError: an unknown name or convention, one that the scalarizer does not have, "normalized", or a problem
            whose points are not known.

    Example:
        >>> import torch
        >>> from mopref.objectives import ScaledZDT1
        >>> g = scalarizer_for_problem("tchebycheff", ScaledZDT1(scales=(1.0, 100.0)))
        >>> g(torch.tensor([0.5, 50.0]), torch.tensor([0.5, 0.5]))
        tensor(0.2500)
    """
    if not all(hasattr(problem, name) for name in ("ideal_point", "nadir_point", "num_objectives")):
        raise TypeError(f"problem is {short_repr(problem)}, of type {type(problem).__name__}: give a Problem.")
    ideal, nadir, m = problem.ideal_point, problem.nadir_point, problem.num_objectives
    if ideal is None or nadir is None:
        raise ValueError(
            f"the ideal and nadir points of {type(problem).__name__} are not known: use Normalized(scalarizer), which "
            "tracks them."
        )
    kind = cast(type[Scalarizer], SCALARIZERS.find(name))
    if kind is Normalized:
        raise ValueError(f"the losses are normalised already: name the scalarizer that is to see them, not {name!r}.")
    if checked_convention(convention) not in kind.conventions:
        raise ValueError(
            f"convention is {convention!r}, but {name!r} knows 'importance' only: it aims along no ray, so leave the "
            "convention out."
        )
    if len(kind.conventions) > 1:
        options["convention"] = convention
    parameters = {**signature(kind.between).parameters, **signature(kind).parameters}
    known = [option for option in parameters if option not in (*_POINTS, "options")]
    unknown = next((option for option in options if option not in known), None)
    if unknown is not None:
        raise ValueError(
            f"scalarizer {name!r} has no option {unknown!r} here, where its points are the problem's: it has "
            f"{', '.join(known) or 'none'}."
        )
    return Normalized(kind.between([0.0] * m, [1.0] * m, **options), ideal=ideal, nadir=nadir)
