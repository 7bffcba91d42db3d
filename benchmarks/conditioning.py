"""How should λ enter a network? The same base network under each conditioning, on problems with a known front.

    python benchmarks/conditioning.py            # 1,000 steps, five seeds: about ten minutes on one core
    python benchmarks/conditioning.py --quick    # 100 steps, one seed: shows that it runs

Every conditioning gets the same base, a multilayer perceptron with two hidden layers of 64, the same steps and the same
preferences. On ZDT1, ZDT2 and DTLZ2 the base sees a constant input, and its outputs are decision variables. In
"regression" one network y(x, λ) has three targets t_i(x) that contradict each other: f_i = mean (y − t_i)². Under
linear scalarization the optimum is y = Σ λ_i t_i, so the exact front is known.

A "pre-trained" base was first trained alone, for as many steps, under the balanced preference (1/m, …, 1/m), and is
frozen after that; those steps come on top, and their time has its own column. A "random" base is frozen as it starts.
All others start at random and are trained together with what conditions them. The learning rate of each conditioning
is the best of {.002, .005, .01, .02} by mean hypervolume ratio over all four problems, on two other seeds, 500 steps.

The hypervolume ratio is over that of the exact optimum at the same preferences; above 1 is possible, since points off
their own ray may be spread better. Regret is g(f(λ); λ) − min g with the scalarizer g that was trained: the modified
Tchebycheff, whose weights reach 1,000 at the corners and rule its maximum, and linear in "regression". Seconds are
those of one core at work (process time), so that a busy machine does not show in them.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mopref import (
    Objective,
    ParetoTrainer,
    PreferenceModel,
    PreferenceSampler,
    RowObjective,
    Scalarizer,
    SVDLoRAConfig,
    TrainerConfig,
    simplex_lattice,
)
from mopref._progress import progress_bar
from mopref.conditioning.concatenation import ConcatenationModel
from mopref.conditioning.decision_model import DecisionModel
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.hypernetwork import HypernetworkModel
from mopref.conditioning.mlp import make_mlp
from mopref.indicators import hypervolume, preference_regret
from mopref.objective import RowLosses
from mopref.objectives import DTLZ2, ZDT1, ZDT2, Problem
from mopref.scalarizers import Linear, ModifiedTchebycheff

HIDDEN = (64, 64)
ANCHOR = torch.ones(4)
EPSILON = 1e-3
PRETRAINING_RATE = 5e-3


class ConflictingRegression(RowObjective):
    """f_i = mean over rows of (y(x, λ) − t_i)²: rows are pairs (x, t) with t ``(m,)``, and y is one number."""

    def __init__(self, num_objectives: int) -> None:
        self.names = tuple(f"target_{i + 1}" for i in range(num_objectives))

    def num_rows(self, batch: tuple[Tensor, Tensor]) -> int:
        """Rows of the batch."""
        return len(batch[0])

    def row_losses(self, model: nn.Module, batch: tuple[Tensor, Tensor], preferences: Tensor) -> RowLosses:
        """(y − t_i)² of every row, ``(B, m)``."""
        x, targets = batch
        values = (model(x, preferences=preferences) - targets).square()
        return RowLosses(values, torch.ones_like(values, dtype=torch.bool))

    @staticmethod
    def rows(count: int = 64) -> list[tuple[Tensor, Tensor]]:
        """Points of the square [−1, 1]² with three targets each."""
        x = 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) - 1
        targets = torch.stack([torch.sin(3 * x[:, 0]), torch.cos(3 * x[:, 1]), 2 * x[:, 0] * x[:, 1]], dim=1)
        return list(zip(x, targets, strict=True))


class Balanced(PreferenceSampler):
    """Always (1/m, …, 1/m)."""

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """``n`` times the centre of the simplex."""
        return np.full((n, self.num_objectives), 1 / self.num_objectives)


class Unconditioned(nn.Module):
    """A network that takes a preference and does not look at it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, preferences: Tensor) -> Tensor:
        """The network's output."""
        return self.network(x)


