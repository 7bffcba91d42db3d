"""Scalarizer: how the m losses of one preference become one number to minimise, and the ideal point it may need."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["IdealPointScalarizer", "Scalarizer", "given_point", "matching_point"]


def given_point(point: Sequence[float] | Tensor, name: str) -> Tensor:
    """A point that a user gave, checked and copied: shape ``(m,)``, float64 on the CPU.

    Args:
        point: m numbers (list, array or tensor).
        name: the option's name, for the message.

    Raises:
        ValueError: a point that is not a finite vector.
    """
    given = torch.as_tensor(point, dtype=torch.float64).detach().cpu().clone()
    if given.ndim != 1 or given.shape[0] == 0 or not given.isfinite().all():
        raise ValueError(f"{name} is {point!r}: give one finite number per objective.")
    return given


def matching_point(point: Tensor, losses: Tensor, name: str) -> Tensor:
    """A point ``(m,)`` in the losses' dtype and on their device.

    Raises:
        ValueError: a point of another length than the losses' last dimension.
    """
    if point.shape[0] != losses.shape[-1]:
        raise ValueError(f"the {name} has {point.shape[0]} numbers, but there are {losses.shape[-1]} losses.")
    return point.to(losses)


class Scalarizer(ABC):
    """g(f; λ): losses ``(…, m)`` and preferences ``(…, m)`` to scalarized losses ``(…)``, to be minimised.

    A new scalarizer implements :meth:`scalarize`, row by row independent: a batch equals the loop over its rows.
    The losses are means already (of a group of rows that share one preference): a non-linear g of per-row losses
    would be another objective.
    """

    @abstractmethod
    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """The formula: ``(…, m)`` and ``(…, m)`` to ``(…)``; shapes are checked already."""

    def __call__(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """Scalarize, ``(…, m)`` and ``(…, m)`` to ``(…)``.

        Raises:
            ValueError: shapes that do not match.
        """
        if losses.ndim == 0 or preferences.ndim == 0 or losses.shape[-1] != preferences.shape[-1]:
            raise ValueError(
                f"losses have shape {tuple(losses.shape)} and preferences {tuple(preferences.shape)}: "
                "the last dimension of both is the number of objectives."
            )
        return self.scalarize(losses, preferences.to(losses))

    def observe(self, losses: Tensor) -> None:  # noqa: B027 - an optional hook
        """See the losses ``(N, m)`` of a training step before they are scalarized; nothing to do by default."""

    def target_direction(self, preferences: Tensor) -> Tensor | None:
        """Where g's minimisers lie, ``(…, m)`` to ``(…, m)``: the direction from the ideal or reference point.

        The minimiser for λ is the point where the ray in this direction meets the front, if it meets it. Only the
        direction counts, not its length. ``None``, as by default, where the formula has no such ray.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; empty for a stateless scalarizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - an optional hook
        """Continue from a state given by :meth:`state_dict`."""


class IdealPointScalarizer(Scalarizer):
    """A scalarizer that measures losses from an ideal point z, with z_i ≤ f_i for every loss.

    z is either given, or tracked: the running minimum of each loss seen by :meth:`observe` (``ParetoTrainer`` calls
    it at every step), minus a margin. A tracked ideal point is part of the checkpoint.

    A z above some f_i is refused rather than used: with λ_i = 0 elsewhere the maximum would stop depending on the
    model and training would stop in silence.

    Args:
        ideal: z, m numbers (list, array or tensor); ``None`` to track it.
        margin: how far below the running minimum a tracked z lies, in units of the losses, ≥ 0.

    Raises:
        ValueError: an ideal point that is not a finite vector, or a negative margin.
    """

    def __init__(self, ideal: Sequence[float] | Tensor | None = None, margin: float = 0.01) -> None:
        if not margin >= 0:
            raise ValueError(f"margin is {margin}: a tracked ideal point lies below the losses, so margin is ≥ 0.")
        self.tracked = ideal is None
        self.margin = margin
        self._minimum: Tensor | None = None if ideal is None else given_point(ideal, "ideal")

    @property
    def ideal_point(self) -> Tensor | None:
        """z, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        if self._minimum is None:
            return None
        return self._minimum - self.margin if self.tracked else self._minimum

    def observe(self, losses: Tensor) -> None:
        """Lower a tracked ideal point to the smallest of these losses, shape ``(…, m)``; no effect on a given one."""
        if not self.tracked:
            return
        seen = losses.detach().double().cpu().reshape(-1, losses.shape[-1]).amin(dim=0)
        self._minimum = seen if self._minimum is None else torch.minimum(self._minimum, seen)

    def above_ideal(self, losses: Tensor) -> Tensor:
        """f − z, shape ``(…, m)``.

        Raises:
            ValueError: no ideal point yet, one of another length, or one that lies above a loss.
        """
        ideal = self.ideal_point
        if ideal is None:
            raise ValueError(
                f"{type(self).__name__} has no ideal point: give ideal=[…], or call observe(losses) first "
                "(ParetoTrainer does so at every step)."
            )
        point = matching_point(ideal, losses, "ideal point")
        difference = losses - point
        # Rounding may put a loss that sits on the ideal point a hair below it.
        allowed = 1e-5 * (1 + point.abs())
        below = difference.detach() < -allowed
        if below.any():
            objective = int(below.nonzero()[0, -1])
            lowest = losses.detach()[..., objective].min().item()
            raise ValueError(
                f"the ideal point's entry {objective} is {ideal[objective].item():g}, above a loss of {lowest:g}: an "
                "ideal point lies below every loss. Give a lower one, or none (ideal=None) to have it tracked."
            )
        return difference

    def state_dict(self) -> dict[str, Any]:
        """The running minimum of a tracked ideal point."""
        return {"minimum": self._minimum} if self.tracked else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        if self.tracked:
            self._minimum = state["minimum"]
