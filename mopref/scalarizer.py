"""Scalarizer: how the m losses of one preference become one number to minimise, and the ideal point it may need."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from mopref._repr import OptionsRepr
from mopref.argument_kinds import checks_arguments
from mopref.option_checks import Convention, Point
from mopref.tracked_points import TrackedIdeal, difference_above

__all__ = ["IdealPointScalarizer", "Scalarizer"]


class Scalarizer(OptionsRepr, ABC):
    """g(f; λ): losses ``(…, m)`` and preferences ``(…, m)`` to scalarized losses ``(…)``, to be minimised.

    A new scalarizer implements :meth:`scalarize`, row by row independent: a batch equals the loop over its rows.
    The losses are means already (of a group of rows that share one preference): a non-linear g of per-row losses
    would be another objective. One that measures losses from a point says so in :meth:`between` and :attr:`origin`.

    λ is the importance of the objectives: a larger λ_i never asks for a larger loss i, and the corner e_i asks for the
    smallest. A formula that is written otherwise says so in :attr:`convention`.

    A step takes the mean of g over its preferences, so no preference may drown the others: the slope of g at a corner,
    Σ_i |∂g/∂f_i|, stays within a small factor of the one at the centre of the simplex, a number of objectives at most
    unless a class says otherwise.

    Attributes:
        conventions: what λ can be told to say, by the option ``convention`` where there is a choice.
    """

    conventions: ClassVar[tuple[Convention, ...]] = ("importance",)

    @classmethod
    def between(cls, ideal: Point, nadir: Point, **options: Any) -> Self:
        """An instance for losses that lie between two points; which of them it measures from is the class's own.

        A formula without a point, as by default, looks at neither.

        Args:
            ideal: the smallest losses, m numbers (list, array or tensor).
            nadir: the largest losses on the front, m numbers.
            **options: further options of the class.
        """
        return cls(**options)

    @property
    def origin(self) -> Tensor | None:
        """The point that the formula measures from, and target directions start at: ``(m,)``, float64 on the CPU.

        ``None`` where there is no such point, as by default, or none yet.
        """
        return None

    @property
    def convention(self) -> Convention:
        """What λ says: "importance", as by default, or "ray" where a larger λ_i asks for a larger loss i."""
        return "importance"

    @abstractmethod
    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """The formula: ``(…, m)`` and ``(…, m)`` to ``(…)``; shapes are checked already."""

    @checks_arguments
    def __call__(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """Scalarize, ``(…, m)`` and ``(…, m)`` to ``(…)``.

        Raises:
            ValueError: shapes that do not match, or losses that are no floating-point numbers.
            TypeError: losses or preferences that are no tensors.
        """
        if not _match(losses.shape, preferences.shape):
            raise ValueError(
                f"losses have shape {tuple(losses.shape)} and preferences {tuple(preferences.shape)}: "
                "the last dimension of both is the number of objectives, and the others must be the same."
            )
        if not losses.is_floating_point():
            raise ValueError(f"losses are {losses.dtype}: give floating-point numbers, losses.float().")
        return self.scalarize(losses, preferences.to(losses))

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse another number of objectives than it was made for; none by default.

        One that was given a point, or weights, with a number for each objective says so here, before any training.

        Raises:
            ValueError: a point of another length.
        """

    def observe(self, losses: Tensor) -> None:
        """See the losses ``(N, m)`` of a training step before they are scalarized; nothing to do by default."""

    def target_direction(self, preferences: Tensor) -> Tensor | None:
        """Where g's minimisers lie, ``(…, m)`` to ``(…, m)``: the direction from :attr:`origin`.

        The minimiser for λ is the point where the ray in this direction meets the front, if it meets it. Only the
        direction counts, not its length. ``None``, as by default, where the formula has no such ray.
        """
        return None

    def backward_direction(self, preferences: Tensor) -> Tensor | None:
        """Where g's minimisers lie that are better than :attr:`origin` in every objective, ``(…, m)`` to ``(…, m)``.

        By default the line of :meth:`target_direction` goes on beyond the origin. ``None`` where there is none.
        """
        direction = self.target_direction(preferences)
        return None if direction is None else -direction

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; empty for a stateless scalarizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""


def _match(losses: Sequence[int], preferences: Sequence[int]) -> bool:
    """Whether these shapes end with the same number of objectives, and can be broadcast before that."""
    if not losses or not preferences or losses[-1] != preferences[-1] or losses[-1] == 0:
        return False
    pairs = zip(reversed(losses[:-1]), reversed(preferences[:-1]), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


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

    def __init__(self, ideal: Point | None = None, margin: float = 0.01) -> None:
        self._ideal = TrackedIdeal(ideal, margin)

    @classmethod
    def between(cls, ideal: Point, nadir: Point, **options: Any) -> Self:
        """An instance that measures from the ideal point."""
        return cls(ideal=ideal, **options)

    @property
    def ideal_point(self) -> Tensor | None:
        """z, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        return self._ideal.point

    @property
    def origin(self) -> Tensor | None:
        """The ideal point z."""
        return self.ideal_point

    @property
    def tracked(self) -> bool:
        """Whether the ideal point follows the losses seen."""
        return self._ideal.tracked

    @property
    def margin(self) -> float:
        """How far below the running minimum a tracked ideal point lies."""
        return self._ideal.margin

    def options(self) -> dict[str, Any]:
        """The ideal point, or ``None`` and the margin that a tracked one has, and the options of the formula."""
        if self.tracked:
            return {"ideal": None, **super().options(), "margin": self.margin}
        return {"ideal": self.ideal_point, **super().options()}

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse an ideal point of another length."""
        self._ideal.check_objectives(num_objectives)

    def observe(self, losses: Tensor) -> None:
        """Lower a tracked ideal point to the smallest of these losses, shape ``(…, m)``; no effect on a given one."""
        self._ideal.observe(losses)

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
        return difference_above(losses, ideal, "Give a lower one, or none (ideal=None) to have it tracked.")

    def state_dict(self) -> dict[str, Any]:
        """The running minimum of a tracked ideal point."""
        return self._ideal.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._ideal.load_state_dict(state)
