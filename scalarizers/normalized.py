"""Losses brought to a common scale before any other scalarizer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mopref.scalarizer import IdealPointScalarizer, Scalarizer, given_point, matching_point

from ._nadir import NadirTracker

__all__ = ["Normalized"]


class Normalized(IdealPointScalarizer):
    """g(f; λ) = inner((f − z) / (n − z); λ): the inner scalarizer sees an ideal point 0 and a nadir point 1.

    Losses of unlike size then weigh alike: with given points, g does not change when f_i, z_i and n_i are multiplied by
    any positive constant. All options of the inner scalarizer (its ideal or reference point, μ, margin, …) are in
    normalised units: ``Normalized(Tchebycheff(ideal=[0, 0]))`` measures from z.

    Each point is given, or tracked by :meth:`observe`:

    * z: the running minimum of each loss.
    * n: the componentwise maximum over the non-dominated rows among the last losses seen. Losses for preferences near
      the corners of the simplex have to be among them, or n is too small.

    z may lie above a loss, unless the inner scalarizer refuses it.

    **Give the points you know, the nadir point first**: early losses say little of the front's size. Measured on ZDT2
    with f_2 times 1,000 (n = 10, ``ParetoSetModel``, 500 steps of 64 preferences at learning rate 5e-3), where without
    normalisation no seed reaches a quarter of the exact optimum's hypervolume. Seeds of 16 that collapsed to a point;
    all others reached .995 of it or more:

        inner scalarizer, ideal=[0, 0]   both tracked   ideal given   nadir given
        ModifiedTchebycheff              3              0             0
        Tchebycheff                      6              7             0
        SmoothTchebycheff                8              3             0

    On ZDT1 and VLMOP2, scaled in the same way, none of 8 seeds collapsed with both tracked.

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
        ideal: Sequence[float] | Tensor | None = None,
        nadir: Sequence[float] | Tensor | None = None,
        window: int = 256,
        minimum_range: float = 1e-3,
    ) -> None:
        # The inner scalarizer's ideal point has a margin where one is wanted.
        super().__init__(ideal, margin=0.0)
        if not isinstance(scalarizer, Scalarizer):
            raise TypeError(f"{scalarizer!r} is no scalarizer: give an instance, such as Normalized(Linear()).")
        if not minimum_range > 0:
            raise ValueError(f"minimum_range is {minimum_range}: it keeps the divisor from 0, so it must be > 0.")
        self.scalarizer = scalarizer
        self.minimum_range = minimum_range
        self._given_nadir = None if nadir is None else given_point(nadir, "nadir")
        self._tracker = NadirTracker(window)
        if self._minimum is not None and self._given_nadir is not None:
            if self._minimum.shape != self._given_nadir.shape:
                raise ValueError(
                    f"ideal has {len(self._minimum)} numbers and nadir {len(self._given_nadir)}: give one number per "
                    "objective in both."
                )
            wrong = (self._given_nadir <= self._minimum).nonzero()
            if len(wrong) > 0:
                entry = int(wrong[0])
                raise ValueError(
                    f"nadir's entry {entry} is {self._given_nadir[entry].item():g}, not above ideal's "
                    f"{self._minimum[entry].item():g}: the nadir point holds the largest losses on the front, the "
                    "ideal point the smallest."
                )

    @property
    def nadir_point(self) -> Tensor | None:
        """n, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        return self._tracker.nadir if self._given_nadir is None else self._given_nadir

    def observe(self, losses: Tensor) -> None:
        """Update the tracked points by these losses, shape ``(…, m)``, and let the inner scalarizer see them.

        Raises:
            ValueError: a given point of another length.
        """
        for point, name in ((None if self.tracked else self._minimum, "ideal"), (self._given_nadir, "nadir")):
            if point is not None:
                matching_point(point, losses, f"{name} point")
        super().observe(losses)
        if self._given_nadir is None:
            self._tracker.observe(losses)
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
        normalised = self.normalize(losses)
        try:
            return self.scalarizer(normalised, preferences)
        except ValueError as error:
            error.add_note(f"(Normalized: these are normalised losses, with ideal point {self.ideal_point}.)")
            raise

    def target_direction(self, preferences: Tensor) -> Tensor | None:
        """The inner scalarizer's direction in units of the losses; ``None`` also while nothing was observed yet."""
        inner, points = self.scalarizer.target_direction(preferences), self._ideal_and_range()
        if inner is None or points is None:
            return None
        return inner * matching_point(points[1], inner, "ideal or nadir point")

    def state_dict(self) -> dict[str, Any]:
        """What the tracked points are made from, and the inner scalarizer's state."""
        tracker = self._tracker.state_dict() if self._given_nadir is None else {}
        return {**super().state_dict(), "nadir": tracker, "scalarizer": self.scalarizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        super().load_state_dict(state)
        if self._given_nadir is None:
            self._tracker.load_state_dict(state["nadir"])
        self.scalarizer.load_state_dict(state["scalarizer"])

    def _ideal_and_range(self) -> tuple[Tensor, Tensor] | None:
        """z and n − z."""
        ideal, nadir = self.ideal_point, self.nadir_point
        if ideal is None or nadir is None:
            return None
        size = nadir - ideal
        if self.tracked or self._given_nadir is None:
            smallest = self.minimum_range * torch.maximum(ideal.abs(), nadir.abs())
            size = size.maximum(smallest)
            # Losses that are all 0 so far have no size at all.
            size = size.where(size > 1e-12, 1)
        return ideal, size
