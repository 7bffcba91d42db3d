"""The best that any model could reach: for each preference, the scalarizer's optimum on a known Pareto front."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.preferences import validate_preferences
from mopref.problem import Problem
from mopref.scalarizer import Scalarizer
from mopref.setting_types import checked_seed

__all__ = ["Optimum", "scalarizer_optimum"]

# Numbers held at once for the table of all points under all preferences.
_CHUNK = 4_000_000
_CANDIDATES = 48
_ROUNDS = 80
# In units of the distance between neighbours.
_SMALLEST_STEP = 1e-9


class Optimum(NamedTuple):
    """For each of N preferences: the values ``(N, m)`` of the best point, and its scalarized value ``(N,)``."""

    values: Tensor
    scalarized: Tensor


@checks_arguments
def scalarizer_optimum(
    problem: Problem, scalarizer: Scalarizer, preferences: Any, num_points: int = 5_000, seed: int = 0
) -> Optimum:
    """min_x g(f(x); λ) over the Pareto set, for each preference: what a conditioned model is measured against.

    The best of ``num_points`` points of the Pareto set is improved by a local search between it and its neighbours,
    until the scalarized value settles to about 1e-8 of its size on a smooth front. Where only the front is known, not
    the set, the best of its stored points is returned as it is.

    Every result is the value of a feasible point, so it can be too large, never too small. A scalarizer that is not
    monotone (PBI, inverted PBI, COSMOS) may have a smaller value off the front: a regret against this optimum can then
    be negative.

    Args:
        problem: a problem with :meth:`~mopref.objectives.Problem.pareto_set` or ``pareto_front``.
        scalarizer: g; a tracked ideal point must have been observed.
        preferences: λ, ``(N, m)``.
        num_points: how many points of the Pareto set are compared first.
        seed: seeds the local search.

    Raises:
        NotImplementedError: a problem whose front is not known.
        ValueError: preferences that do not lie on the simplex.

    Example:
        >>> from mopref.objectives import ZDT2
        >>> from mopref.scalarizers import ModifiedTchebycheff
        >>> scalarizer_optimum(ZDT2(), ModifiedTchebycheff(ideal=[0, 0]), [[0.5, 0.5]]).values
        tensor([[0.6180, 0.6180]], dtype=torch.float64)
    """
    weights = validate_preferences(preferences, problem.names).detach().cpu()
    try:
        points = problem.pareto_set(num_points)
    except NotImplementedError:
        front = problem.pareto_front(num_points)
        values = front[_best(front, scalarizer, weights)]
        return Optimum(values, scalarizer(values, weights))
    x = _local_search(problem, scalarizer, weights, points, _best(problem.evaluate(points), scalarizer, weights), seed)
    values = problem.evaluate(x)
    return Optimum(values, scalarizer(values, weights))


def _best(front: Tensor, scalarizer: Scalarizer, weights: Tensor) -> Tensor:
    """The index of the front's best point for each preference, ``(N,)``."""
    chunk_size = max(1, _CHUNK // front.numel())
    indices = []
    for rows in weights.split(chunk_size):
        table = scalarizer(front.expand(len(rows), -1, -1), rows.unsqueeze(1).expand(-1, len(front), -1))
        indices.append(table.argmin(dim=1))
    return torch.cat(indices)


def _local_search(
    problem: Problem, scalarizer: Scalarizer, weights: Tensor, points: Tensor, start: Tensor, seed: int
) -> Tensor:
    """Random steps along the differences to the neighbours; a preference's steps halve when none of them is better."""
    from scipy.spatial import cKDTree

    lower, upper = problem.bounds
    neighbours = min(len(points), 2 * problem.num_objectives + 1)
    _, nearest = cKDTree(points.numpy()).query(points[start].numpy(), k=neighbours)
    x = points[start]
    # (N, k, n): the directions in which the Pareto set goes on from the best point.
    directions = points[torch.from_numpy(nearest).reshape(len(start), -1)] - x.unsqueeze(1)
    generator = torch.Generator().manual_seed(checked_seed(seed))
    step = torch.ones(len(weights), 1, 1, dtype=torch.float64)
    best = scalarizer(problem.evaluate(x), weights)
    rows = torch.arange(len(weights))
    for _ in range(_ROUNDS):
        mixture = torch.randn(len(weights), _CANDIDATES, directions.shape[1], generator=generator, dtype=torch.float64)
        trials = (x.unsqueeze(1) + step * (mixture @ directions)).clamp(lower, upper)
        values = problem.evaluate(trials.flatten(0, 1)).view(*trials.shape[:2], -1)
        smallest, index = scalarizer(values, weights.unsqueeze(1).expand_as(values)).min(dim=1)
        better = smallest < best
        x = torch.where(better.unsqueeze(1), trials[rows, index], x)
        best = torch.minimum(best, smallest)
        step = torch.where(better.view(-1, 1, 1), step, step / 2)
        if step.max() < _SMALLEST_STEP:
            break
    return x
