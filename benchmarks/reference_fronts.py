"""Computes the Pareto sets of the problems that have no formula for theirs, and stores them in objectives/data/.

    python benchmarks/reference_fronts.py [VLMOP3 RE33 RE37]

NSGA-II (on all objectives, and on each pair of them, for the edges of the front) finds candidates all over the front.
From each one, sequential quadratic programming minimises the sum of the objectives while none may get worse: what it
ends at is Pareto optimal, at least locally. Dominated points are dropped, and of the rest as many are kept as asked
for, each the one farthest from those before it. A long NSGA-II run of as many points is the check: its hypervolume must
be the smaller one. Two to four minutes for each problem on one core.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import moocore
import numpy as np
import torch
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem as PymooProblem
from pymoo.optimize import minimize as evolve
from scipy.optimize import minimize
from torch import Tensor

from mopref.objectives.real_world import RE33, RE37
from mopref.objectives.vlmop import VLMOP3
from mopref.problem import Problem

Array = NDArray[np.float64]
DATA = Path(__file__).parents[1] / "objectives" / "data"
# RE33's violation grows without bound where its radii meet; its front is stored up to this.
LARGEST_VIOLATION = 25.0


class Smooth:
    """A problem for sequential quadratic programming: variables scaled to [0, 1], objectives and constraints smooth."""

    def __init__(self, problem: Problem, scale: Array) -> None:
        self.problem, self.scale = problem, torch.from_numpy(scale)
        self.num_slacks = 0

    def start(self, x: Array) -> Array:
        """The scaled variables of x, slacks last."""
        lower, upper = self.problem.bounds.numpy()
        return (x - lower) / (upper - lower)

    def x(self, variables: Tensor) -> Tensor:
        """The problem's variables, without slacks."""
        lower, upper = self.problem.bounds
        return lower + (upper - lower) * variables[: self.problem.num_variables]

    def objectives(self, variables: Tensor) -> Tensor:
        """The objectives divided by their scale: ``(m,)``."""
        return self.problem.evaluate(self.x(variables).unsqueeze(0))[0] / self.scale

    def constraints(self, variables: Tensor) -> Tensor:
        """What must be at least 0."""
        return variables.new_zeros(0)


class SmoothRE33(Smooth):
    """RE33's violation is a sum of maxima; a slack variable for each makes it linear, with a constraint for each."""

    problem: RE33

    def __init__(self, problem: RE33, scale: Array) -> None:
        super().__init__(problem, scale)
        self.num_slacks = 4

    def start(self, x: Array) -> Array:
        """The scaled variables of x, slacks last."""
        # The sign of the distance between the radii may not change on the way: g_2 and g_3 are infinite between.
        self.side = 1.0 if x[1] > x[0] else -1.0
        slacks = torch.relu(-self.problem.margins(torch.from_numpy(x).unsqueeze(0))[0]).numpy()
        return np.concatenate([super().start(x), slacks / LARGEST_VIOLATION])

    def objectives(self, variables: Tensor) -> Tensor:
        """The objectives divided by their scale: ``(m,)``."""
        smooth = self.problem.evaluate(self.x(variables).unsqueeze(0))[0, :2]
        return torch.cat([smooth, LARGEST_VIOLATION * variables[4:].sum().unsqueeze(0)]) / self.scale

    def constraints(self, variables: Tensor) -> Tensor:
        """What must be at least 0."""
        x = self.x(variables)
        margins = self.problem.margins(x.unsqueeze(0))[0] / LARGEST_VIOLATION + variables[4:]
        return torch.cat([margins, self.side * (x[1:2] - x[0:1]) - 1e-5])


def improve(smooth: Smooth, x: Array, weights: Array) -> Array:
    """A point that is at least as good as x in every objective, and Pareto optimal near there."""
    limit = smooth.objectives(torch.from_numpy(smooth.start(x)))
    for _ in range(10):
        better = improve_once(smooth, x, limit, weights)
        if np.abs(smooth.start(better) - smooth.start(x)).max() < 1e-9:
            return better
        x = better
    return x


