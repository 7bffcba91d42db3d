"""The front that a model has reached, from a function that measures its losses."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import Tensor

from mopref.front import Front, even_preferences
from mopref.preferences import simplex_lattice, validate_preferences

__all__ = ["measured_front"]


def measured_front(
    losses_at: Callable[[Tensor], Tensor],
    preferences: Any,
    names: Sequence[str],
    *,
    spread: str = "preferences",
    convention: Any = "importance",
    metadata: Mapping[str, Any] | None = None,
) -> Front:
    """The losses at given preferences, or at a number of points that are spread evenly.

    Args:
        losses_at: measures: preferences ``(N, m)`` to losses ``(N, m)``.
        preferences: ``(N, m)``, by name, or a number of points.
        names: of the m objectives.
        spread: "preferences" for a lattice of them, "front" for points that are even on the front itself.
        convention: what λ said in the training, for the front.
        metadata: for the front.

    Raises:
        ValueError: an unknown ``spread`` or one that is not asked for, preferences that do not lie on the simplex, or
            losses of another shape.
    """
    count = int(preferences) if isinstance(preferences, Integral) and not isinstance(preferences, bool) else None
    if spread not in ("preferences", "front"):
        raise ValueError(f"spread is {spread!r}: choose 'preferences' or 'front'.")
    if spread == "front" and count is None:
        raise ValueError("spread is 'front', but the preferences are given: give a number of points to be spread.")
    if count is not None:
        m = len(names)
        preferences = simplex_lattice(m, count) if spread == "preferences" else even_preferences(losses_at, m, count)
    matrix = validate_preferences(preferences, names)
    losses = losses_at(matrix)
    if losses.shape != matrix.shape:
        raise ValueError(
            f"the objective's mean_losses returned shape {tuple(losses.shape)}, not {tuple(matrix.shape)}: one row for "
            "each preference, one column for each objective."
        )
    return Front(
        preferences=matrix.detach().cpu().numpy(),
        values=losses.detach().cpu().double().numpy(),
        names=names,
        metadata=metadata,
        convention=convention,
    )
