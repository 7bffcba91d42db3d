"""Send SIGTERM and Ctrl-C to trainings wherever they may be, once and twice, and go on with "latest" afterwards.

    python benchmarks/interrupt_anywhere.py

The first signal must let the step at work end, save it and leave by SystemExit(143) or KeyboardInterrupt; a second
one must act at once. Either way nothing half-written stays under a checkpoint's name, and the run that goes on ends
as the uninterrupted one, bit for bit. Signals come before file operations, those within the writing of a checkpoint
among them, and at random moments.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from kill_anywhere import Whole, end_faults, train, uninterrupted
from killable_runs import STEPS, TRAINERS
from killed_process import Death, Outcome, forked

__all__ = ["main"]

SIGNALS = {
    "SIGTERM": (signal.SIGTERM,),
    "SIGINT": (signal.SIGINT,),
    "SIGTERM twice": (signal.SIGTERM, signal.SIGTERM),
    "SIGINT twice": (signal.SIGINT, signal.SIGINT),
    "both": (signal.SIGTERM, signal.SIGINT),
}
# The end that a first signal leads to, and that a second one does.
FIRST: dict[int, str] = {signal.SIGTERM: "SystemExit: 143", signal.SIGINT: "KeyboardInterrupt"}
AT_ONCE: dict[int, str] = {signal.SIGTERM: f"signal {int(signal.SIGTERM)}", signal.SIGINT: "KeyboardInterrupt"}


def tried(kind: str, death: Death, whole: Whole, folder: Path) -> list[str]:
    """Interrupt a run and go on; what is wrong."""
    outcome = forked(train(kind, folder, "latest"), folder, death)
    faults = _ending_faults(outcome, death)
    hidden = [path.name for path in folder.glob(".checkpoint-*")]
    # A second signal breaks the cleaning off, which the next run does then.
    if hidden and len(death.signals) == 1:
        faults.append(f"left {', '.join(hidden)}")
    return faults or end_faults(forked(train(kind, folder, "latest"), folder), whole)


def _ending_faults(outcome: Outcome, death: Death) -> list[str]:
    if outcome.of("end"):
        # Of a moment: its last step was done before the signal came.
        return [] if death.operation is None else ["ended as if there had been no signal"]
    text = "".join(entry["text"] for entry in outcome.of("error")).strip()
    last = text.splitlines()[-1] if text else f"signal {-outcome.code}"
    steps, saved = outcome.of("step"), outcome.of("saved")
    is_outside = not steps or (bool(saved) and saved[-1]["step"] == STEPS)
    if death.operation is None and is_outside and last == AT_ONCE[death.signals[0]]:
        return []  # Before the first step was at work, or after the last one.
    if len(death.signals) == 2:
        # Behind the end of the first one's step there is nothing left to break off.
        wanted = [AT_ONCE[death.signals[1]], FIRST[death.signals[0]]]
    else:
        wanted = [FIRST[death.signals[0]]]
        if not saved or saved[-1]["step"] != steps[-1]["step"]:
            return [f"ended with {last!r} and did not save step {steps[-1:]}, but {saved[-1:]}"]
    return [] if last.startswith(tuple(wanted)) else [f"ended with {last!r}, not {wanted[0]!r}: {text}"]


def deaths(whole: Whole, moments: int, generator: random.Random, every: int) -> Iterator[tuple[str, Death]]:
    """Each ``every``-th file operation while steps are at work, and moments, under each signal in turn."""
    names = list(SIGNALS)
    first, last = whole.at_work
    for index, operation in enumerate(range(first + generator.randrange(every), last + 1, every)):
        yield names[index % len(names)], Death(operation=operation, signals=SIGNALS[names[index % len(names)]])
    # The writing of the last checkpoint, after which there is no step any more.
    for name in names[:2]:
        yield name, Death(operation=last - 3, signals=SIGNALS[name])
    for index in range(moments):
        seconds = generator.uniform(0, 0.8 * whole.seconds)
        yield names[index % len(names)], Death(seconds=seconds, signals=SIGNALS[names[index % len(names)]])


def main(arguments: list[str] | None = None) -> int:
    """Print a table; 1 where a run did not end, or did not go on, as it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="random moments of each kind (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="try each so-manieth file operation (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--kind", choices=[*TRAINERS, "all"], default="all", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    failures = 0
    print(f"{'run':<6} " + " ".join(f"{name:>14}" for name in SIGNALS) + "   failed")
    for kind in list(TRAINERS) if options.kind == "all" else [options.kind]:
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(prefix="interrupt-anywhere-") as place:
            whole = uninterrupted(kind, Path(place))
            generator = random.Random(f"{options.seed} {kind}")
            for index, (name, death) in enumerate(deaths(whole, options.moments, generator, options.every)):
                folder = Path(place) / f"trial-{index}"
                faults = tried(kind, death, whole, folder)
                counts[name] += 1
                if faults:
                    counts["failed"] += 1
                    where = "" if death.operation is None else f" ({whole.operations[death.operation - 1]})"
                    print(f"{kind}, {name} {death}{where}: {'; '.join(faults)}", flush=True)
                shutil.rmtree(folder, ignore_errors=True)
        failures += counts["failed"]
        print(f"{kind:<6} " + " ".join(f"{counts[name]:>14}" for name in SIGNALS) + f"   {counts['failed']:>6}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
