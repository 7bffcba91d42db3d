"""Kill trainings wherever they may be, go on with "latest", and compare everything to the run that nobody killed.

    python benchmarks/kill_anywhere.py --kills 200

Every kill is a SIGKILL of a process of its own: at a random moment; before a file operation (open for writing,
rename, unlink, rmdir, mkdir, fsync …), of which every one of a run is tried, those of writing, overwriting and
pruning checkpoints, of the log and of the best model among them; or within the writing of a file's content. Then
another process calls ``train(resume_from="latest")``, which may be killed again. In the end weights, optimiser, ideal
point, sampler, random generators, history, records of callbacks, log and the files left must be those of the
uninterrupted run, bit for bit, and no resume may begin before a checkpoint that was reported as written.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from killable_runs import KEPT, STEPS, TRAINERS, digests
from killed_process import Death, Outcome, forked

__all__ = ["Trial", "Whole", "end_faults", "main", "train", "tried", "uninterrupted"]

WAYS = ("moment", "operation", "torn", "overwrite", "chain")


class Whole(NamedTuple):
    """What a run comes to that nobody kills.

    Attributes:
        end: its digests.
        operations: its file operations, "name path" each.
        at_work: the first and the last number of those between its first step's end and its last one's saving.
        seconds: from its first step to its end.
        folder: what it left.
    """

    end: dict[str, str]
    operations: list[str]
    at_work: tuple[int, int]
    seconds: float
    folder: Path


class Trial(NamedTuple):
    """One run and its deaths.

    Attributes:
        kind: of the run.
        way: how it is killed.
        deaths: one after the other; the process after the last one lives.
    """

    kind: str
    way: str
    deaths: tuple[Death, ...]


def train(kind: str, folder: Path, resume_from: str | Path | None, **settings: Any) -> Any:
    """What a process does: train, and tell what it came to."""

    def life(tell: Any) -> None:
        # Whatever the global generators hold must not matter.
        torch.manual_seed(len(str(resume_from)))
        trainer = TRAINERS[kind](folder, tell, **settings)
        trainer.train(resume_from=resume_from)
        tell("end", digests=digests(trainer, folder))

    return life


def uninterrupted(kind: str, folder: Path) -> Whole:
    """The run that nobody kills, twice over, since it must be the same each time.

    Raises:
        RuntimeError: it fails, or is another one the second time.
    """
    ends = []
    for place in (folder / "whole", folder / "again"):
        outcome = forked(train(kind, place, None), place)
        if outcome.code:
            raise RuntimeError(f"the uninterrupted {kind} run failed: {outcome.of('error')}")
        ends.append(outcome.of("end")[0]["digests"])
    if ends[0] != ends[1]:
        raise RuntimeError(f"the uninterrupted {kind} run is not the same twice: {_differences(*ends)}")
    operations = [f"{entry['name']} {entry['path']}" for entry in outcome.of("operation")]
    seconds = outcome.of("end")[0]["at"] - outcome.of("begun")[0]["at"]
    begin, end = outcome.of("step")[0]["at"], outcome.of("saved")[-1]["at"]
    at_work = [entry["number"] for entry in outcome.of("operation") if begin < entry["at"] < end]
    return Whole(ends[0], operations, (at_work[0], at_work[-1]), seconds, folder / "whole")


def tried(trial: Trial, whole: Whole, folder: Path) -> tuple[int, list[str]]:
    """Kill and go on; how many kills there were, and what is wrong, nothing for a run that survives them.

    A process that ends before its death comes is no kill.
    """
    resume_from: str | Path = "latest"
    if trial.way == "overwrite":
        # A finished run goes back to its older checkpoint, and writes the newer one again.
        shutil.copytree(whole.folder, folder)
        resume_from = sorted(folder.glob("checkpoint-*"))[0]
    kills, reported, faults = 0, -1, []
    for death in (*trial.deaths, Death()):
        outcome = forked(train(trial.kind, folder, resume_from), folder, death)
        began = [entry["step"] for entry in outcome.of("begun")]
        if resume_from == "latest" and began and began[0] < reported:
            faults.append(f"began at step {began[0]}, though step {reported} was reported as written")
        saved = [entry["step"] for entry in outcome.of("saved")]
        reported = max(saved, default=reported)
        kills += outcome.killed
        if not outcome.killed:
            faults += end_faults(outcome, whole)
        if faults:
            break
        if saved or trial.way != "overwrite" or outcome.killed:
            resume_from = "latest"
    return kills, faults


def end_faults(outcome: Outcome, whole: Whole) -> list[str]:
    """What is wrong with a process that came to its end."""
    if outcome.code:
        text = "".join(entry["text"] for entry in outcome.of("error"))
        return [f"ended with {outcome.code}: {text.strip() or 'no traceback'}"]
    return [f"another {name}" for name in _differences(outcome.of("end")[0]["digests"], whole.end)]


def _differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [name for name in other if one.get(name) != other[name]]


def trials(kind: str, count: int, whole: Whole, generator: random.Random, every: int = 1) -> Iterator[Trial]:
    """Every file operation, each ``every``-th of them, and so many more deaths of the other ways in turn."""
    number = len(whole.operations)
    for operation in range(1 + generator.randrange(every), number + 1, every):
        yield Trial(kind, "operation", (Death(operation=operation),))
    for index in range(count):
        way = ("moment", "overwrite", "moment", "torn", "moment", "chain")[index % 6]
        moment = Death(seconds=generator.uniform(0, 0.8 * whole.seconds))
        operation = generator.randint(1, number)
        if way == "moment":
            yield Trial(kind, way, (moment,))
        elif way == "overwrite":
            # A rerun from an older checkpoint has fewer operations; half of the deaths come at the last ones.
            yield Trial(kind, way, (Death(operation=generator.randint(1, max(2, number // 3))),))
        elif way == "torn":
            yield Trial(kind, way, (Death(operation=operation, torn=generator.choice([0, 1, 100, 4096, 20000])),))
        else:
            shorter = [Death(seconds=generator.uniform(0, whole.seconds / 3)) for _ in range(2)]
            early = [Death(operation=generator.randint(1, max(2, number // 3))) for _ in range(3)]
            deaths = [*shorter, *early]
            generator.shuffle(deaths)
            yield Trial(kind, way, tuple(deaths))


def run(kind: str, kills: int, seed: int, every: int, only: int | None = None) -> tuple[Counter[str], list[str]]:
    """All trials of one kind; kills by their way, and a line for each failure."""
    counts: Counter[str] = Counter()
    failures: list[str] = []
    generator = random.Random(f"{seed} {kind}")
    with tempfile.TemporaryDirectory(prefix="kill-anywhere-") as place:
        whole = uninterrupted(kind, Path(place))
        print(f"{kind}: {whole.seconds:.2f} s, {len(whole.operations)} file operations", flush=True)
        for index, trial in enumerate(trials(kind, kills, whole, generator, every)):
            if only not in (None, index):
                continue
            folder = Path(place) / f"trial-{index}"
            killed, faults = tried(trial, whole, folder)
            counts[trial.way] += killed
            counts["runs"] += 1
            if faults:
                again = f"--kind {kind} --kills {kills} --seed {seed} --every {every} --only {index}"
                deaths = ", then ".join(map(str, trial.deaths))
                failures.append(f"{kind}, {trial.way} ({deaths}): {'; '.join(faults)}\n  again: {again}")
                print(failures[-1], flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    return counts, failures


def main(arguments: list[str] | None = None) -> int:
    """Print a table of kills; 1 where a run did not survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="trials of each kind beside every file operation")
    parser.add_argument("--every", type=int, default=1, help="try each so-manieth file operation (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--kind", choices=[*TRAINERS, "all"], default="all", help="(default: %(default)s)")
    parser.add_argument("--only", type=int, help="the trial of this number alone, as a failure says")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kinds = list(TRAINERS) if options.kind == "all" else [options.kind]
    rows, failures = {}, []
    for kind in kinds:
        rows[kind], failed = run(kind, options.kills, options.seed, options.every, options.only)
        failures += failed
    print(f"\n{STEPS} steps a run, the last {KEPT} checkpoints kept; kills by their way:")
    print(f"{'run':<6} {'runs':>6} " + " ".join(f"{way:>10}" for way in WAYS) + f" {'kills':>7}")
    for kind, counts in rows.items():
        total = sum(counts[way] for way in WAYS)
        print(f"{kind:<6} {counts['runs']:>6} " + " ".join(f"{counts[way]:>10}" for way in WAYS) + f" {total:>7}")
    print(f"{sum(counts[way] for counts in rows.values() for way in WAYS)} kills, {len(failures)} runs not as whole")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
