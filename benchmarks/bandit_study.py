"""How near one model comes to the exact front of an enumerable bandit: the cells of a study, each run once.

    python benchmarks/bandit_study.py --settings defaults --objectives 2 3 --seeds 0 1 2 3 4
    python benchmarks/bandit_study.py --settings ours --objectives 2 3 5 10 --seeds 0 1 2 3 4
    python benchmarks/bandit_study.py --settings ours --scalarizers tchebycheff --beds rewards labels --objectives 2 3
    python benchmarks/bandit_study.py --settings ours --training-preferences 11 0 --objectives 2 --seeds 0 1 2
    python benchmarks/bandit_study.py --set gate=shared-mlp learning_rate=1e-2 --objectives 2 --seeds 100 101 102

A cell is one training on exact losses (:class:`mopref.known_fronts.RewardBandit` or ``LabelBandit``: 12 prompts, 24
tokens, one-token responses, a Llama of one layer with random weights), so that there is no sampling noise but that of
the drawn λ. It is measured at λ that were not trained on: a lattice with the corners, and 200 draws uniform on the
simplex. Regret is Σ λ_i (f_i − exact f_i), or the Tchebycheff value's excess, over the spread between the exact
corners: the range of each loss over them, averaged over the losses. The hypervolume's ratio is to that of the exact
optima at the lattice, from the corners' worst values plus a tenth of the range. ``--training-preferences N`` trains on
an N-point lattice alone; 0 is continuous sampling. The seed makes base, bandit, adapters and draws; settings were
chosen on seeds from 100 on. Cells append to a file of JSON lines, and those that it holds are not run again; the table
of all of them is printed at the end.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.known_fronts import LabelBandit, LanguageBandit, RewardBandit, tiny_llama
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.samplers import LatticeSampler, UniformSampler
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import Linear, Tchebycheff

BEDS = {"rewards": RewardBandit, "labels": LabelBandit}
SCALARIZERS = ("linear", "tchebycheff")
# Points of the lattice on which fronts are measured: the corners are among them.
LATTICE = {2: 21, 3: 66, 5: 126, 10: 55}
HELD_OUT = 200
# Exact hypervolumes take too long beyond.
MOST_FOR_VOLUME = 5


@dataclass(frozen=True)
class Setting:
    """What is varied, beginning with the library's defaults: of the adapters, the training and the draws."""

    steps: int = 400
    learning_rate: float = 1e-3
    lr_schedule: str = "cosine"
    weight_decay: float = 0.0
    warmup_ratio: float = 0.05
    max_grad_norm: float = 1.0
    preferences_per_step: int = 4
    sampler: str = "uniform"
    rank: int = 8
    preference_rank: int = 4
    scaling: float = 1.0
    initialization: str = "zero-output"
    gate: str = "linear"
    core: str = "diagonal"
    vertex_probability: float = 0.3


DEFAULTS = Setting()
# Chosen on seeds from 100 on.
OURS = replace(DEFAULTS, learning_rate=2e-2, sampler="stratified", preference_rank=8, preferences_per_step=8)
SETTINGS = {
    "defaults": DEFAULTS,
    "defaults-5e-3": replace(DEFAULTS, learning_rate=5e-3),
    "defaults-2e-2": replace(DEFAULTS, learning_rate=2e-2),
    "ours": OURS,
    "ours-shared-mlp": replace(OURS, gate="shared-mlp"),
    "ours-layer-mlp": replace(OURS, gate="layer-mlp"),
    "ours-full-core": replace(OURS, core="full"),
    "ours-corners": replace(OURS, sampler="vertex-biased"),
    "paper": replace(
        DEFAULTS, learning_rate=2e-3, preferences_per_step=1, preference_rank=1, scaling=64.0, initialization="paper"
    ),
}


@dataclass(frozen=True)
class Cell:
    """One training: a bandit, its seed and what it is trained with; with no lattice, λ is drawn anew each step."""

    bed: str
    scalarizer: str
    objectives: int
    seed: int
    training_preferences: int
    setting: Setting


def bandit_of(cell: Cell) -> tuple[torch.nn.Module, LanguageBandit]:
    """The base and the bandit around it, of the cell's seed."""
    base = tiny_llama(seed=cell.seed)
    return base, BEDS[cell.bed].random(base, cell.objectives, seed=cell.seed)


def scalarizer_of(cell: Cell, bandit: LanguageBandit) -> Scalarizer:
    """The scalarizer with the bandit's own ideal point."""
    return Linear() if cell.scalarizer == "linear" else Tchebycheff(ideal=bandit.ideal_point)


def sampler_of(cell: Cell) -> PreferenceSampler:
    """What λ are drawn from in training."""
    if cell.training_preferences:
        return LatticeSampler(cell.objectives, cell.training_preferences)
    setting, others = cell.setting, {}
    if setting.sampler in ("vertex-biased", "curriculum"):
        others["vertex_probability"] = setting.vertex_probability
    if setting.sampler == "curriculum":
        others["num_preferences"] = setting.steps * setting.preferences_per_step // 2
    return SAMPLERS.make(setting.sampler, num_objectives=cell.objectives, **others)