@dataclass(frozen=True)
class Task:
    """A problem with its exact front and how it is trained."""

    objective: Objective
    scalarizer: Callable[[], Scalarizer]
    preferences: Tensor
    exact: Tensor
    reference_point: Sequence[float]
    sizes: tuple[int, int]
    rows: list[Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def m(self) -> int:
        """The number of objectives."""
        return self.objective.num_objectives

    def model(self, network: nn.Module) -> nn.Module:
        """The network itself, or around it the map into the problem's box."""
        if isinstance(self.objective, Problem):
            return DecisionModel.for_problem(network, self.objective, anchor=ANCHOR)
        return network


def decision_task(problem: Problem, exact: Callable[[Tensor], Tensor]) -> Task:
    """A task whose ``exact`` maps rays ``(N, m)`` to where they meet the front."""
    preferences = simplex_lattice(problem.num_objectives, 105)
    return Task(
        objective=problem,
        scalarizer=lambda: ModifiedTchebycheff(ideal=problem.ideal_point, epsilon=EPSILON, convention="ray"),
        preferences=preferences,
        exact=exact(preferences.double().clamp(min=EPSILON)),
        reference_point=[1.1] * problem.num_objectives,
        sizes=(len(ANCHOR), problem.num_variables),
        settings={"preferences_per_step": 64},
    )


def zdt1_exact(rays: Tensor) -> Tensor:
    """t · r with t r_2 = 1 − √(t r_1), a quadratic equation in √t."""
    a, b = rays[:, :1], rays[:, 1:]
    return rays * ((-a.sqrt() + (a + 4 * b).sqrt()) / (2 * b)).square()


def zdt2_exact(rays: Tensor) -> Tensor:
    """t · r with t r_2 = 1 − (t r_1)²."""
    a, b = rays[:, :1], rays[:, 1:]
    return rays * 2 / (b + (b.square() + 4 * a.square()).sqrt())


def dtlz2_exact(rays: Tensor) -> Tensor:
    """Where the ray meets the unit sphere."""
    return rays / torch.linalg.vector_norm(rays, dim=1, keepdim=True)


def regression_task() -> Task:
    """The regression on 64 points."""
    rows = ConflictingRegression.rows()
    targets = torch.stack([t for _, t in rows]).double()
    preferences = simplex_lattice(targets.shape[1], 105)
    y = preferences.double() @ targets.T
    exact = (y.unsqueeze(2) - targets).square().mean(dim=1)
    return Task(
        objective=ConflictingRegression(targets.shape[1]),
        scalarizer=Linear,
        preferences=preferences,
        exact=exact,
        reference_point=(1.1 * exact.amax(dim=0)).tolist(),
        sizes=(2, 1),
        rows=rows,
        settings={"preferences_per_step": 32, "batch_size": 256},
    )


TASKS: dict[str, Callable[[], Task]] = {
    "ZDT1": lambda: decision_task(ZDT1(num_variables=10), zdt1_exact),
    "ZDT2": lambda: decision_task(ZDT2(num_variables=10), zdt2_exact),
    "DTLZ2": lambda: decision_task(DTLZ2(num_objectives=3, num_variables=12), dtlz2_exact),
    "regression": regression_task,
}


@dataclass(frozen=True)
class Conditioning:
    """How λ enters: from a base network and a seed to a network with a preference."""

    make: Callable[[nn.Module, Task, int], nn.Module]
    learning_rate: float
    pretrained: bool = False


def concatenation(base: nn.Module, task: Task, seed: int) -> nn.Module:
    """A base with m more inputs, in place of the one given."""
    inputs, outputs = task.sizes
    widths = (inputs + task.m, *HIDDEN, outputs)
    return ConcatenationModel(make_mlp(widths, torch.Generator().manual_seed(seed)), task.m)


def svd_lora(base: nn.Module, task: Task, seed: int) -> nn.Module:
    """The library's defaults, k = 8 and p = 4."""
    return PreferenceModel(base, SVDLoRAConfig(task.objective.names, seed=seed))


CONDITIONINGS = {
    "concatenation": Conditioning(concatenation, 2e-2),
    "hypernetwork": Conditioning(lambda base, task, seed: HypernetworkModel(base, task.m, seed=seed), 5e-3),
    "hypernetwork, pre-trained base": Conditioning(
        lambda base, task, seed: HypernetworkModel(base, task.m, train_base=False, seed=seed), 2e-3, pretrained=True
    ),
    "FiLM": Conditioning(lambda base, task, seed: FiLMModel(base, task.m, seed=seed), 1e-2),
    "FiLM, pre-trained base": Conditioning(
        lambda base, task, seed: FiLMModel(base, task.m, train_base=False, seed=seed), 1e-2, pretrained=True
    ),
    "SVD-LoRA, random base": Conditioning(svd_lora, 1e-2),
    "SVD-LoRA, pre-trained base": Conditioning(svd_lora, 1e-2, pretrained=True),
}


def train(
    model: nn.Module, task: Task, steps: int, seed: int, rate: float, sampler: PreferenceSampler | None = None
) -> tuple[ParetoTrainer, float]:
    """A trained model and the seconds that it took."""
    config = TrainerConfig(
        steps=steps, learning_rate=rate, seed=seed, log_every=steps, cpu=True, progress=False, **task.settings
    )
    trainer = ParetoTrainer(model, task.objective, task.scalarizer(), sampler, task.rows, config)
    start = time.process_time()
    trainer.train()
    return trainer, time.process_time() - start


def make_base(task: Task, pretrained: bool, steps: int, seed: int) -> tuple[nn.Module, float]:
    """A base network and the seconds of its pre-training."""
    inputs, outputs = task.sizes
    base = make_mlp((inputs, *HIDDEN, outputs), torch.Generator().manual_seed(seed))
    seconds = 0.0
    if pretrained:
        _, seconds = train(task.model(Unconditioned(base)), task, steps, seed, PRETRAINING_RATE, Balanced(task.m))
    return base, seconds


def measure(trainer: ParetoTrainer, task: Task) -> dict[str, float]:
    """Hypervolume ratio and regret of a trained model."""
    front = trainer.front(task.preferences)
    values = torch.from_numpy(front.values)
    scalarizer = task.scalarizer()
    weights = task.preferences.double()
    regret = preference_regret(scalarizer(values, weights), best=scalarizer(task.exact, weights))
    return {
        "hypervolume_ratio": hypervolume(values, task.reference_point) / hypervolume(task.exact, task.reference_point),
        "regret_mean": regret.mean,
        "regret_max": regret.max,
        "collapsed": float(front.is_collapsed()),
    }


def run(name: str, task: Task, steps: int, seed: int, rate: float | None = None) -> dict[str, float]:
    """One conditioning on one task with one seed."""
    conditioning = CONDITIONINGS[name]
    base, seconds_before = make_base(task, conditioning.pretrained, steps, seed)
    model = task.model(conditioning.make(base, task, seed))
    num_parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    trainer, seconds = train(model, task, steps, seed, rate or conditioning.learning_rate)
    return {
        **measure(trainer, task),
        "parameters": num_parameters,
        "seconds": seconds,
        "seconds_before": seconds_before,
    }


def table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Markdown: medians over the seeds, and the worst seed in brackets."""
    lines = [
        "| problem | conditioning | hypervolume ratio | mean regret | largest regret | collapsed | parameters trained "
        "| seconds | pre-training |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for problem, rows in results.items():
        for name, runs in rows.items():

            def column(key: str, runs: list[dict[str, float]] = runs) -> list[float]:
                return [run[key] for run in runs]

            ratio, mean, most = column("hypervolume_ratio"), column("regret_mean"), column("regret_max")
            before = statistics.median(column("seconds_before"))
            cells = [
                problem,
                name,
                f"{statistics.median(ratio):.4f} ({min(ratio):.4f})",
                f"{statistics.median(mean):.2g} ({max(mean):.2g})",
                f"{statistics.median(most):.2g} ({max(most):.2g})",
                f"{sum(column('collapsed')):.0f} of {len(runs)}",
                f"{runs[0]['parameters']:,}",
                f"{statistics.median(column('seconds')):.1f}",
                f"{before:.1f}" if before else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every conditioning on every problem; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 steps and one seed")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, … (default: %(default)s)")
    parser.add_argument("--problems", nargs="+", choices=TASKS, default=list(TASKS), help="(default: all)")
    parser.add_argument("--output", type=Path, default=Path("outputs/conditioning.json"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    steps, seeds = (100, 1) if options.quick else (options.steps, options.seeds)
    # Times of single runs mean little where threads share the cores.
    torch.set_num_threads(1)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    with progress_bar(None, "runs", total=len(options.problems) * len(CONDITIONINGS) * seeds) as bar:
        for problem in options.problems:
            task, results[problem] = TASKS[problem](), {name: [] for name in CONDITIONINGS}
            for name, runs in results[problem].items():
                for seed in range(seeds):
                    bar.set_description(f"{problem}, {name}")
                    runs.append(run(name, task, steps, seed))
                    bar.update()
    print(f"{steps} steps; medians over seeds 0 to {seeds - 1}, the worst seed in brackets.\n")
    print(table(results))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"steps": steps, "seeds": list(range(seeds)), "results": results}
    options.output.write_text(json.dumps(content, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
