"""All targets, and how many cases each gets."""

import importlib
import os
import pkgutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import torch

from benchmarks.bad_input import targets as rooms, tiny, tiny_runs
from benchmarks.bad_input.target import Target
from benchmarks.bad_input.worker import Tally, run_target

__all__ = ["all_targets", "prepare", "run_targets"]


def prepare() -> None:
    """Nothing is fetched, no window opens, one thread a process, and the cache is a folder of this run's."""
    os.environ.update(HF_HUB_OFFLINE="1", PIP_NO_INDEX="1", MPLBACKEND="Agg", TOKENIZERS_PARALLELISM="false")
    os.environ["MOPREF_CACHE"] = tempfile.mkdtemp(prefix="bad-input-cache-")
    # Forked processes would wait for threads that only the parent has.
    torch.set_num_threads(1)
    # Imported before workers are forked: it takes longer than a case may.
    tiny.adapted()
    tiny.tokenizer()
    tiny_runs.opened(), tiny_runs.comparison()
    importlib.import_module("datasets")
    importlib.import_module("matplotlib.pyplot")


def all_targets(words: Sequence[str] = ()) -> list[Target]:
    """The targets of every room, or those of which the name or the group has one of the words."""
    found: list[Target] = []
    for room in pkgutil.iter_modules(rooms.__path__):
        module = importlib.import_module(f"{rooms.__name__}.{room.name}")
        found += getattr(module, "TARGETS", ())
    return [t for t in found if not words or any(word.lower() in f"{t.group} {t.name}".lower() for word in words)]


def run_targets(
    targets: Sequence[Target], cases: int, seed: int, limit: float, pool: Executor
) -> Iterator[tuple[Target, Tally]]:
    """Cases by weight; together ``cases`` of them, or a few more."""
    weight = sum(target.weight for target in targets)
    numbers = [max(1, round(cases * target.weight / weight)) for target in targets]
    tallies = pool.map(
        run_target,
        targets,
        numbers,
        [seed * len(targets) + place for place in range(len(targets))],
        [limit] * len(targets),
    )
    yield from zip(targets, tallies, strict=True)
