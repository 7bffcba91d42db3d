"""Losses brought to a common scale before any other scalarizer."""

from typing import Any, Self

import torch
from torch import Tensor

from mopref.option_checks import Convention, Point, check_order, checked_positive, matching_point
from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer
from mopref.tracked_points import TrackedIdeal, TrackedNadir

__all__ = ["Normalized"]


@SCALARIZERS.register("normalized")
class Normalized(Scalarizer):
    """g(f; λ) = inner((f − z) / (n − z); λ): the inner scalarizer sees an ideal point 0 and a nadir point 1.

    What a larger λ_i does is the inner scalarizer's own (see :attr:`convention`).

    Losses of unlike size then weigh alike: with given points, g does not change when f_i, z_i and n_i are multiplied by
    any positive constant. All options of the inner scalarizer (its ideal or reference point, μ, margin, …) are in
    normalised units: ``Normalized(Tchebycheff(ideal=[0, 0]))`` measures from z.

    Each point is given, or tracked by :meth:`observe`:

    * z: the running minimum of each loss.
    * n: the componentwise maximum over the non-dominated rows among the last losses seen. Losses for preferences near
      the corners of the simplex have to be among them, or n is too small.

    z may lie above a loss, unless the inner scalarizer refuses it.

    **Give the points you know, the nadir point first**: early losses say little of the front's size, and on a badly
    scaled concave front some runs end in one point while both are tracked, none with n given (see docs/benchmarks.md).

    Args:
        scalarizer: the inner one. Where it tracks a point itself, it sees normalised losses.
        ideal: z, m numbers (list, array or tensor); ``None`` to track it.
        nadir: n > z, m numbers; ``None`` to track it.
        window: how many rows of losses a tracked n looks back on.
        minimum_range: where a point is tracked, n_i − z_i is at least this fraction of the larger of |z_i| and |n_i|.
            So the first steps, whose losses may be all alike, are not divided by almost nothing; losses that are all 0
            so far are not divided at all.

    Raises:
        TypeError: an inner scalarizer that is none.
        ValueError: a point that is not a finite vector, points of different lengths, a nadir point that is not above
            the ideal point, a window below 1, or a minimum range that is not positive.

    Example:
        >>> import torch
        >>> from mopref.scalarizers import Tchebycheff
        >>> g = Normalized(Tchebycheff(ideal=[0, 0]), ideal=[1.0, 100.0], nadir=[3.0, 500.0])
        >>> g(torch.tensor([2.0, 200.0]), torch.tensor([0.5, 0.5]))
        tensor(0.2500)
    """

    def __init__(
        self,
        scalarizer: Scalarizer,
        ideal: Point | None = None,
        nadir: Point | None = None,
        window: int = 256,
        minimum_range: float = 1e-3,
    ) -> None:
        if not isinstance(scalarizer, Scalarizer):
            raise TypeError(f"{scalarizer!r} is no scalarizer: give an instance, such as Normalized(Linear()).")
        self.scalarizer = scalarizer
        self.minimum_range = checked_positive(
            minimum_range, "minimum_range", "it keeps the divisor from 0, so it must be > 0"
        )
        # Without margins: the inner scalarizer's own point has one where one is wanted.
        self._ideal, self._nadir = TrackedIdeal(ideal), TrackedNadir(nadir, window=window)
        if self._ideal.point is not None and self._nadir.point is not None:
            check_order(self._ideal.point, self._nadir.point)

    @classmethod
    def between(cls, ideal: Point, nadir: Point, **options: Any) -> Self:
        """An instance that normalises by both points."""
        return cls(ideal=ideal, nadir=nadir, **options)

    @property
    def ideal_point(self) -> Tensor | None:
        """z, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        return self._ideal.point

    @property
    def nadir_point(self) -> Tensor | None:
        """n, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        return self._nadir.point

    @property
    def convention(self) -> Convention:
        """What λ says to the inner scalarizer."""
        return self.scalarizer.convention

    @property
    def origin(self) -> Tensor | None:
        """The inner scalarizer's origin in units of the losses: z where that is 0."""
        inner, points = self.scalarizer.origin, self._ideal_and_range()
        if inner is None or points is None:
            return None
        ideal, size = points
        return ideal + matching_point(inner, ideal, "inner scalarizer's point") * size

    def options(self) -> dict[str, Any]:
        """The inner scalarizer and both points, and what belongs to tracking where one is tracked (``None``)."""
        ideal = None if self._ideal.tracked else self.ideal_point
        nadir = None if self._nadir.tracked else self.nadir_point
        points = {"scalarizer": self.scalarizer, "ideal": ideal, "nadir": nadir}
        if ideal is not None and nadir is not None:
            return points
        return {**points, "window": self._nadir.window, "minimum_range": self.minimum_range}

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse points of another length, and what the inner scalarizer refuses."""
        for part in (self._ideal, self._nadir, self.scalarizer):
            part.check_objectives(num_objectives)

    def observe(self, losses: Tensor) -> None:
        """Update the tracked points by these losses, shape ``(…, m)``, and let the inner scalarizer see them.

        Raises:
            ValueError: a point of another length.
        """
        for point, name in ((self.ideal_point, "ideal point"), (self.nadir_point, "nadir point")):
            if point is not None:
                matching_point(point, losses, name)
        self._ideal.observe(losses)
        self._nadir.observe(losses)
        self.scalarizer.observe(self.normalize(losses.detach()))

    def normalize(self, losses: Tensor) -> Tensor:
        """(f − z) / (n − z): ``(…, m)`` to ``(…, m)``.

        Raises:
            ValueError: no points yet, or points of another length.
        """
        points = self._ideal_and_range()
        if points is None:
            raise ValueError(
                "Normalized has no ideal or no nadir point: give ideal=[…] and nadir=[…], or call observe(losses) "
                "first (ParetoTrainer does so at every step)."
            )
        ideal, size = (matching_point(point, losses, "ideal or nadir point") for point in points)
        return (losses - ideal) / size

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """The inner scalarizer's value of the normalised losses: ``(…, m)`` to ``(…)``."""
        unit_losses = self.normalize(losses)
        try:
            return self.scalarizer(unit_losses, preferences)
        except ValueError as error:
            error.add_note(f"(Normalized: these are normalised losses, with ideal point {self.ideal_point}.)")
            raise

    def target_direction(self, preferences: Tensor) -> Tensor | None:
        """The inner scalarizer's direction in units of the losses; ``None`` also while nothing was observed yet."""
        return self._in_units_of_the_losses(self.scalarizer.target_direction(preferences))

    def backward_direction(self, preferences: Tensor) -> Tensor | None:
        """The inner scalarizer's, in units of the losses; ``None`` also while nothing was observed yet."""
        return self._in_units_of_the_losses(self.scalarizer.backward_direction(preferences))

    def state_dict(self) -> dict[str, Any]:
        """What the tracked points are made from, and the inner scalarizer's state."""
        return {
            "ideal": self._ideal.state_dict(),
            "nadir": self._nadir.state_dict(),
            "scalarizer": self.scalarizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._ideal.load_state_dict(state["ideal"])
        self._nadir.load_state_dict(state["nadir"])
        self.scalarizer.load_state_dict(state["scalarizer"])

    def _in_units_of_the_losses(self, direction: Tensor | None) -> Tensor | None:
        points = self._ideal_and_range()
        if direction is None or points is None:
            return None
        return direction * matching_point(points[1], direction, "ideal or nadir point")

    def _ideal_and_range(self) -> tuple[Tensor, Tensor] | None:
        """z and n − z."""
        ideal, nadir = self.ideal_point, self.nadir_point
        if ideal is None or nadir is None:
            return None
        size = nadir - ideal
        if self._ideal.tracked or self._nadir.tracked:
            smallest = self.minimum_range * torch.maximum(ideal.abs(), nadir.abs())
            size = size.maximum(smallest)
            # Losses that are all 0 so far have no size at all.
            size = size.where(size > 1e-12, 1)
        return ideal, size