def trained(cell: Cell, base: torch.nn.Module, bandit: LanguageBandit) -> PreferenceModel:
    """The model after the cell's training."""
    own = asdict(cell.setting)
    adapter = {field.name: own.pop(field.name) for field in fields(SVDLoRAConfig) if field.name in own}
    for name in ("sampler", "vertex_probability"):
        own.pop(name)
    model = PreferenceModel(base, SVDLoRAConfig(bandit.names, seed=cell.seed, **adapter))
    groups = own["preferences_per_step"]
    config = TrainerConfig(**own, batch_size=groups, seed=cell.seed, log_every=own["steps"], progress=False)
    ParetoTrainer(model, bandit, scalarizer_of(cell, bandit), sampler=sampler_of(cell), config=config).train()
    return model.eval()


def measure(cell: Cell) -> dict[str, Any]:
    """Train and measure one cell."""
    base, bandit = bandit_of(cell)
    start = time.perf_counter()
    model = trained(cell, base, bandit)
    seconds = time.perf_counter() - start
    scalarizer, m = scalarizer_of(cell, bandit), cell.objectives
    lattice, held_out = simplex_lattice(m, LATTICE[m]), UniformSampler(m, seed=10_000).sample(HELD_OUT)
    with torch.no_grad():
        reached, others = (bandit.losses(model, None, preferences) for preferences in (lattice, held_out))
    regret = bandit.regret(reached, lattice, scalarizer)
    spread = bandit.corner_spread
    is_corner = lattice.amax(dim=1) == 1
    return {
        "regret": float(regret.mean()),
        "regret_share": float(regret.mean()) / spread,
        "corner_share": float(regret[is_corner].mean()) / spread,
        "worst_share": float(regret.max()) / spread,
        "held_out_share": float(bandit.regret(others, held_out, scalarizer).mean()) / spread,
        "hypervolume_ratio": bandit.hypervolume_ratio(reached, lattice, scalarizer) if m <= MOST_FOR_VOLUME else None,
        "spread": spread,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": seconds,
    }


def cells_of(options: argparse.Namespace) -> Iterator[Cell]:
    """The cells that the options ask for."""
    settings = [with_changes(SETTINGS[name], options.set) for name in options.settings]
    for bed, scalarizer, m, count, setting, seed in product(
        options.beds, options.scalarizers, options.objectives, options.training_preferences, settings, options.seeds
    ):
        yield Cell(bed, scalarizer, m, seed, count, setting)


def with_changes(setting: Setting, changes: Iterable[str]) -> Setting:
    """A setting with ``name=value`` in place of its own."""
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in asdict(setting):
            raise SystemExit(f"{change!r}: no setting is called {name!r}; there are {', '.join(asdict(setting))}.")
        values[name] = type(getattr(setting, name))(text)
    return replace(setting, **values)


def recorded(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a file, by their cells."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines if line]
    return {key_of(record["cell"]): record for record in records}


def key_of(cell: dict[str, Any]) -> str:
    """One text for a cell, in which settings that are the defaults' are left out, so that new ones change no key."""
    default = asdict(DEFAULTS)
    own = {name: value for name, value in cell["setting"].items() if value != default.get(name)}
    return json.dumps({**cell, "setting": own}, sort_keys=True)


def table(records: Iterable[dict[str, Any]]) -> str:
    """Means and standard deviations over seeds, a row for each bed and setting; regrets in percent of the spread."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(key_of({**record["cell"], "seed": 0}), []).append(record)
    rows = [
        "| bed | m | trained on | setting | seeds | hypervolume | regret | % of spread | corners | worst | held out |",
        "|---" * 11 + "|",
    ]
    for key, group in groups.items():
        cell, setting = group[0]["cell"], json.loads(key)["setting"]
        seeds = sorted(record["cell"]["seed"] for record in group)
        names = ("hypervolume_ratio", "regret", "regret_share", "corner_share", "worst_share", "held_out_share")
        figures = [[record["result"][name] for record in group] for name in names]
        texts = [_figure(values, 100 if place > 1 else 1) for place, values in enumerate(figures)]
        words = ", ".join(f"{name}={value}" for name, value in setting.items()) or "defaults"
        drawn = f"{cell['training_preferences']} λ" if cell["training_preferences"] else "all λ"
        bed = f"{cell['bed']}, {cell['scalarizer']}"
        span = f"{seeds[0]}–{seeds[-1]} ({len(seeds)})"
        rows.append(f"| {bed} | {cell['objectives']} | {drawn} | {words} | {span} | {' | '.join(texts)} |")
    return "\n".join(rows)


def _figure(values: list[float | None], factor: float) -> str:
    known = [factor * value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {stdev(known):.2g}" if len(known) > 1 else ""
    return f"{mean(known):.4g}{spread}"


def main(words: list[str] | None = None) -> None:
    """Run the cells that are not recorded yet, and print the table of those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=["defaults"])
    parser.add_argument("--set", nargs="*", default=[], help="name=value of a setting, in each of --settings")
    parser.add_argument("--beds", nargs="+", choices=list(BEDS), default=["rewards"])
    parser.add_argument("--scalarizers", nargs="+", choices=SCALARIZERS, default=["linear"])
    parser.add_argument("--objectives", nargs="+", type=int, choices=list(LATTICE), default=[2])
    parser.add_argument("--training-preferences", nargs="+", type=int, default=[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, default=Path("bandit_study.jsonl"))
    options = parser.parse_args(words)
    done = recorded(options.output)
    keys = []
    for cell in cells_of(options):
        key = key_of(asdict(cell))
        keys.append(key)
        if key not in done:
            machine = {"torch": torch.__version__, "machine": platform.machine()}
            done[key] = {"cell": asdict(cell), "result": measure(cell), **machine}
            with options.output.open("a") as file:
                file.write(json.dumps(done[key]) + "\n")
    print(table(done[key] for key in keys))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
