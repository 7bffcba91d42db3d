"""What does ParetoTrainer cost beside a bare PyTorch loop that trains the same model on the same problem?

    python benchmarks/trainer_overhead.py --json outputs/trainer_overhead.json

ZDT1 with 30 variables, a ``ParetoSetModel`` and 64 preferences a step. The bare loop is what one writes by hand: the
same sampler, ``model(λ)``, ``problem.evaluate``, the scalarizer's formula, ``backward``, ``clip_grad_norm_`` and AdamW
as PyTorch makes it. It logs nothing and looks at no number. The trainer does what it does by default, with a history
entry at every tenth step and a constant learning rate, and both must end with the same weights, bit by bit.

The two take turns, a whole training each, in one process on one thread; ratios are of neighbouring turns, and their
median is shown. The first pair warms up. Where other work keeps the machine busy the processor's seconds say more.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mopref import ParetoSetModel, ParetoTrainer, Scalarizer, TrainerConfig, UniformSampler
from mopref.objectives import ZDT1
from mopref.scalarizers import Linear, Tchebycheff

PREFERENCES, SEED, LEARNING_RATE, LARGEST_NORM = 64, 0, 1e-3, 1.0

# Of each: the scalarizer, and the same by hand, (λ, f) to one number for each preference.
SCALARIZERS: dict[str, tuple[Callable[[], Scalarizer], Callable[[Tensor, Tensor], Tensor]]] = {
    "linear": (Linear, lambda preferences, losses: (preferences * losses).sum(dim=-1)),
    # The ideal point is the origin.
    "tchebycheff": (
        lambda: Tchebycheff(ideal=[0.0, 0.0]),
        lambda preferences, losses: (preferences * losses).amax(dim=-1),
    ),
}


def bare(scalarizer: str, steps: int) -> ParetoSetModel:
    """Train by hand."""
    formula, problem = SCALARIZERS[scalarizer][1], ZDT1()
    model = ParetoSetModel.for_problem(problem)
    sampler = UniformSampler(problem.num_objectives)
    sampler.seed([SEED, 0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    model.train()
    for _ in range(steps):
        preferences = sampler.sample(PREFERENCES)
        losses = problem.evaluate(model(preferences))
        loss = formula(preferences, losses).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
    return model


def trained(scalarizer: str, steps: int) -> ParetoSetModel:
    """Train by ParetoTrainer."""
    problem = ZDT1()
    model = ParetoSetModel.for_problem(problem)
    config = TrainerConfig(
        steps=steps,
        preferences_per_step=PREFERENCES,
        learning_rate=LEARNING_RATE,
        max_grad_norm=LARGEST_NORM,
        lr_schedule="constant",
        warmup_ratio=0.0,
        seed=SEED,
        cpu=True,
        progress=False,
    )
    ParetoTrainer(model, problem, SCALARIZERS[scalarizer][0](), config=config).train()
    return model


def timed(train: Callable[[str, int], ParetoSetModel], scalarizer: str, steps: int) -> dict[str, Any]:
    """One turn: the model, seconds by the clock and of the processor."""
    seconds, processor = time.perf_counter(), time.process_time()
    model = train(scalarizer, steps)
    return {
        "model": model,
        "seconds": time.perf_counter() - seconds,
        "processor": time.process_time() - processor,
    }


def check_weights(first: ParetoSetModel, second: ParetoSetModel) -> None:
    """Refuse a comparison of two trainings that were not the same.

    Raises:
        RuntimeError: a weight that differs.
    """
    for (name, own), other in zip(first.named_parameters(), second.parameters(), strict=True):
        if not torch.equal(own, other):
            raise RuntimeError(f"{name} is not the same after both trainings: they did not do the same work.")


def compare(scalarizer: str, steps: int, repeats: int) -> dict[str, float]:
    """Medians of a step's milliseconds, and of the ratios of neighbouring turns.

    Raises:
        RuntimeError: the two trainings end with other weights.
    """
    turns = []
    for _ in range(repeats + 1):
        turns.append((timed(bare, scalarizer, steps), timed(trained, scalarizer, steps)))
        check_weights(*(turn.pop("model") for turn in turns[-1]))
    del turns[0]
    result = {}
    for kind in ("seconds", "processor"):
        result[f"bare_{kind}"], result[f"trainer_{kind}"] = (
            statistics.median(turn[place][kind] for turn in turns) / steps for place in (0, 1)
        )
        ratios = [second[kind] / first[kind] for first, second in turns]
        result |= {f"{kind}_ratio": statistics.median(ratios), f"{kind}_ratio_min": min(ratios)}
        result[f"{kind}_ratio_max"] = max(ratios)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare under every scalarizer; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of each training (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="timed pairs of turns (default: %(default)s)")
    parser.add_argument("--scalarizers", nargs="+", choices=list(SCALARIZERS), default=list(SCALARIZERS))
    parser.add_argument("--json", type=Path, help="a file for all figures")
    given = parser.parse_args(arguments)
    if min(given.steps, given.repeats) < 1:
        parser.error("--steps and --repeats must be at least 1.")
    torch.set_num_threads(1)
    results = []
    print("ms of a step by the clock and of the processor; ratios of neighbouring turns: median (least to largest)")
    for scalarizer in given.scalarizers:
        row = compare(scalarizer, given.steps, given.repeats)
        results.append({"scalarizer": scalarizer, "steps": given.steps, "repeats": given.repeats, **row})
        for kind in ("seconds", "processor"):
            own = {name: row[f"{name}_{kind}"] * 1e3 for name in ("bare", "trainer")}
            ratio, least, largest = (row[f"{kind}_ratio{end}"] for end in ("", "_min", "_max"))
            print(
                f"{scalarizer:<12} {kind:<10} bare {own['bare']:.3f}  trainer {own['trainer']:.3f}  "
                f"ratio {ratio:.3f} ({least:.3f} to {largest:.3f})",
                flush=True,
            )
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
