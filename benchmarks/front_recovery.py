"""How much of a known front one conditioned model recovers: every problem and scalarizer, several seeds, beside peers.

    python benchmarks/front_recovery.py                                  # the headline: modified Tchebycheff, 5 seeds
    python benchmarks/front_recovery.py --scalarizers all --problems zdt1 zdt2
    python benchmarks/front_recovery.py --peers                          # NSGA-II, MOEA/D, one run a preference
    python benchmarks/front_recovery.py --libmoon                        # side by side with LibMOON, if it is installed

For each run: the hypervolume at a lattice of preferences with its corners, over the hypervolume of the scalarizer's
exact optimum at the same preferences (the oracle); the mean and largest regret g(f(λ); λ) − min g against it; the wall
time of search, fit and training together. Peers get the same number of evaluations of f and end with as many points.
Losses are normalised by the problem's ideal and nadir points before they are scalarized, so regret is in units of the
front's size; the reference point is ideal + 1.1 (nadir − ideal). Scalarizers that aim along a ray are the literature's,
as the peers have them: λ is the ray itself (convention "ray"), the others take it as importance. Writes
front_recovery.json and front_recovery.md.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import peers
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig, simplex_lattice
from mopref.indicators import fill_distance, hypervolume_with_method, preference_regret
from mopref.known_fronts.global_search import warm_start
from mopref.known_fronts.oracle import Optimum, scalarizer_optimum
from mopref.option_checks import Convention
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import scalarizer_for_problem

PREFERENCES_PER_STEP = 64
# Points that stand for the whole front, and points whose largest hole is measured; by the number of objectives.
DENSE = {2: 10_000, 3: 20_000}
FEW = {2: 21, 3: 105}


@dataclass(frozen=True)
class Setting:
    """A problem and how it is trained: smooth ones from the model's random start, multimodal ones from a search."""

    options: dict[str, Any]
    points: int = 105
    steps: int = 3000
    learning_rate: float = 5e-3
    generations: int = 0
    fit_steps: int = 500


SMOOTH_2 = Setting({"num_variables": 10})
SEARCHED_2 = Setting({"num_variables": 10}, generations=600, fit_steps=1000)
SMOOTH_3 = Setting({"num_objectives": 3}, steps=4500, learning_rate=1e-2)
SEARCHED_3 = Setting({"num_objectives": 3}, generations=300, learning_rate=1e-2)
REAL_WORLD = Setting({}, generations=600, fit_steps=1000, steps=4000, learning_rate=1e-2)
SETTINGS = {
    "zdt1": SMOOTH_2,
    "zdt2": SMOOTH_2,
    "zdt3": Setting({"num_variables": 10}, generations=600, fit_steps=3000, steps=2500, learning_rate=1e-4),
    "zdt4": SEARCHED_2,
    "zdt6": SEARCHED_2,
    "scaled-zdt1": SMOOTH_2,
    "vlmop1": SMOOTH_2,
    "vlmop2": SMOOTH_2,
    "vlmop3": Setting({}, generations=300),
    "dtlz1": SEARCHED_3,
    "dtlz2": SMOOTH_3,
    "dtlz3": SEARCHED_3,
    "dtlz4": Setting({"num_objectives": 3}, generations=600, fit_steps=2000, learning_rate=5e-4),
    "inverted-dtlz1": Setting({"num_objectives": 3}, generations=600, fit_steps=2000, learning_rate=1e-3),
    "dtlz2-5": Setting({"num_objectives": 5}, points=210, generations=300, learning_rate=2e-3),
    "dtlz2-8": Setting({"num_objectives": 8}, points=330, generations=300, learning_rate=2e-3),
    "re21": REAL_WORLD,
    "re24": REAL_WORLD,
    "re33": REAL_WORLD,
    "re37": REAL_WORLD,
}
# A lattice needs its number of points, and is no random draw.
SAMPLER_NAMES = [name for name in SAMPLERS if name != "lattice"]
# The losses are normalised by the problem's points whatever the scalarizer.
SCALARIZER_NAMES = [name for name in SCALARIZERS if name != "normalized"]
HEADLINE = ("zdt1", "zdt2", "zdt3", "scaled-zdt1", "vlmop1", "vlmop2", "dtlz1", "dtlz2")


