"""What front recovery is compared with: evolutionary search by pymoo, one run a preference, and LibMOON."""

import math
import time
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mopref import Scalarizer
from mopref.objectives import Problem


class PeerRun(NamedTuple):
    """The points a method ends with, ``(N, m)``; evaluations of f; wall time."""

    values: NDArray[np.float64]
    evaluations: int
    seconds: float


def evolutionary_search(method: str, problem: Problem, num_points: int, evaluations: int, seed: int) -> PeerRun:
    """pymoo's "nsga2", "nsga3" or "moead" (its ParallelMOEAD) with a population of ``num_points``, its own defaults."""
    from pymoo.algorithms.moo.moead import ParallelMOEAD
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.optimize import minimize
    from pymoo.util.ref_dirs import get_reference_directions

    class Wrapped(PymooProblem):
        def __init__(self) -> None:
            lower, upper = problem.bounds.numpy()
            super().__init__(n_var=problem.num_variables, n_obj=problem.num_objectives, xl=lower, xu=upper)

        def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            with torch.no_grad():
                out["F"] = problem.evaluate(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()

    m = problem.num_objectives
    if method == "nsga2":
        algorithm: Any = NSGA2(pop_size=num_points)
        size = num_points
    else:
        partitions = (
            num_points - 1 if m == 2 else max(p for p in range(1, 100) if math.comb(p + m - 1, p) <= num_points)
        )
        directions = get_reference_directions("das-dennis", m, n_partitions=partitions)
        algorithm = NSGA3(directions) if method == "nsga3" else ParallelMOEAD(directions)
        size = len(directions)
    start = time.perf_counter()
    # The final population counts, not an archive: as many points as the others have preferences.
    result = minimize(Wrapped(), algorithm, ("n_gen", max(1, evaluations // size)), seed=seed, verbose=False)
    seconds = time.perf_counter() - start
    values = np.asarray(result.pop.get("F"), dtype=np.float64)
    return PeerRun(values, int(result.algorithm.evaluator.n_eval), seconds)


def single_preference_runs(
    problem: Problem,
    scalarizer: Scalarizer,
    preferences: Tensor,
    evaluations: int,
    seed: int,
    learning_rate: float = 0.02,
) -> PeerRun:
    """One independent gradient descent (Adam, cosine) on x for each preference, from a random point of the box each."""
    generator = torch.Generator().manual_seed(seed)
    lower, upper = problem.bounds
    weights = preferences.double()
    # Inside the box by a sine, as in ParetoSetModel.
    angle = math.pi * (torch.rand(len(weights), problem.num_variables, generator=generator, dtype=torch.float64) - 0.5)
    angle.requires_grad_()
    optimizer = torch.optim.Adam([angle], lr=learning_rate)
    steps = max(1, evaluations // len(weights))
    start = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        values = problem.evaluate((lower + upper) / 2 + (upper - lower) / 2 * torch.sin(angle))
        # A sum: every run has its own variables, so none sees another's gradient.
        scalarizer(values, weights).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        values = problem.evaluate((lower + upper) / 2 + (upper - lower) / 2 * torch.sin(angle))
    return PeerRun(values.numpy(), steps * len(weights), time.perf_counter() - start)


def has_libmoon() -> bool:
    """Whether LibMOON is installed (``pip install --no-deps libmoon``)."""
    return find_spec("libmoon") is not None


def libmoon_pareto_set_learning(
    problem: Problem, aggregation: str, preferences: Tensor, seed: int, epochs: int = 1000
) -> PeerRun:
    """LibMOON's own model and aggregation function ("mtche" or "softtche") in its training loop.

    The loop is that of its solver for Pareto set learning, with that solver's defaults: 1,000 epochs of 256 preferences
    from Dirichlet(1, …, 1), Adam at 1e-3. The release on the package index has the parts, not the solver as a class.
    The problem is ours, since some of LibMOON's go by the same name and are others.
    """
    from libmoon.solver.psl.model.simple import SimplePSLModel
    from libmoon.util_global import scalarization

    class Wrapped:
        n_obj, n_var = problem.num_objectives, problem.num_variables
        lbound, ubound = problem.bounds.numpy()

    aggregate = {"mtche": scalarization.mtche, "softtche": scalarization.soft_tche}[aggregation]
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model: nn.Module = SimplePSLModel(Wrapped(), Wrapped())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batch = 256
    start = time.perf_counter()
    for _ in range(epochs):
        weights = torch.tensor(generator.dirichlet(np.ones(Wrapped.n_obj), batch), dtype=torch.float32)
        loss = aggregate(problem.evaluate(model(weights)), weights).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        values = problem.evaluate(model(preferences.float())).double().numpy()
    return PeerRun(values, epochs * batch, seconds)
