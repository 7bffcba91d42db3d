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
chosen on seeds from 100 on. What else a cell can vary (the correlation of two rewards, one reward on another scale,
wrong labels, λ from a part of the simplex alone) is set by the recipes of studies.py. Cells append to a file of JSON
lines, and those that it holds are not run again; the table of all of them is printed at the end.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.gradients import CAGrad, GradientWeighting
from mopref.indicators import largest_hole
from mopref.known_fronts import LabelBandit, LanguageBandit, RewardBandit, tiny_llama
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.samplers import LatticeSampler, UniformSampler
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import Linear, Normalized, SmoothTchebycheff, Tchebycheff

BEDS = {"rewards": RewardBandit, "labels": LabelBandit}
# Weightings of gradients that end where linear scalarization does.
WEIGHTINGS = {"cagrad": CAGrad(), "cagrad-clipped": CAGrad(clip=True)}
# Of the last two the exact optima are not known, and no regret.
SCALARIZERS = ("linear", "tchebycheff", *WEIGHTINGS, "smooth-tchebycheff", "normalized-linear")
# Points of the lattice on which fronts are measured: the corners are among them.
LATTICE = {2: 21, 3: 66, 5: 126, 10: 55}
HELD_OUT = 200
# Exact hypervolumes take too long beyond.
MOST_FOR_VOLUME = 5
# Which layers, and which of four blocks, have adapters.
TARGETS = {
    "all": None,
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "query-value": ("q_proj", "v_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
BLOCKS = {"all": None, "upper": (-2, -1), "lower": (0, 1), "last": (-1,)}
# Exact corners nearer to each other are one point, which has no trade-off and no volume.
_POINT = 1e-9


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
    # Names in TARGETS and BLOCKS.
    targets: str = "all"
    blocks: str = "all"


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
    """One training: a bandit, its seed and what it is trained with; with no lattice, λ is drawn anew each step.

    Args:
        bed: a name in ``BEDS``.
        scalarizer: one of ``SCALARIZERS``.
        objectives: m.
        seed: of base, bandit, adapters and draws.
        training_preferences: points of the lattice that is trained on; 0 for continuous draws.
        setting: of adapters, training and draws.
        region: training λ are drawn towards the centre, to this share of their distance; 1 for the whole simplex.
        correlation: of the second reward with the first, at m = 2; ``None`` for independent rewards.
        reward_scale: factor of the last reward.
        wrong_labels: share of the labels that training sees turned round.
        depth: blocks of the base.
    """

    bed: str
    scalarizer: str
    objectives: int
    seed: int
    training_preferences: int
    setting: Setting
    region: float = 1.0
    correlation: float | None = None
    reward_scale: float = 1.0
    wrong_labels: float = 0.0
    depth: int = 1


# Of fields that have a default: those alone are left out of a key.
_PLAIN = {field.name: field.default for field in fields(Cell) if field.default is not MISSING}


class CentralSampler(PreferenceSampler):
    """Another sampler's λ, moved towards the centre: c + share · (λ − c)."""

    def __init__(self, other: PreferenceSampler, share: float) -> None:
        self.other, self.share = other, share
        super().__init__(other.num_objectives)

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw ``(n, m)``."""
        return 1 / self.num_objectives + self.share * (self.other.draw(n, generator) - 1 / self.num_objectives)


def bandit_of(cell: Cell) -> tuple[torch.nn.Module, LanguageBandit]:
    """The base and the bandit around it, of the cell's seed: what is measured on."""
    base = tiny_llama(layers=cell.depth, seed=cell.seed)
    bandit = BEDS[cell.bed].random(base, cell.objectives, seed=cell.seed)
    if isinstance(bandit, RewardBandit):
        rewards = bandit.rewards.clone()
        if cell.correlation is not None:
            first, own = rewards[..., 0] - 0.5, rewards[..., 1] - 0.5
            rewards[..., 1] = 0.5 + cell.correlation * first + (1 - cell.correlation**2) ** 0.5 * own
        rewards[..., -1] *= cell.reward_scale
        bandit = RewardBandit(base, bandit.prompts, rewards, bandit.beta)
    return base, bandit


def trained_bandit(cell: Cell, model: torch.nn.Module, bandit: LanguageBandit) -> LanguageBandit:
    """What is trained on: the same, but for wrong labels."""
    if not cell.wrong_labels:
        return bandit
    assert isinstance(bandit, LabelBandit)
    shares = bandit.shares + cell.wrong_labels * (1 - 2 * bandit.shares)
    return LabelBandit(model, bandit.prompts, bandit.pairs, shares, bandit.beta)


def scalarizer_of(cell: Cell, bandit: LanguageBandit) -> Scalarizer | GradientWeighting:
    """The scalarizer with the bandit's own ideal point, and range where it wants one."""
    if cell.scalarizer == "tchebycheff":
        return Tchebycheff(ideal=bandit.ideal_point)
    if cell.scalarizer in WEIGHTINGS:
        return WEIGHTINGS[cell.scalarizer]
    if cell.scalarizer == "smooth-tchebycheff":
        return SmoothTchebycheff(ideal=bandit.ideal_point)
    if cell.scalarizer == "normalized-linear":
        return Normalized(Linear(), ideal=bandit.ideal_point, nadir=bandit.corners.amax(dim=0))
    return Linear()


def sampler_of(cell: Cell) -> PreferenceSampler:
    """What λ are drawn from in training."""
    sampler = _whole_sampler(cell)
    return sampler if cell.region == 1 else CentralSampler(sampler, cell.region)


def _whole_sampler(cell: Cell) -> PreferenceSampler:
    if cell.training_preferences:
        return LatticeSampler(cell.objectives, cell.training_preferences)
    setting, others = cell.setting, {}
    if setting.sampler in ("vertex-biased", "curriculum"):
        others["vertex_probability"] = setting.vertex_probability
    if setting.sampler == "curriculum":
        others["num_preferences"] = setting.steps * setting.preferences_per_step // 2
    return SAMPLERS.make(setting.sampler, num_objectives=cell.objectives, **others)


def trained(
    cell: Cell, base: torch.nn.Module, bandit: LanguageBandit
) -> tuple[PreferenceModel, list[dict[str, float]]]:
    """The model after the cell's training, and the log of every step."""
    own = asdict(cell.setting)
    adapter = {field.name: own.pop(field.name) for field in fields(SVDLoRAConfig) if field.name in own}
    for name in ("sampler", "vertex_probability"):
        own.pop(name)
    places = {"target_modules": TARGETS[own.pop("targets")], "layers": BLOCKS[own.pop("blocks")]}
    model = PreferenceModel(base, SVDLoRAConfig(bandit.names, seed=cell.seed, **places, **adapter))
    groups = own["preferences_per_step"]
    config = TrainerConfig(**own, batch_size=groups, seed=cell.seed, log_every=1, progress=False)
    objective = trained_bandit(cell, model, bandit)
    trainer = ParetoTrainer(model, objective, scalarizer_of(cell, objective), sampler=sampler_of(cell), config=config)
    trainer.train()
    return model.eval(), trainer.history


def measure(cell: Cell) -> dict[str, Any]:
    """Train and measure one cell."""
    base, bandit = bandit_of(cell)
    start = time.perf_counter()
    model, history = trained(cell, base, bandit)
    seconds = time.perf_counter() - start
    m = cell.objectives
    lattice, held_out = simplex_lattice(m, LATTICE[m]), UniformSampler(m, seed=10_000).sample(HELD_OUT)
    with torch.no_grad():
        reached, others = (bandit.losses(model, None, preferences) for preferences in (lattice, held_out))
    return {
        **regrets(cell, bandit, (lattice, reached), (held_out, others)),
        **shape(bandit, lattice, reached),
        **side_effects(bandit, model, lattice),
        **diagnostics(history, cell.setting.max_grad_norm),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": seconds,
    }


def regrets(
    cell: Cell, bandit: LanguageBandit, at_lattice: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]
) -> dict[str, float | None]:
    """Distances to the exact front; preferences and losses at the lattice and at held-out λ."""
    # Another scalarizer's optima are not known: what it misses is measured by the volume of all trade-offs.
    known = {"linear": Linear(), "tchebycheff": Tchebycheff(ideal=bandit.ideal_point)}
    scalarizer = known.get("linear" if cell.scalarizer in WEIGHTINGS else cell.scalarizer)
    lattice, reached = at_lattice
    spread = bandit.corner_spread
    found: dict[str, float | None] = {"spread": spread}
    if scalarizer is not None:
        found["regret"] = float(bandit.regret(reached, lattice, scalarizer).mean())
    if spread < _POINT:
        return found
    found["hypervolume_ratio"] = None
    if cell.objectives <= MOST_FOR_VOLUME:
        found["hypervolume_ratio"] = bandit.hypervolume_ratio(reached, lattice, scalarizer)
    if scalarizer is not None:
        regret, other = bandit.regret(reached, lattice, scalarizer), bandit.regret(held_out[1], held_out[0], scalarizer)
        inside = (held_out[0] - 1 / cell.objectives).abs().amax(dim=1) <= cell.region * (1 - 1 / cell.objectives)
        found |= {
            "regret_share": float(regret.mean()) / spread,
            "corner_share": float(regret[lattice.amax(dim=1) == 1].mean()) / spread,
            "worst_share": float(regret.max()) / spread,
            "held_out_share": float(other.mean()) / spread,
            "inside_share": float(other[inside].mean()) / spread,
            "outside_share": float(other[~inside].mean()) / spread if (~inside).any() else None,
        }
    return found


def shape(bandit: LanguageBandit, lattice: Tensor, reached: Tensor) -> dict[str, float | None]:
    """How the front is filled, in ranges of the exact corners, and whether λ is obeyed."""
    best, worst = bandit.corners.amin(dim=0), bandit.corners.amax(dim=0)
    if bandit.corner_spread < _POINT:
        return {}
    places = (reached.double() - best) / (worst - best)
    middle = places[len(places) // 2]
    moved = [i for i in range(len(best)) if reached[:, i].amax() > reached[:, i].amin()]
    orders = [spearmanr(lattice[:, i], -reached[:, i]).statistic for i in moved]
    return {
        "largest_hole": largest_hole(places),
        "balance": float(middle[0] / middle.sum()) if len(best) == 2 else None,
        "order": float(np.mean(orders)) if orders else None,
    }


def side_effects(bandit: LanguageBandit, model: PreferenceModel, lattice: Tensor) -> dict[str, float]:
    """What λ moves beside its objectives: prompts that were not trained on, and a reward that is in no objective."""
    generator = torch.Generator().manual_seed(20_000)
    unseen = torch.randint(3, bandit.reference.shape[1], (64, bandit.prompts.shape[1]), generator=generator)
    rewards = torch.rand(*bandit.reference.shape, 1, generator=generator, dtype=torch.float64)
    other = RewardBandit(model, unseen, torch.zeros(64, bandit.reference.shape[1], 1))
    with torch.no_grad():
        policies, unseen_policies = (own.log_probabilities(model, lattice) for own in (bandit, other))
    untrained = torch.einsum("npv,pvm->n", policies.exp(), rewards) / len(rewards)
    return {
        "kl": _divergence(policies, bandit.reference),
        "kl_unseen": _divergence(unseen_policies, other.reference),
        "untrained_range": float(untrained.max() - untrained.min()),
    }


def _divergence(policies: Tensor, reference: Tensor) -> float:
    """KL(π‖π_ref), nats, the mean over preferences and prompts."""
    return float((policies.exp() * (policies - reference)).sum(dim=-1).mean())


def diagnostics(history: list[dict[str, float]], max_grad_norm: float) -> dict[str, float]:
    """What the log of a training tells without an exact front: of its first and its last tenth, and of all steps."""
    norms, losses = ([record[name] for record in history] for name in ("gradient_norm", "loss"))
    tenth = max(1, len(history) // 10)
    return {
        "clipped": float(np.mean(np.array(norms) > max_grad_norm)),
        "gradient_norm_end": median(norms[-tenth:]),
        "loss_start": losses[0],
        "loss_end": mean(losses[-tenth:]),
        "loss_worst": max(losses),
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
    plain = {name: value for name, value in cell.items() if name not in _PLAIN or value != _PLAIN[name]}
    return json.dumps({**plain, "setting": own}, sort_keys=True)


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
        figures = [[record["result"].get(name) for record in group] for name in names]
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