def make_problem(name: str) -> Any:
    """The problem of a setting: "dtlz2-5" is DTLZ2 with the options of that setting."""
    return OBJECTIVES.make(name.removesuffix("-5").removesuffix("-8"), **SETTINGS[name].options)


def make_scalarizer(name: str, problem: Any) -> Scalarizer:
    """The scalarizer in the literature's convention, which peers and earlier tables have."""
    kind = cast(type[Scalarizer], SCALARIZERS.find(name))
    convention: Convention = "ray" if "ray" in kind.conventions else "importance"
    return scalarizer_for_problem(name, problem, convention=convention)


class Case:
    """One problem under one scalarizer: its preferences, reference point and oracle."""

    def __init__(self, name: str, scalarizer_name: str) -> None:
        self.name, self.scalarizer_name = name, scalarizer_name
        self.setting = SETTINGS[name]
        self.problem: Any = make_problem(name)
        self.scalarizer = make_scalarizer(scalarizer_name, self.problem)
        self.preferences = simplex_lattice(self.problem.num_objectives, self.setting.points)
        ideal, nadir = self.problem.ideal_point, self.problem.nadir_point
        self.reference_point = (ideal + 1.1 * (nadir - ideal)).numpy()
        self.optimum: Optimum = scalarizer_optimum(self.problem, self.scalarizer, self.preferences)
        self.oracle, self.exact = self.hypervolume(self.optimum.values)

    def hypervolume(self, values: Tensor | NDArray[np.float64]) -> tuple[float, bool]:
        """Hypervolume under this case's reference point, and whether it is exact."""
        volume = hypervolume_with_method(values, self.reference_point)
        return volume.value, volume.exact

    def limit(self) -> float | None:
        """Hypervolume of a dense sample of the whole front; ``None`` where that is not affordable."""
        count = DENSE.get(self.problem.num_objectives)
        return None if count is None else self.hypervolume(self.problem.pareto_front(count))[0]

    def regret(self, values: NDArray[np.float64]) -> tuple[float, float]:
        """Mean and largest regret against the oracle."""
        own = self.scalarizer(torch.as_tensor(values, dtype=torch.float64), self.preferences.double())
        regret = preference_regret(own, best=self.optimum.scalarized)
        return regret.mean, regret.max


def largest_holes(trainer: ParetoTrainer, case: Case) -> dict[str, float]:
    """Fill distance of a lattice of preferences, and of as many that are even on the front, where it is known."""
    m = case.problem.num_objectives
    if m not in DENSE:
        return {}
    front = case.problem.pareto_front(DENSE[m])
    return {
        "hole_lattice": fill_distance(trainer.front(FEW[m]).values, front),
        "hole_even": fill_distance(trainer.front(FEW[m], spread="front").values, front),
    }


def recover(case: Case, seed: int, sampler: str = "uniform") -> dict[str, Any]:
    """Train one model and measure its front."""
    setting, problem = case.setting, case.problem
    start = time.perf_counter()
    model = ParetoSetModel.for_problem(problem, seed=seed)
    evaluations = setting.steps * PREFERENCES_PER_STEP
    if setting.generations:
        search = warm_start(
            model, problem, case.scalarizer, generations=setting.generations, fit_steps=setting.fit_steps, seed=seed
        )
        evaluations += search.evaluations
    config = TrainerConfig(
        steps=setting.steps,
        preferences_per_step=PREFERENCES_PER_STEP,
        learning_rate=setting.learning_rate,
        log_every=setting.steps,
        seed=seed,
        cpu=True,
        progress=False,
    )
    trainer = ParetoTrainer(model, problem, case.scalarizer, sampler, config=config)
    trainer.train()
    seconds = time.perf_counter() - start
    front = trainer.front(case.preferences)
    # As many points, spread over the front that was learned instead of over the preferences.
    spread = trainer.front(len(case.preferences), spread="front")
    mean, largest = case.regret(front.values)
    return {
        "seed": seed,
        "hypervolume": case.hypervolume(front.values)[0],
        "ratio": case.hypervolume(front.values)[0] / case.oracle,
        "spread_ratio": case.hypervolume(spread.values)[0] / case.oracle,
        "regret_mean": mean,
        "regret_max": largest,
        "evaluations": evaluations,
        "seconds": seconds,
        "collapsed": front.is_collapsed(),
        **largest_holes(trainer, case),
    }


