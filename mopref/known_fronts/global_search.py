"""Global search by differential evolution, and a warm start of a conditioned model from its result.

Gradients find the nearest optimum. Where a problem has many (DTLZ1, ZDT4) or a front in pieces (ZDT3), a model that is
trained from its random start learns some local optimum for each preference; started from the result of a short global
search, it learns the best ones.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.option_checks import checked_positive
from mopref.preferences import simplex_lattice, validate_preferences
from mopref.problem import Problem
from mopref.scalarizer import Scalarizer
from mopref.setting_types import checked_seed

__all__ = ["SearchResult", "global_search", "warm_start"]

# The share of variables that a trial takes from its mutant; drawn for each trial, since separable problems want small
# ones and rotated problems large ones.
_CROSSOVER_RATES = (0.1, 0.5, 1.0)
_MUTATION_INDEX = 20.0


class SearchResult(NamedTuple):
    """The best point for each of K preferences.

    Attributes:
        x: decision variables, ``(K, n)``, float64.
        values: f(x), ``(K, m)``, float64.
        evaluations: how often f was evaluated.
    """

    x: Tensor
    values: Tensor
    evaluations: int


@checks_arguments
def global_search(
    problem: Problem, scalarizer: Scalarizer, preferences: Any, generations: int = 300, seed: int = 0
) -> SearchResult:
    """Minimise g(f(x); λ) for all preferences at once by differential evolution.

    A population holds one point for each preference. In a generation, every point makes one trial (differential
    mutation, binomial crossover, polynomial mutation, cut to the bounds), all trials are compared under all
    preferences, and each preference keeps the best it has seen. So a good point serves every preference that wants it.
    A generation is a few tensor operations: 100 preferences cost about a millisecond.

    Args:
        problem: f and its bounds; no gradients are needed.
        scalarizer: g; a tracked ideal point sees every trial.
        preferences: λ, ``(K, m)``, K ≥ 4.
        generations: how many times K trials are made.
        seed: seeds the search; the same seed gives the same result.

    Raises:
        ValueError: preferences that do not lie on the simplex, or fewer than 4 of them.

    Source: after H. Li and Q. Zhang, Multiobjective Optimization Problems With Complicated Pareto Sets, MOEA/D and
    NSGA-II (2009), with all preferences as each one's neighbours.

    Example:
        >>> from mopref.objectives import ZDT4
        >>> from mopref.scalarizers import ModifiedTchebycheff
        >>> result = global_search(ZDT4(), ModifiedTchebycheff(ideal=[0, 0]), simplex_lattice(2, 50))
        >>> bool(result.values.sum(dim=1).max() < 1.5)  # a random point has a sum of a hundred
        True
    """
    weights = validate_preferences(preferences, problem.names).detach().cpu()
    count, n = len(weights), problem.num_variables
    if count < 4:
        raise ValueError(
            f"{count} preferences make too small a population: differential evolution needs at least 4, so give more."
        )
    generator = torch.Generator().manual_seed(checked_seed(seed))
    lower, upper = problem.bounds

    def best_of(values: Tensor) -> tuple[Tensor, Tensor]:
        """For each preference the smallest g among these values, and its index."""
        table = scalarizer(values.expand(count, -1, -1), weights.unsqueeze(1).expand(-1, len(values), -1))
        smallest, index = table.min(dim=1)
        return smallest, index

    with torch.no_grad():
        x = lower + (upper - lower) * _uniform(generator, count, n)
        values = problem.evaluate(x)
        scalarizer.observe(values)
        index = best_of(values)[1]
        x, values = x[index], values[index]
        for _ in range(generations):
            trials = _trials(x, problem.bounds, generator)
            trial_values = problem.evaluate(trials)
            scalarizer.observe(trial_values)
            smallest, index = best_of(trial_values)
            # A tracked ideal point may have moved, so the best points so far are scalarized anew.
            better = (smallest < scalarizer(values, weights)).unsqueeze(1)
            x, values = torch.where(better, trials[index], x), torch.where(better, trial_values[index], values)
    return SearchResult(x, values, count * (generations + 1))


def _trials(x: Tensor, bounds: Tensor, generator: torch.Generator) -> Tensor:
    """A trial for each point ``(K, n)``: mutated by differences, crossed with the point, mutated once more, cut."""
    (count, n), (lower, upper) = x.shape, bounds
    base = torch.where(_uniform(generator, count, 1) < 0.5, x, x[_choice(generator, count, count)])
    factor = torch.where(_uniform(generator, count, 1) < 0.5, 0.5, _uniform(generator, count, 1))
    mutant = base + factor * (x[_choice(generator, count, count)] - x[_choice(generator, count, count)])
    rates = torch.tensor(_CROSSOVER_RATES, dtype=torch.float64)
    crossover = _uniform(generator, count, n) < rates[_choice(generator, len(rates), count, 1)]
    crossover[torch.arange(count), _choice(generator, n, count)] = True
    trials = torch.where(crossover, mutant, x)
    mutation = _uniform(generator, count, n) < 1 / n
    trials = trials + mutation * _polynomial_step(_uniform(generator, count, n)) * (upper - lower)
    # To the bound, not reflected: many optima lie on one.
    return trials.clamp(lower, upper)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def _choice(generator: torch.Generator, high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=generator)


def _polynomial_step(u: Tensor) -> Tensor:
    """Polynomial mutation (Deb and Goyal, 1996): uniform numbers to steps in [−1, 1], most of them small."""
    power = 1 / (_MUTATION_INDEX + 1)
    return torch.where(u < 0.5, (2 * u) ** power - 1, 1 - (2 * (1 - u)) ** power)


@checks_arguments
def warm_start(
    model: nn.Module,
    problem: Problem,
    scalarizer: Scalarizer,
    num_preferences: int = 150,
    generations: int = 300,
    fit_steps: int = 500,
    learning_rate: float = 5e-3,
    seed: int = 0,
) -> SearchResult:
    """Fit a conditioned model to the result of :func:`global_search`, in place, before it is trained.

    The model's x(λ) is fitted to the search's points, by Adam on the mean squared distance in units of the bounds. It
    then starts near the right optimum for every preference, not exactly on it: train it.

    Args:
        model: λ ``(K, m)`` to x ``(K, n)``, such as ``ParetoSetModel``.
        problem: f and its bounds.
        scalarizer: g; a tracked ideal point sees every trial.
        num_preferences: the most preferences to search for, spread as by ``simplex_lattice``.
        generations: generations of the search.
        fit_steps: steps of the fit.
        learning_rate: the fit's peak learning rate, falling to 0.
        seed: seeds the search.

    Returns:
        The result of the search, with the number of evaluations it took.

    Raises:
        ValueError: as :func:`global_search` does, or a learning rate that is not above 0 and finite.

    Example:
        >>> from mopref import ParetoSetModel
        >>> from mopref.objectives import DTLZ1
        >>> from mopref.scalarizers import ModifiedTchebycheff
        >>> problem = DTLZ1()
        >>> model = ParetoSetModel.for_problem(problem)
        >>> warm_start(model, problem, ModifiedTchebycheff(ideal=[0, 0, 0])).evaluations
        40936
    """
    learning_rate = checked_positive(learning_rate, "learning_rate", "it is that of Adam, so it must be > 0")
    preferences = simplex_lattice(problem.num_objectives, num_preferences)
    result = global_search(problem, scalarizer, preferences, generations, seed)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    preferences, target = preferences.to(parameters[0].device), result.x.to(parameters[0])
    lower, upper = problem.bounds.to(target)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    for step in range(fit_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / fit_steps))
        loss = ((model(preferences) - target) / (upper - lower)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return result
