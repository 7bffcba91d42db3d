"""Where a person's λ lies: the smallest part of the simplex with a given probability."""

from typing import Any

import torch
from torch import Tensor

from mopref.bootstrap import checked_level
from mopref.personal.posterior import Posterior
from mopref.preferences import validate_preferences

__all__ = ["CredibleRegion"]


class CredibleRegion:
    """The points of highest posterior density that together have a probability of ``level`` or just above it.

    Args:
        posterior: p(λ, β_u | choices).
        names: the names of the m objectives.
        level: in (0, 1).

    Attributes:
        points: λ, ``(N, m)`` float64, evenly spread over the simplex; each stands for a part of the same volume.
        probabilities: of each point, ``(N,)``; they add up to 1.
        inside: which of them are in the region, ``(N,)`` bool.
        level: what was asked for.
        names: the names of the m objectives.

    Raises:
        ValueError: a level that is not between 0 and 1.
        TypeError: no number.

    Source: Gelman et al., Bayesian Data Analysis (2013), §2.3.
    """

    def __init__(self, posterior: Posterior, names: tuple[str, ...], level: float = 0.9) -> None:
        self.points, self.names, self.level = posterior.points, names, checked_level(level)
        self.probabilities = posterior.of_points()
        # A stable order, so that equal points, as before any choice, are taken in that of the lattice.
        order = self.probabilities.argsort(descending=True, stable=True)
        below = self.probabilities[order].cumsum(dim=0) - self.probabilities[order] < self.level
        self.inside = torch.zeros(len(order), dtype=torch.bool)
        self.inside[order[below]] = True

    def __repr__(self) -> str:
        parts = zip(self.names, self.intervals.tolist(), strict=True)
        bounds = ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in parts)
        return f"CredibleRegion({bounds}; level {self.level:g}, {self.volume:.0%} of the simplex)"

    @property
    def volume(self) -> float:
        """The region's share of the simplex, in (0, 1]."""
        return float(self.inside.double().mean())

    def contains(self, preference: Any) -> bool:
        """Whether a preference ``(m,)``, or by name, lies in the region: whether the nearest point does.

        Raises:
            ValueError: more than one preference, or one that does not lie on the simplex of these objectives.
        """
        point = validate_preferences(preference, self.names).cpu()
        if len(point) != 1:
            raise ValueError(f"there are {len(point)} preferences: give one at a time.")
        return bool(self.inside[(self.points - point).square().sum(dim=1).argmin()])

    @property
    def intervals(self) -> Tensor:
        """Lower and upper bound of each λ_i by itself, ``(m, 2)``: the shortest interval of probability ``level``."""
        return torch.stack([self._interval(weights) for weights in self.points.T])

    def _interval(self, weights: Tensor) -> Tensor:
        """The same of one λ_i, whose points are ``(N,)``."""
        values, places = weights.unique(return_inverse=True)
        mass = torch.zeros_like(values).index_add_(0, places, self.probabilities)
        # Each value stands for all that is nearer to it than to its neighbours.
        edges = torch.cat([torch.zeros(1), (values[1:] + values[:-1]) / 2, torch.ones(1)]).double()
        below = torch.cat([torch.zeros(1, dtype=mass.dtype), mass.cumsum(dim=0)])
        # Rounding may keep the whole of it under 1.
        ends = torch.searchsorted(below, below + min(self.level, float(below[-1])) - 1e-12).clamp(max=len(values))
        starts = torch.arange(len(below))
        reaches = below[ends] - below >= self.level - 1e-9
        widths = torch.where(reaches, edges[ends] - edges[starts], torch.inf)
        best = int(widths.argmin())
        return torch.stack([edges[best], edges[ends[best]]])