def compare_peers(case: Case, seed: int, evaluations: int, methods: Sequence[str]) -> dict[str, Any]:
    """Each peer's hypervolume over the oracle's, and its time."""
    results: dict[str, Any] = {}
    for method in methods:
        if method == "single":
            run = peers.single_preference_runs(case.problem, case.scalarizer, case.preferences, evaluations, seed)
        else:
            run = peers.evolutionary_search(method, case.problem, len(case.preferences), evaluations, seed)
        results[method] = {
            "ratio": case.hypervolume(run.values)[0] / case.oracle,
            "evaluations": run.evaluations,
            "seconds": run.seconds,
        }
    return results


def run_case(case: Case, seeds: Iterable[int], methods: Sequence[str], sampler: str = "uniform") -> dict[str, Any]:
    """All seeds of one case."""
    runs = []
    for seed in seeds:
        run = recover(case, seed, sampler)
        if methods:
            run["peers"] = compare_peers(case, seed, run["evaluations"], methods)
        runs.append(run)
        print(
            f"{case.name:15} {case.scalarizer_name:22} seed {seed}  ratio {run['ratio']:.5f}  spread "
            f"{run['spread_ratio']:.5f}  regret {run['regret_mean']:.4f} / {run['regret_max']:.4f}  "
            f"{run['seconds']:.1f} s"
            + "".join(f"  {name} {peer['ratio']:.5f}" for name, peer in run.get("peers", {}).items()),
            flush=True,
        )
    return {
        "problem": case.name,
        "scalarizer": case.scalarizer_name,
        "preferences": len(case.preferences),
        "reference_point": case.reference_point.tolist(),
        "oracle": case.oracle,
        "limit": case.limit(),
        "exact": case.exact,
        "setting": asdict(case.setting),
        "sampler": sampler,
        "runs": runs,
    }


def markdown(results: Sequence[dict[str, Any]], methods: Sequence[str]) -> str:
    """The results as a table; ratios are to the oracle."""
    header = [
        "problem",
        "scalarizer",
        "λ",
        "oracle",
        "whole front",
        "least ratio",
        "median",
        "even on front, median",
        "regret mean / max",
        "largest hole, lattice → even",
        "s",
        *methods,
    ]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for result in results:
        runs = result["runs"]
        ratios = [run["ratio"] for run in runs]
        cells = [
            result["problem"],
            result["scalarizer"],
            str(result["preferences"]),
            f"{result['oracle']:.6g}" + ("" if result["exact"] else " (approximate)"),
            "" if result["limit"] is None else f"{result['limit']:.6g}",
            f"{min(ratios):.4f}",
            f"{median(ratios):.4f}",
            f"{median(run['spread_ratio'] for run in runs):.4f}",
            f"{np.mean([run['regret_mean'] for run in runs]):.4f} / {max(run['regret_max'] for run in runs):.4f}",
            " → ".join(
                f"{median(run[key] for run in runs):.3g}" for key in ("hole_lattice", "hole_even") if key in runs[0]
            ),
            f"{median(run['seconds'] for run in runs):.1f}",
        ]
        for method in methods:
            results = [run["peers"][method] for run in runs]
            cells.append(f"{median(p['ratio'] for p in results):.4f} ({median(p['seconds'] for p in results):.1f} s)")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def compare_libmoon(seeds: Iterable[int]) -> list[dict[str, Any]]:
    """LibMOON and mopref in turn: the same problems, preferences (≥ .01, as LibMOON evaluates), reference (1.1, …)."""
    rows = []
    for name in ("zdt1", "zdt2", "vlmop2", "dtlz2"):
        for ours, theirs in (("modified-tchebycheff", "mtche"), ("smooth-tchebycheff", "softtche")):
            case = Case(name, ours)
            case.reference_point = np.full(case.problem.num_objectives, 1.1)
            weights = case.preferences.double().clamp(0.01, 0.99)
            case.preferences = (weights / weights.sum(dim=1, keepdim=True)).float()
            case.optimum = scalarizer_optimum(case.problem, case.scalarizer, case.preferences)
            case.oracle = case.hypervolume(case.optimum.values)[0]
            for seed in seeds:
                run = recover(case, seed)
                peer = peers.libmoon_pareto_set_learning(case.problem, theirs, case.preferences, seed)
                row = {
                    "problem": name,
                    "scalarizer": ours,
                    "seed": seed,
                    "oracle": case.oracle,
                    "mopref": run["hypervolume"],
                    "mopref_seconds": run["seconds"],
                    "libmoon": case.hypervolume(peer.values)[0],
                    "libmoon_seconds": peer.seconds,
                }
                rows.append(row)
                print(
                    f"{name:7} {ours:22} seed {seed}  oracle {row['oracle']:.4f}  mopref {row['mopref']:.4f} in "
                    f"{row['mopref_seconds']:.1f} s  LibMOON {row['libmoon']:.4f} in {row['libmoon_seconds']:.1f} s",
                    flush=True,
                )
    return rows


