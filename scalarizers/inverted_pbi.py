"""Inverted penalty-based boundary intersection."""

from typing import Any, Self

import torch
from torch import Tensor

from mopref.option_checks import Point, checked_non_negative, matching_point
from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer
from mopref.tracked_points import TrackedNadir

__all__ = ["InvertedPBI"]


@SCALARIZERS.register("inverted-pbi")
class InvertedPBI(Scalarizer):
    """g(f; λ, r) = −(d1 − θ d2), with w = λ/‖λ‖, d1 = ⟨r − f, w⟩ and d2 = ‖r − f − d1 w‖.

    A larger λ_i makes loss i smaller: the minimiser falls further from r in the objectives that count. The gradient has
    the length √(1 + θ²) for every λ, and 1 on the ray itself.

    PBI turned round: it starts from the nadir point r and goes as far as it can along −λ, where PBI comes as close as
    it can to the ideal point. So it reaches the outer parts of a front, which rays from the ideal point may miss. g is
    not monotone: with a large θ staying on the ray is worth more than a smaller loss, so the minimiser may fail to be
    Pareto optimal.

    θ = .1 is the published choice, and close to a weighted sum: of a concave front it reaches the corners only, where
    θ = 5 reaches nearly all. Give r where θ is large: while a tracked r is still bad, staying on the rays from it keeps
    losses from falling, and training may end at nothing (see docs/benchmarks.md).

    Args:
        nadir: r, m numbers (list, array or tensor); ``None`` to track it: the componentwise maximum over the
            non-dominated losses among the last 256 rows seen by :meth:`observe`, plus a margin.
        theta: θ ≥ 0, the price of leaving the ray.
        margin: how far above that maximum a tracked r lies, in units of the losses, ≥ 0.

    Raises:
        ValueError: a nadir point that is not a finite vector, a negative θ, or a negative margin.

    Source: H. Sato, Inverted PBI in MOEA/D and its Impact on the Search Performance on Multi and Many-Objective
    Optimization (2014).

    Example:
        >>> import torch
        >>> InvertedPBI(nadir=[3.0, 4.0], theta=0.5)(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(-1.)
    """

    def __init__(self, nadir: Point | None = None, theta: float = 0.1, margin: float = 0.01) -> None:
        self.theta = checked_non_negative(theta, "theta", "it is the price of the distance from the ray")
        self._nadir = TrackedNadir(nadir, margin)

    @classmethod
    def between(cls, ideal: Point, nadir: Point, **options: Any) -> Self:
        """An instance that measures from the nadir point."""
        return cls(nadir=nadir, **options)

    @property
    def nadir_point(self) -> Tensor | None:
        """r, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        return self._nadir.point

    @property
    def origin(self) -> Tensor | None:
        """The nadir point r."""
        return self.nadir_point

    @property
    def margin(self) -> float:
        """How far above the losses a tracked nadir point lies."""
        return self._nadir.margin

    def options(self) -> dict[str, Any]:
        """The nadir point, or ``None`` and the margin that a tracked one has, and θ."""
        if self._nadir.tracked:
            return {"nadir": None, **super().options(), "margin": self.margin}
        return {"nadir": self.nadir_point, **super().options()}

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse a nadir point of another length."""
        self._nadir.check_objectives(num_objectives)

    def observe(self, losses: Tensor) -> None:
        """Update a tracked nadir point by these losses, shape ``(…, m)``; no effect on a given one."""
        self._nadir.observe(losses)

    def scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        """θ d2 − d1: ``(…, m)`` to ``(…)``.

        Raises:
            ValueError: no nadir point yet, or one of another length.
        """
        nadir = self.nadir_point
        if nadir is None:
            raise ValueError(
                "InvertedPBI has no nadir point: give nadir=[…], or call observe(losses) first (ParetoTrainer does so "
                "at every step)."
            )
        below = matching_point(nadir, losses, "nadir point") - losses
        ray = preferences / torch.linalg.vector_norm(preferences, dim=-1, keepdim=True)
        along = (below * ray).sum(dim=-1)
        # The norm's gradient at 0 is 0 in PyTorch, so a point on the ray itself is safe.
        return self.theta * torch.linalg.vector_norm(below - along.unsqueeze(-1) * ray, dim=-1) - along

    def state_dict(self) -> dict[str, Any]:
        """What a tracked nadir point is made from."""
        return self._nadir.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._nadir.load_state_dict(state)
