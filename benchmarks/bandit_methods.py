"""Methods side by side on an enumerable bandit, whose exact front is known: how near each comes at equal steps.

    python benchmarks/bandit_methods.py
    python benchmarks/bandit_methods.py --beds labels --steps 200 --points 5 --seeds 0 1 2 3 4
    python benchmarks/bandit_methods.py --objectives 3 --points 6 --methods ours paper rewarded-soup mod

Beds (:mod:`mopref.known_fronts`): "rewards" is KL-regularised RLHF by exact gradients, where MOD is exact for exact
corners; "labels" is DPO on rows with noisy labels, which every method on pairs can take. A Llama of one layer with
random weights, 12 prompts, 24 tokens, one-token responses; the seed makes base, bandit, adapters and draws. Every
method has the same total rank, rate and steps a run (``dps-total``: in total); the paper's preset has its own rate. All
are measured exactly at the points of one lattice: the hypervolume over that of the exact optima there, and the mean
regret Σ λ_i (f_i − exact f_i) as a share of the spread between the exact corners. Under "gap" is the difference to ours
of the same seed, its mean, and on how many of the seeds ours is better. Cells append to a file of JSON lines, and those
that it holds are not run again.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from mopref import PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.baselines import METHODS, MethodOptions, MethodPolicy, MethodSetup, PromptWriter, Trainings, make_method
from mopref.known_fronts import LabelBandit, LanguageBandit, RewardBandit, tiny_llama
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy
from mopref.objectives import DPO
from mopref.samplers import UniformSampler
from mopref.scalarizers import Linear

BEDS = ("rewards", "labels")
# They need pairs.
ON_PAIRS = ("modpo", "activation")
FIGURES = ("hypervolume_ratio", "regret_share")
# What the same points may differ by in another order.
ROUNDING = 1e-6


def setup_of(bed: str, options: argparse.Namespace, seed: int) -> tuple[MethodSetup, LanguageBandit]:
    """What all methods share on the bandit of a seed, and the bandit."""
    kind = RewardBandit if bed == "rewards" else LabelBandit
    bandit = kind.random(tiny_llama(seed=seed), options.objectives, seed=seed)
    is_exact, names = isinstance(bandit, RewardBandit), bandit.names
    config = TrainerConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        preferences_per_step=options.preferences_per_step,
        learning_rate=options.learning_rate,
        seed=seed,
        log_every=options.steps,
        progress=False,
        cpu=True,
    )
    setup = MethodSetup(
        make_model=lambda adapter: PreferenceModel(tiny_llama(seed=seed), adapter),
        adapter=SVDLoRAConfig(names, rank=8, preference_rank=4, seed=seed),
        objective=bandit if is_exact else DPO(names, beta=bandit.beta),
        make_scalarizer=Linear,
        make_sampler=lambda: UniformSampler(names),
        rows=None if isinstance(bandit, RewardBandit) else bandit.rows(),
        config=config,
    )
    return setup, bandit


def writer() -> PromptWriter:
    """Writes each weight as one of the bandit's 21 ordinary tokens, behind the prompt's last."""
    return PromptWriter(lambda preference: [3 + round(20 * weight) for weight in preference])


def exact_losses(bandit: LanguageBandit, policy: MethodPolicy, preferences: Tensor) -> Tensor:
    """The bandit's losses of a method at each preference, ``(N, m)``: from the log-probability of every token."""
    count, vocabulary = bandit.reference.shape
    prompts = [row for row in bandit.prompts.tolist() for _ in range(vocabulary)]
    sequences = collate_sequences(prompts, [[token] for _ in range(count) for token in range(vocabulary)])
    tables = []
    with torch.no_grad():
        for preference in preferences:
            own = Policy(policy.model).sequence_log_probabilities(sequences, preference)
            tables.append(own.double().view(count, vocabulary))
    return bandit.losses_of(torch.stack(tables))