def improve_once(smooth: Smooth, x: Array, limit: Tensor, weights: Array) -> Array:
    """One run of sequential quadratic programming; it may stop early, and go on when started anew."""
    start = smooth.start(x)

    def everything(variables: Tensor) -> Tensor:
        values = smooth.objectives(variables)
        return torch.cat(
            [torch.from_numpy(weights) @ values.unsqueeze(1), limit - values, smooth.constraints(variables)]
        )

    def at(point: Array) -> tuple[Array, Array]:
        key = point.tobytes()
        if cache.get("key") != key:
            variables = torch.from_numpy(point.copy()).requires_grad_()
            values = everything(variables)
            rows = torch.eye(len(values), dtype=torch.float64)
            (jacobian,) = torch.autograd.grad(values, variables, rows, is_grads_batched=True)
            cache.update(key=key, values=values.detach().numpy(), jacobian=jacobian.numpy())
        return cache["values"], cache["jacobian"]

    cache: dict = {}
    solution = minimize(
        lambda point: at(point)[0][0],
        start,
        jac=lambda point: at(point)[1][0],
        bounds=[(0.0, 1.0)] * (len(start) - smooth.num_slacks) + [(0.0, None)] * smooth.num_slacks,
        constraints={"type": "ineq", "fun": lambda p: at(p)[0][1:], "jac": lambda p: at(p)[1][1:]},
        method="SLSQP",
        options={"maxiter": 200, "ftol": 1e-14},
    )
    lower, upper = smooth.problem.bounds.numpy()
    end = smooth.x(torch.from_numpy(solution.x)).numpy()
    # On a bound, exactly.
    hair = 1e-10 * (upper - lower)
    end = np.where(end < lower + hair, lower, np.where(end > upper - hair, upper, end))
    after = smooth.objectives(torch.from_numpy(smooth.start(end)))
    return end if bool((after <= limit + 1e-9).all()) else x


class SearchProblem(PymooProblem):
    """Some objectives of a problem, for pymoo."""

    def __init__(self, problem: Problem, objectives: tuple[int, ...]) -> None:
        lower, upper = problem.bounds.numpy()
        super().__init__(n_var=problem.num_variables, n_obj=len(objectives), xl=lower, xu=upper)
        self.problem, self.objectives = problem, list(objectives)

    def _evaluate(self, x: Array, out: dict, *_: object, **__: object) -> None:
        out["F"] = self.problem.evaluate(torch.from_numpy(x))[:, self.objectives].numpy()


def search(problem: Problem, objectives: tuple[int, ...], population: int, generations: int, seed: int) -> Array:
    """NSGA-II's last population: ``(population, n)``."""
    result = evolve(SearchProblem(problem, objectives), NSGA2(pop_size=population), ("n_gen", generations), seed=seed)
    return np.asarray(result.pop.get("X"), dtype=np.float64)


def values_of(problem: Problem, x: Array) -> Array:
    """f(x), the rows beyond RE33's largest violation infinite."""
    values = problem.evaluate(torch.from_numpy(x)).numpy()
    if isinstance(problem, RE33):
        values = np.where(values[:, 2:] > LARGEST_VIOLATION, np.inf, values)
    return values


def non_dominated(problem: Problem, x: Array) -> Array:
    """The rows that no other row dominates."""
    values = values_of(problem, x)
    x, values = x[np.isfinite(values).all(axis=1)], values[np.isfinite(values).all(axis=1)]
    return x[moocore.is_nondominated(values, keep_weakly=False)]


def spread(values: Array, count: int) -> list[int]:
    """``count`` rows: the minimisers of each objective, then always the one farthest from those before it."""
    unit = (values - values.min(axis=0)) / (values.max(axis=0) - values.min(axis=0))
    order: list[int] = []
    for column in unit.T:
        # Of several minimisers, the one with the smallest sum; one point may be that of several objectives.
        best = int(np.lexsort((unit.sum(axis=1), column))[0])
        if all(np.linalg.norm(unit[best] - unit[i]) > 1e-6 for i in order):
            order.append(best)
    distance = np.min([np.linalg.norm(unit - unit[i], axis=1) for i in order], axis=0)
    while len(order) < count:
        order.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(unit - unit[order[-1]], axis=1))
    return order


