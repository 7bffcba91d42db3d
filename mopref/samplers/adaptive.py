"""AdaptiveSampler: preferences drawn where the front is long, or where another preference's point would be better."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref.preferences import simplex_cells, uniform_preferences
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler, objective_count
from mopref.scalarizer import Scalarizer
from mopref.setting_types import python_value

__all__ = ["AdaptiveSampler"]

_Array = NDArray[np.float64]
# Losses that differ by less than this share of their size do not differ.
_SMALLEST_DIFFERENCE = 1e-9


@SAMPLERS.register("adaptive")
class AdaptiveSampler(PreferenceSampler):
    """Draws where it pays: uniform preferences do not reach a front evenly.

    The simplex is cut into cells of equal volume (:func:`mopref.preferences.simplex_cells`). Each cell keeps a running
    mean of the losses F observed for the preferences in it; c is its centre. A draw is uniform on the
    simplex with ``uniform_probability``; otherwise a cell is drawn by weight, and λ uniformly inside it. The weight is

    * ``by="length"``: how much front a cell stands for, (mean_j ‖F_i − F_j‖ / ‖c_i − c_j‖)^{m−1} over the m nearest
      cells j, with each objective divided by its range over all cells. Draws become even along the front instead of
      even in λ.
    * ``by="regret"``: how much preferences in the cell lose by their own point f against the best of all cells, the
      running mean of √((g(f; λ) − min_i g(F_i; λ)) / (max_i g(F_i; λ) − min_i g(F_i; λ))) with the scalarizer g in
      use. The root, since regret falls with the square of what is missing, and few cells would get all draws without
      it. Draws go where training lags behind.

    Uniform as long as a cell has seen no preference, and whenever all weights are 0: on a front that is one point, and
    where nothing is to be regretted.

    On easy problems there is little to gain: measured differences are as small as those between seeds, and stratified
    draws do as well (see docs/benchmarks.md), so try :class:`mopref.StratifiedSampler` first. To spread points evenly
    on the front of a trained model, see :func:`mopref.front.even.even_preferences`.

    Args:
        num_objectives: m, or the names of the m objectives.
        by: ``"length"`` or ``"regret"``.
        uniform_probability: share of uniform draws, in (0, 1], so that no cell is forgotten.
        num_cells: at least 2; by default 64 for two objectives and 128 for more. With few preferences a step, fewer are
            sooner known.
        forgetting: weight of a cell's newest losses in its running mean, in (0, 1]; its first ones are averaged.
        refresh_every: after how many calls of :meth:`observe` the weights are computed anew.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: an unknown ``by``, a share outside (0, 1], or a count below 1.
        TypeError: a share or a count of another type.

    Attributes:
        cells: the corners of each cell, ``(cells, m, m)``.

    Example:
        >>> from mopref.scalarizers import Linear
        >>> sampler = AdaptiveSampler(num_objectives=2, num_cells=4, uniform_probability=0.1, refresh_every=1)
        >>> preferences = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
        >>> sampler.observe(preferences, torch.tensor([[0.0, 1.0], [0.8, 0.2], [0.9, 0.1], [1.0, 0.0]]), Linear())
        >>> bool((sampler.sample(1000)[:, 0] > 0.5).float().mean() > 0.6)  # most of the front lies there
        True
    """

    def __init__(
        self,
        num_objectives: int | Sequence[str],
        by: str = "length",
        uniform_probability: float = 0.5,
        num_cells: int | None = None,
        forgetting: float = 0.1,
        refresh_every: int = 10,
        seed: int = 0,
    ) -> None:
        if by not in ("length", "regret"):
            raise ValueError(f"by is {by!r}: choose 'length' or 'regret'.")
        self.by = by
        self.uniform_probability: float = python_value(uniform_probability, float, "uniform_probability")
        self.forgetting: float = python_value(forgetting, float, "forgetting")
        for name in ("uniform_probability", "forgetting"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: it is a share, above 0 and at most 1.")
        self.refresh_every: int = python_value(refresh_every, int, "refresh_every")
        if self.refresh_every < 1:
            raise ValueError(f"refresh_every is {refresh_every}: weights are computed anew after 1 call or more.")
        m = objective_count(num_objectives)
        num_cells = (64 if m == 2 else 128) if num_cells is None else python_value(num_cells, int, "num_cells")
        if num_cells < 2:
            raise ValueError(f"num_cells is {num_cells}: at least two are needed to prefer one.")
        self.cells = simplex_cells(m, num_cells)
        # λ @ this: the first coordinate in every cell, then the second, …: (m, m · cells).
        self._coordinates = np.linalg.inv(self.cells).transpose(1, 2, 0).reshape(m, -1)
        self._centres = self.cells.mean(axis=1)
        distances = np.linalg.norm(self._centres[:, None] - self._centres, axis=-1)
        self._neighbours = distances.argsort(axis=1, kind="stable")[:, 1 : m + 1]
        self._distances = np.take_along_axis(distances, self._neighbours, axis=1)
        super().__init__(num_objectives, seed)

    def options(self) -> dict[str, Any]:
        """How cells are weighted, and how many there are."""
        return {
            **self._objectives,
            "by": self.by,
            "uniform_probability": self.uniform_probability,
            "num_cells": len(self.cells),
            "forgetting": self.forgetting,
            "refresh_every": self.refresh_every,
        }

    def seed(self, seed: int | Sequence[int]) -> None:
        """Restart from ``seed``, and forget what was observed."""
        super().seed(seed)
        count = len(self.cells)
        self._losses, self._visits = np.zeros((count, self.num_objectives)), np.zeros(count, dtype=np.int64)
        self._regrets = np.zeros((count, 1))
        self._observed = 0
        self._probabilities: _Array | None = None

    @property
    def probabilities(self) -> _Array:
        """The probability of each cell ``(cells,)`` at the next draw, uniform draws included."""
        uniform = np.full(len(self.cells), 1 / len(self.cells))
        if self._probabilities is None:
            return uniform
        return self.uniform_probability * uniform + (1 - self.uniform_probability) * self._probabilities

    def draw(self, n: int, generator: np.random.Generator) -> _Array:
        """Draw from the mixture, shape ``(n, m)``."""
        uniform = uniform_preferences(self.num_objectives, n, generator)
        if self._probabilities is None:
            return uniform
        cells = self.cells[generator.choice(len(self.cells), size=n, p=self._probabilities)]
        # Uniform on the whole simplex or, as coordinates, in a cell.
        inside = np.einsum("ni,nij->nj", uniform, cells)
        return np.where((generator.random(n) < self.uniform_probability)[:, None], uniform, inside)

    def observe(self, preferences: Tensor, losses: Tensor, scalarizer: Scalarizer | None) -> None:
        """Take losses ``(G, m)`` into the running means of the cells of their preferences ``(G, m)``.

        Raises:
            ValueError: preferences or losses of another shape.
            TypeError: regret without a scalarizer to measure it by.
        """
        if preferences.ndim != 2 or preferences.shape != losses.shape or losses.shape[1] != self.num_objectives:
            raise ValueError(
                f"preferences have shape {tuple(preferences.shape)} and losses {tuple(losses.shape)}: give one row for "
                f"each preference and {self.num_objectives} columns, one for each objective."
            )
        if self.by == "regret" and scalarizer is None:
            raise TypeError(
                "by is 'regret', but a gradient weighting gives no number to regret by: train with a scalarizer, or "
                "choose by='length'."
            )
        preferences, losses = preferences.detach().double().cpu(), losses.detach().double().cpu()
        cells = self._cell_of(preferences.numpy())
        self._visits[np.unique(cells)] += 1
        self._update(self._losses, cells, losses.numpy())
        if scalarizer is not None and self.by == "regret":
            self._update(self._regrets, cells, self._regret(preferences, losses, scalarizer)[:, None])
        self._observed += 1
        if self._observed % self.refresh_every == 0 and self._visits.all():
            weights = self._lengths() if self.by == "length" else self._regrets[:, 0]
            total = weights.sum()
            self._probabilities = weights / total if total > 0 else None

    def _update(self, means: _Array, cells: NDArray[np.int64], values: _Array) -> None:
        """Take values ``(G, k)`` into the running means ``(cells, k)`` of their cells ``(G,)``."""
        count, total = np.bincount(cells, minlength=len(self.cells)), np.zeros_like(means)
        np.add.at(total, cells, values)
        has_values = count > 0
        rate = np.maximum(self.forgetting, 1 / self._visits[has_values])[:, None]
        means[has_values] += rate * (total[has_values] / count[has_values, None] - means[has_values])

    def _regret(self, preferences: Tensor, losses: Tensor, scalarizer: Scalarizer) -> _Array:
        """Root of the share that each preference ``(G, m)`` loses of what it may lose among all cells: ``(G,)``."""
        points = torch.from_numpy(self._losses[self._visits > 0])[:, None]
        shape = (len(points), *losses.shape)
        others = scalarizer(points.expand(shape), preferences.expand(shape)).numpy()
        best, worst = others.min(axis=0), others.max(axis=0)
        equal = worst - best <= _SMALLEST_DIFFERENCE * np.abs(others).max(axis=0)
        share = (scalarizer(losses, preferences).numpy() - best) / np.where(equal, np.inf, worst - best)
        return np.asarray(np.sqrt(share.clip(0, 1)))

    def _cell_of(self, preferences: _Array) -> NDArray[np.int64]:
        """The cell in which no coordinate is negative, for each preference: ``(G, m)`` to ``(G,)``."""
        coordinates = (preferences @ self._coordinates).reshape(*preferences.shape, len(self.cells))
        # On a border rounding may leave none without a negative one: then the least negative.
        return np.asarray(coordinates.min(axis=1).argmax(axis=1))

    def _lengths(self) -> _Array:
        """(Distance between the losses of neighbouring cells, for each unit of distance in λ)^{m − 1}: ``(cells,)``."""
        extent = np.ptp(self._losses, axis=0)
        flat = extent <= _SMALLEST_DIFFERENCE * np.abs(self._losses).max(axis=0)
        unit_losses = self._losses / np.where(flat, np.inf, extent)
        lengths = np.linalg.norm(unit_losses[:, None] - unit_losses[self._neighbours], axis=-1)
        return np.asarray((lengths / self._distances).mean(axis=1) ** (self.num_objectives - 1))

    def state_dict(self) -> dict[str, Any]:
        """The generator's state and what was observed."""
        probabilities = self._probabilities
        return {
            **super().state_dict(),
            "losses": torch.tensor(self._losses),
            "regrets": torch.tensor(self._regrets),
            "visits": torch.tensor(self._visits),
            "observed": self._observed,
            "probabilities": None if probabilities is None else torch.tensor(probabilities),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`.

        Raises:
            ValueError: a state of another number of cells or objectives.
        """
        if tuple(state["losses"].shape) != self._losses.shape:
            raise ValueError(
                f"the state holds losses of shape {tuple(state['losses'].shape)}, but this sampler has "
                f"{self._losses.shape[0]} cells and {self._losses.shape[1]} objectives: give the same num_cells."
            )
        super().load_state_dict(state)
        self._losses, self._visits = state["losses"].numpy().copy(), state["visits"].numpy().copy()
        self._regrets, self._observed = state["regrets"].numpy().copy(), state["observed"]
        probabilities = state["probabilities"]
        self._probabilities = None if probabilities is None else probabilities.numpy().copy()
