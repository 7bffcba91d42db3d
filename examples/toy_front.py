"""Learn the whole Pareto front of a test problem with one small network, in seconds on a CPU.

    python examples/toy_front.py --problem zdt2
    python examples/toy_front.py --problem dtlz2 --steps 1000
    python examples/toy_front.py --problem zdt2 --scalarizer linear      # only the corners: the front is concave

Prints the front as a table, with the learned hypervolume beside the true front's, and writes the table (front.json) and
a picture (toy_front.png) to the output folder.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mopref import ParetoSetModel, ParetoTrainer, Scalarizer, TrainerConfig
from mopref.indicators import hypervolume
from mopref.objectives import DTLZ2, VLMOP2, ZDT1, ZDT2, Problem
from mopref.scalarizer import IdealPointScalarizer
from mopref.scalarizers import SCALARIZERS

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "zdt1": lambda: ZDT1(num_variables=10),
    "zdt2": lambda: ZDT2(num_variables=10),
    "vlmop2": lambda: VLMOP2(num_variables=10),
    "dtlz2": lambda: DTLZ2(num_objectives=3, num_variables=12),
}
# Every objective of these problems lies between 0 and 1 on the front.
REFERENCE = 1.1
# Points that stand for the whole true front.
DENSE = 2000


def make_scalarizer(name: str, problem: Problem) -> Scalarizer:
    """The scalarizer of that name, with the problem's ideal point where it measures from one."""
    method = SCALARIZERS[name]
    if issubclass(method, IdealPointScalarizer):
        return method(ideal=problem.ideal_point)
    return method()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=PROBLEMS, default="zdt2")
    parser.add_argument("--scalarizer", choices=SCALARIZERS, default="modified-tchebycheff")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--points", type=int, default=21, help="preferences in the table (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("outputs/toy_front"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)

    problem = PROBLEMS[options.problem]()
    trainer = ParetoTrainer(
        ParetoSetModel.for_problem(problem, seed=options.seed),
        problem,
        make_scalarizer(options.scalarizer, problem),
        config=TrainerConfig(steps=options.steps, preferences_per_step=64, learning_rate=5e-3, seed=options.seed),
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start

    reference_point = [REFERENCE] * problem.num_objectives
    true_front = problem.pareto_front(DENSE).numpy()
    front = trainer.front(options.points)
    front.metadata |= {"problem": options.problem, "reference_point": reference_point}
    print(front.summary(true_front=true_front))
    as_many = problem.pareto_front(options.points).numpy()
    learned, same, whole = (hypervolume(values, reference_point) for values in (front.values, as_many, true_front))
    print(
        f"\n{options.steps} steps in {seconds:.1f} s. Hypervolume, reference point {reference_point}:\n"
        f"learned, {len(front)} points  {learned:.6f}\n"
        f"true front, {len(as_many)} points  {same:.6f}, spread evenly along it: ratio {learned / same:.4f}\n"
        f"true front, {len(true_front)} points  {whole:.6f}"
    )

    front.save(options.output / "front.json")
    title = f"{options.problem}, {options.scalarizer}, seed {options.seed}"
    # In three dimensions the reference point would hide part of the front.
    marked = reference_point if problem.num_objectives == 2 else None
    front.plot(options.output / "toy_front.png", true_front=true_front, reference_point=marked, title=title)
    print(f"written: {options.output / 'front.json'}, {options.output / 'toy_front.png'}")


if __name__ == "__main__":
    main()