def compute(problem: Problem, count: int, population: int, generations: int) -> Array:
    """``count`` points of the Pareto set, in the order of :func:`spread`: ``(count, n)``."""
    m = problem.num_objectives
    groups = [search(problem, tuple(range(m)), population, generations, seed) for seed in range(2)]
    groups += [search(problem, pair, population // 4, generations, 0) for pair in itertools.combinations(range(m), 2)]
    candidates = np.concatenate(groups)
    if isinstance(problem, RE33):
        candidates = candidates[np.isfinite(values_of(problem, candidates)).all(axis=1)]
    values = values_of(problem, non_dominated(problem, candidates))
    scale = values.max(axis=0) - values.min(axis=0)
    smooth = SmoothRE33(problem, scale) if isinstance(problem, RE33) else Smooth(problem, scale)
    equal = np.ones(m)
    points = [improve(smooth, x, equal) for x in candidates]
    # The best of each objective: first that objective alone, then the others as well.
    for objective in range(m):
        best = np.argsort(values_of(problem, candidates)[:, objective])[:20]
        points += [improve(smooth, improve(smooth, candidates[i], np.eye(m)[objective]), equal) for i in best]
    front = non_dominated(problem, np.stack(points))
    pareto_set = front[spread(values_of(problem, front), count)]
    # What other weights still improve was not optimal.
    for weights in np.ones((m, m)) + 3 * np.eye(m):
        pareto_set = np.stack([improve(smooth, x, weights) for x in pareto_set])
    pareto_set = non_dominated(problem, pareto_set)
    return pareto_set[spread(values_of(problem, pareto_set), len(pareto_set))]


def main() -> None:
    """Compute, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=["VLMOP3", "RE33", "RE37"], help="(default: all)")
    parser.add_argument("--count", type=int, default=400, help="points to store of each (default: %(default)s)")
    parser.add_argument("--population", type=int, default=1_000, help="of NSGA-II (default: %(default)s)")
    parser.add_argument("--generations", type=int, default=300, help="of NSGA-II (default: %(default)s)")
    options = parser.parse_args()
    makers: dict[str, Callable[[], Problem]] = {"VLMOP3": VLMOP3, "RE33": RE33, "RE37": RE37}
    for name in options.problems:
        start = time.perf_counter()
        problem = makers[name]()
        x = compute(problem, options.count, options.population, options.generations)
        np.savetxt(DATA / f"{name.lower()}.csv", x, delimiter=",", fmt="%.17g")
        seconds = time.perf_counter() - start
        values = values_of(problem, x)
        ideal, nadir = values.min(axis=0), values.max(axis=0)
        peer = non_dominated(
            problem, search(problem, tuple(range(problem.num_objectives)), options.count, 1_000, seed=9)
        )
        own, other = ((v - ideal) / (nadir - ideal) for v in (values, values_of(problem, peer)))
        # How far the stored points must move to be as good as each point of NSGA-II's.
        shortfall = np.linalg.norm(np.maximum(own[None] - other[:, None], 0), axis=-1).min(axis=1)
        reference = [1.1] * problem.num_objectives
        ours, theirs = (moocore.hypervolume(v, ref=reference) for v in (own, other))
        print(
            f"{name}: {len(x)} points in {seconds:.0f} s; ideal {ideal}, nadir {nadir}; hypervolume, objectives scaled "
            f"to [0, 1], reference 1.1: stored {ours:.5f}, NSGA-II {theirs:.5f}; the stored points fall short of "
            f"NSGA-II's by {shortfall.mean():.4f} on average, {shortfall.max():.4f} at most"
        )


if __name__ == "__main__":
    main()