def measure(bed: str, options: argparse.Namespace, seed: int, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The figures of these methods on the bandit of a seed; trainings that several need are done once."""
    setup, bandit = setup_of(bed, options, seed)
    trainings, lattice = Trainings(setup), simplex_lattice(options.objectives, options.points)
    found = {}
    for name in names:
        policy = make_method(name, trainings, MethodOptions(lattice, writer(), seed=seed))
        losses = exact_losses(bandit, policy, lattice)
        regret = bandit.regret(losses, lattice)
        found[name] = {
            "hypervolume_ratio": bandit.hypervolume_ratio(losses, lattice),
            "regret_share": float(regret.mean()) / bandit.corner_spread,
            "budget": vars(policy.budget),
            "losses": losses.tolist(),
        }
    return found


def key_of(bed: str, options: argparse.Namespace, seed: int, method: str) -> str:
    """One text for a cell."""
    names = ("objectives", "points", "steps", "batch_size", "preferences_per_step", "learning_rate")
    return json.dumps({"bed": bed, "seed": seed, "method": method, **{name: getattr(options, name) for name in names}})


def recorded(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a file, by their cells."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["cell"]: record["result"] for record in map(json.loads, filter(None, lines))}


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """A row a method: means over seeds, and gaps to ours of the same seed."""
    rows = [
        "| method | hypervolume ↑ | gap | ours better | regret % ↓ | gap | ours better | runs | steps | passes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ours = results["ours"]
    for name, own in results.items():
        cells = [METHODS[name].title]
        for figure, factor, digits in zip(FIGURES, (1, 100), (4, 2), strict=True):
            values = [factor * result[figure] for result in own]
            cells.append(_spread(values, digits))
            gaps = [value - factor * result[figure] for value, result in zip(values, ours, strict=True)]
            sign = -1 if figure == "hypervolume_ratio" else 1
            worse = sum(sign * gap > ROUNDING for gap in gaps)
            # Added to 0, a gap of -0.0 has no sign.
            gap = round(mean(gaps), digits) + 0.0
            cells += ["–", "–"] if name == "ours" else [f"{gap:+.{digits}f}", f"{worse} of {len(gaps)}"]
        budget = own[0]["budget"]
        cells += [str(budget["runs"]), str(budget["steps"]), f"{budget['passes_per_token']:g}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _spread(values: list[float], digits: int) -> str:
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}" if all(map(math.isfinite, values)) else "–"


def parsed(words: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", nargs="+", choices=BEDS, default=list(BEDS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--objectives", type=int, default=2)
    parser.add_argument("--points", type=int, default=5, help="of the lattice that all are measured at")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32, help="rows of a step on the bed of labels")
    parser.add_argument("--preferences-per-step", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, default=Path("bandit_methods.jsonl"))
    options = parser.parse_args(words)
    if "ours" not in options.methods:
        parser.error("--methods are without ours, which gaps are to: add it.")
    return options


def main(words: list[str] | None = None) -> None:
    """Run the cells that are not recorded yet, and print a table for each bed."""
    options = parsed(words)
    torch.set_num_threads(1)
    done = recorded(options.output)
    for bed in options.beds:
        methods = [name for name in options.methods if bed == "labels" or name not in ON_PAIRS]
        for seed in options.seeds:
            missing = [name for name in methods if key_of(bed, options, seed, name) not in done]
            for name, result in (measure(bed, options, seed, missing) if missing else {}).items():
                key = key_of(bed, options, seed, name)
                done[key] = result
                with options.output.open("a") as file:
                    file.write(json.dumps({"cell": key, "result": result}) + "\n")
        results = {name: [done[key_of(bed, options, seed, name)] for seed in options.seeds] for name in methods}
        print(f"\n{bed}, m = {options.objectives}, {options.steps} steps, seeds {options.seeds}\n\n{table(results)}")


if __name__ == "__main__":
    main()