def libmoon_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Least hypervolume over the seeds, and median time, of both."""
    lines = ["| problem | scalarizer | oracle | mopref, least | s | LibMOON, best | s |", "|---" * 7 + "|"]
    for key in dict.fromkeys((row["problem"], row["scalarizer"]) for row in rows):
        mine = [row for row in rows if (row["problem"], row["scalarizer"]) == key]
        lines.append(
            f"| {key[0]} | {key[1]} | {mine[0]['oracle']:.4f} | {min(row['mopref'] for row in mine):.4f} | "
            f"{median(row['mopref_seconds'] for row in mine):.1f} | {max(row['libmoon'] for row in mine):.4f} | "
            f"{median(row['libmoon_seconds'] for row in mine):.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=[*SETTINGS, "all"], default=HEADLINE)
    parser.add_argument(
        "--scalarizers", nargs="+", choices=[*SCALARIZER_NAMES, "all"], default=["modified-tchebycheff"]
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … N−1 (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="optimiser steps, in place of each problem's own")
    parser.add_argument(
        "--peers", nargs="*", choices=["nsga2", "nsga3", "moead", "single"], help="(default: all but nsga3)"
    )
    parser.add_argument("--no-search", action="store_true", help="train every problem from the model's random start")
    parser.add_argument("--sampler", choices=SAMPLER_NAMES, default="uniform", help="(default: %(default)s)")
    parser.add_argument("--libmoon", action="store_true", help="only the comparison with LibMOON")
    parser.add_argument("--output", type=Path, default=Path("outputs/front_recovery"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.libmoon and not peers.has_libmoon():
        parser.error("LibMOON is not installed: run pip install --no-deps libmoon.")
    changes = {} if options.steps is None else {"steps": options.steps}
    if options.no_search:
        changes["generations"] = 0
    for name, setting in SETTINGS.items():
        SETTINGS[name] = replace(setting, **changes)
    methods = ["nsga2", "moead", "single"] if options.peers == [] else list(options.peers or [])
    names = list(SETTINGS) if "all" in options.problems else options.problems
    scalarizers = SCALARIZER_NAMES if "all" in options.scalarizers else options.scalarizers
    about = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    if options.libmoon:
        rows = compare_libmoon(range(options.seeds))
        table, content = libmoon_markdown(rows), {"about": about, "runs": rows}
        stem = "libmoon"
    else:
        results = []
        for name in names:
            for scalarizer in scalarizers:
                results.append(run_case(Case(name, scalarizer), range(options.seeds), methods, options.sampler))
        table, content = markdown(results, methods), {"about": about, "cases": results}
        stem = "front_recovery"
    (options.output / f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (options.output / f"{stem}.md").write_text(table, encoding="utf-8")
    print("\n" + table)


if __name__ == "__main__":
    main()
