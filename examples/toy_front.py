"""Learn the whole Pareto front of a test problem with one small network, in seconds on a CPU.

    python examples/toy_front.py --problem zdt2
    python examples/toy_front.py --problem dtlz2 --steps 1000
    python examples/toy_front.py --problem dtlz1 --search 300 --learning-rate 0.01   # many local optima: search first
    python examples/toy_front.py --problem zdt2 --scalarizer linear      # only the corners: the front is concave

Prints the front as a table, with the learned hypervolume beside the true front's, and writes the table (front.json) and
a picture (toy_front.png) to the output folder.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.indicators import hypervolume
from mopref.known_fronts.global_search import warm_start
from mopref.problem import Problem
from mopref.registry import OBJECTIVES, SCALARIZERS
from mopref.scalarizers import scalarizer_for_problem


def has_known_front(part: Any) -> bool:
    """Whether a registered objective is a function of decision variables with a Pareto front that is known."""
    if not (isinstance(part, type) and issubclass(part, Problem)):
        return False
    return part.pareto_front is not Problem.pareto_front or part.pareto_set is not Problem.pareto_set


# Others train on data, and what is learned could not be measured against a front.
PROBLEMS = [name for name, part in OBJECTIVES.items() if has_known_front(part)]
# The size that peers use; problems that are not here have one size only.
SIZES: dict[str, dict[str, Any]] = {
    **{name: {"num_variables": 10} for name in OBJECTIVES if "zdt" in name or ("vlmop" in name and name != "vlmop3")},
    **{name: {"num_objectives": 3} for name in OBJECTIVES if "dtlz" in name},
}
# The losses are normalised by the problem's points whatever the scalarizer.
SCALARIZER_NAMES = [name for name in SCALARIZERS if name != "normalized"]
# Points that stand for the whole true front.
DENSE = 2000


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=PROBLEMS, default="zdt2")
    parser.add_argument("--scalarizer", choices=SCALARIZER_NAMES, default="modified-tchebycheff")
    parser.add_argument(
        "--ray", action="store_true", help="λ as the ray that losses lie on, for scalarizers that the literature has so"
    )
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="(default: %(default)s)")
    parser.add_argument("--search", type=int, default=0, help="generations of global search first (default: none)")
    parser.add_argument("--points", type=int, default=21, help="preferences in the table (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("outputs/toy_front"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)

    problem: Any = OBJECTIVES.make(options.problem, **SIZES.get(options.problem, {}))
    convention: dict[str, Any] = {"convention": "ray"} if options.ray else {}
    scalarizer = scalarizer_for_problem(options.scalarizer, problem, **convention)
    model = ParetoSetModel.for_problem(problem, seed=options.seed)
    trainer = ParetoTrainer(
        model,
        problem,
        scalarizer,
        config=TrainerConfig(
            steps=options.steps, preferences_per_step=64, learning_rate=options.learning_rate, seed=options.seed
        ),
    )
    start = time.perf_counter()
    if options.search:
        warm_start(model, problem, scalarizer, generations=options.search, seed=options.seed)
    trainer.train()
    seconds = time.perf_counter() - start

    # A tenth of the front's size beyond the nadir point; (1.1, …) for most of these problems.
    reference_point = (problem.ideal_point + 1.1 * (problem.nadir_point - problem.ideal_point)).tolist()
    true_front = problem.pareto_front(DENSE).numpy()
    front = trainer.front(options.points)
    front.metadata |= {"problem": options.problem, "reference_point": reference_point}
    print(front.summary(true_front=true_front))
    as_many = problem.pareto_front(options.points).numpy()
    fronts = (front.values, as_many, true_front)
    own, even, dense = (hypervolume(values, reference_point) for values in fronts)
    print(
        f"\n{options.steps} steps in {seconds:.1f} s. Hypervolume, reference point {reference_point}:\n"
        f"learned, {len(front)} points  {own:.6f}\n"
        f"true front, {len(as_many)} points  {even:.6f}, spread evenly along it: ratio {own / even:.4f}\n"
        f"true front, {len(true_front)} points  {dense:.6f}"
    )

    front.save(options.output / "front.json")
    title = f"{options.problem}, {options.scalarizer}, seed {options.seed}"
    # In three dimensions the reference point would hide part of the front.
    mark = reference_point if problem.num_objectives == 2 else None
    front.plot(options.output / "toy_front.png", true_front=true_front, reference_point=mark, title=title)
    print(f"written: {options.output / 'front.json'}, {options.output / 'toy_front.png'}")


if __name__ == "__main__":
    main()
