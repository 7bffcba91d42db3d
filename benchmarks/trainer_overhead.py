"""What does ParetoTrainer cost beside a bare PyTorch loop that trains the same model on the same problem?

    python benchmarks/trainer_overhead.py --json outputs/trainer_overhead.json

ZDT1 with 30 variables, a ``ParetoSetModel`` and 64 preferences a step. The bare loop is what one writes by hand: the
same sampler, ``model(λ)``, ``problem.evaluate``, the scalarizer's formula, ``backward``, ``clip_grad_norm_`` and AdamW
as PyTorch makes it. It logs nothing and looks at no number. The trainer does what it does by default, with a history
entry at every tenth step and a constant learning rate, and both must end with the same weights, bit by bit.

The two take turns of some steps each, in one process on one thread, so that a machine whose speed drifts slows both
alike; ratios are of neighbouring turns, and their median is shown. The first pair of each training warms up. Where
other work keeps the machine busy the processor's seconds say more than the clock's.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mopref import ParetoSetModel, ParetoTrainer, Scalarizer, TrainerCallback, TrainerConfig, UniformSampler
from mopref.objectives import ZDT1
from mopref.scalarizers import Linear, Tchebycheff

PREFERENCES, SEED, LEARNING_RATE, LARGEST_NORM = 64, 0, 1e-3, 1.0
IDEAL = torch.zeros(2)
KINDS = ("seconds", "processor")

# Of each: the scalarizer, and the same by hand, (λ, f) to one number for each preference.
SCALARIZERS: dict[str, tuple[Callable[[], Scalarizer], Callable[[Tensor, Tensor], Tensor]]] = {
    "linear": (Linear, lambda preferences, losses: (preferences * losses).sum(dim=-1)),
    "tchebycheff": (
        lambda: Tchebycheff(ideal=IDEAL.tolist()),
        lambda preferences, losses: (preferences * (losses - IDEAL)).amax(dim=-1),
    ),
}


class BareLoop:
    """The training by hand.

    Args:
        formula: (λ, f) to one number for each preference.
    """

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.model = ParetoSetModel.for_problem(ZDT1()).train()
        self._steps = self._loop(formula)

    def _loop(self, formula: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
        problem, model = ZDT1(), self.model
        sampler = UniformSampler(problem.num_objectives)
        sampler.seed([SEED, 0])
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
        while True:
            preferences = sampler.sample(PREFERENCES)
            losses = problem.evaluate(model(preferences))
            loss = formula(preferences, losses).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            yield

    def run(self, steps: int) -> None:
        """So many steps more."""
        for _ in range(steps):
            next(self._steps)


class Turns(TrainerCallback):
    """After every turn of the trainer's, one of the bare loop's.

    Args:
        loop: the other training.
        steps: of a turn.

    Attributes:
        taken: of each pair of turns, bare and trainer's, the seconds of a step by the clock and of the processor.
    """

    def __init__(self, loop: BareLoop, steps: int) -> None:
        self.taken: list[dict[str, tuple[float, float]]] = []
        self._loop, self._steps = loop, steps

    def on_train_begin(self, trainer: ParetoTrainer) -> None:
        """Begin the first turn."""
        self._start = _clocks()

    def on_step_end(self, trainer: ParetoTrainer) -> None:
        """End a turn where it is over, and give the other one."""
        if trainer.step % self._steps:
            return
        middle = _clocks()
        self._loop.run(self._steps)
        end = _clocks()
        marks = zip(KINDS, self._start, middle, end, strict=True)
        self.taken.append({kind: ((c - b) / self._steps, (b - a) / self._steps) for kind, a, b, c in marks})
        self._start = _clocks()


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def train(scalarizer: str, steps: int, turn: int) -> list[dict[str, tuple[float, float]]]:
    """Train by hand and by ParetoTrainer; what the pairs of turns took.

    Raises:
        RuntimeError: the two end with other weights, so that they did not do the same work.
    """
    make, formula = SCALARIZERS[scalarizer]
    problem, loop = ZDT1(), BareLoop(formula)
    model, turns = ParetoSetModel.for_problem(problem), Turns(loop, turn)
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
    ParetoTrainer(model, problem, make(), config=config, callbacks=[turns]).train()
    for (name, own), other in zip(model.named_parameters(), loop.model.parameters(), strict=True):
        if not torch.equal(own, other):
            raise RuntimeError(f"{name} is not the same after both trainings: they did not do the same work.")
    return turns.taken


def figures(pairs: Sequence[dict[str, tuple[float, float]]]) -> dict[str, float]:
    """Medians of the seconds, and of the trainer's ratios to the bare loop, with their quartiles."""
    result = {}
    for kind in KINDS:
        result[f"bare_{kind}"], result[f"trainer_{kind}"] = (
            statistics.median(pair[kind][place] for pair in pairs) for place in (0, 1)
        )
        ratios = [pair[kind][1] / pair[kind][0] for pair in pairs]
        quartiles = statistics.quantiles(ratios) if len(ratios) > 1 else 3 * ratios
        result |= dict(zip((f"{kind}_ratio{end}" for end in ("_low", "", "_high")), quartiles, strict=True))
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare under every scalarizer; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of each training (default: %(default)s)")
    parser.add_argument("--turn", type=int, default=50, help="steps of a turn (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=6, help="trainings of each kind (default: %(default)s)")
    parser.add_argument("--scalarizers", nargs="+", choices=list(SCALARIZERS), default=list(SCALARIZERS))
    parser.add_argument("--json", type=Path, help="a file for all figures")
    given = parser.parse_args(arguments)
    if given.turn < 1 or given.repeats < 1 or given.steps < 2 * given.turn or given.steps % given.turn:
        parser.error("--steps must be whole turns, two or more, and --repeats at least 1.")
    torch.set_num_threads(1)
    results = []
    print("ms of a step by the clock and of the processor; ratios of neighbouring turns: median (quartiles)")
    for scalarizer in given.scalarizers:
        pairs = [pair for _ in range(given.repeats) for pair in train(scalarizer, given.steps, given.turn)[1:]]
        row = figures(pairs)
        results.append({"scalarizer": scalarizer, "steps": given.steps, "pairs_of_turns": len(pairs), **row})
        for kind in KINDS:
            own = {name: row[f"{name}_{kind}"] * 1e3 for name in ("bare", "trainer")}
            low, ratio, high = (row[f"{kind}_ratio{end}"] for end in ("_low", "", "_high"))
            print(
                f"{scalarizer:<12} {kind:<10} bare {own['bare']:.3f}  trainer {own['trainer']:.3f}  "
                f"ratio {ratio:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
