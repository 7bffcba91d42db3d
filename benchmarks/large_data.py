"""Data larger than memory: records, rows and references on the disk, the memory they take, and what a batch costs.

    python benchmarks/large_data.py --rows 200000 --output outputs/large_data.json

In a process of its own a tiny random model goes the whole way of a training with DPO: records are written as a table of
``datasets``, tokenised into another one, the reference's log-probabilities are computed and kept, found again, all rows
are checked, and some steps are trained. One objective is labelled on every record, the other on one in a hundred. Each
line has its seconds and the largest resident set so far, pages of mapped files among it. Then batches are drawn, read
and collated, each timed by itself: medians of the time on the core, in which other processes have no part, and the mean
of the whole, which holds the shuffling of each epoch; beside them the median by the clock on the wall.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from memory import make_model

from mopref import ParetoTrainer, TrainerConfig
from mopref._tables import rows_at
from mopref.llm.data import tokenize_records
from mopref.objectives import DPO
from mopref.scalarizers import Tchebycheff
from mopref.training.batching import GroupBatchSampler

NAMES = ("a", "b")
_WORDS = [f"word{number}" for number in range(60)]
_BATCH_SIZE, _GROUPS = 16, 4


def write_records(count: int, words: int, share: float, folder: str) -> Any:
    """A table of random records, of which a share is labelled on the second objective, too."""
    from datasets import Dataset

    def records() -> Iterator[dict[str, Any]]:
        generator = np.random.default_rng(0)
        for row in range(count):
            prompt, first, second = (" ".join(generator.choice(_WORDS, words)) for _ in range(3))
            labels = {"a": row % 2, "b": 1 - row % 2 if row == 0 or generator.random() < share else -1}
            yield {"prompt": prompt, "response_0": first, "response_1": second, **labels}

    return Dataset.from_generator(records, cache_dir=folder)


def make_tokenizer() -> Any:
    """One that knows the words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["<unk>", "</s>", *_WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>")


def _peak_mb() -> float:
    """The largest resident set of this process; of Linux's two numbers that which leaves its parent's out."""
    status = Path("/proc/self/status")
    if status.exists():
        return float(re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))[1]) / 1024  # type: ignore[index]
    # KB, and bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


class Stages:
    """What was done, how long it took, and the largest resident set by then."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done in this block."""
        start = time.perf_counter()
        yield
        line = {"stage": name, "seconds": round(time.perf_counter() - start, 2), "peak_mb": round(_peak_mb(), 1)}
        self.lines.append(line)


def batch_costs(objective: DPO, rows: Any, batches: int) -> dict[str, float]:
    """Milliseconds of a batch: to draw it, to read its rows, to collate them, and all three together."""
    start = time.thread_time()
    sampler = GroupBatchSampler(objective.labelled(rows), _BATCH_SIZE, _GROUPS)
    made = time.thread_time() - start
    times, on_the_wall = [], []
    for _ in range(batches):
        start, moments = time.perf_counter(), [time.thread_time()]
        numbers = next(sampler)
        moments.append(time.thread_time())
        own = rows_at(rows, numbers)
        moments.append(time.thread_time())
        objective.collate(own)
        moments.append(time.thread_time())
        on_the_wall.append(time.perf_counter() - start)
        times.append(np.diff(moments))
    parts = 1000 * np.array(times)
    medians = dict(zip(("draw_ms", "read_ms", "collate_ms"), np.median(parts, axis=0).round(3).tolist(), strict=True))
    whole = parts.sum(axis=1)
    return {
        **medians,
        "batch_ms": round(float(np.median(whole)), 3),
        "mean_batch_ms": round(float(whole.mean()), 3),
        "batch_on_the_wall_ms": round(1000 * float(np.median(on_the_wall)), 3),
        "make_sampler_ms": round(1000 * made, 1),
    }


def measure(count: int, words: int, share: float, steps: int, batches: int, folder: Path) -> dict[str, Any]:
    """Go the whole way in this process."""
    torch.set_num_threads(1)
    stages, objective, cache = Stages(), DPO(NAMES), folder / "cache"
    with stages.stage("start"):
        model, tokenizer = make_model(NAMES), make_tokenizer()
    with stages.stage("records"):
        records = write_records(count, words, share, str(folder / "records"))
    for name in ("tokenise", "tokenise again"):
        with stages.stage(name):
            rows = tokenize_records(tokenizer, records, NAMES, cache_dir=cache)
    for name in ("reference", "reference again"):
        with stages.stage(name):
            rows_with_reference = objective.precompute(model, rows, batch_size=64, cache=cache)
    config = TrainerConfig(
        steps=steps, batch_size=_BATCH_SIZE, preferences_per_step=_GROUPS, log_every=steps, cpu=True, progress=False
    )
    with stages.stage("trainer"):
        trainer = ParetoTrainer(model, objective, Tchebycheff(), train_data=rows_with_reference, config=config)
    with stages.stage(f"{steps} steps"):
        trainer.train()
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    costs = batch_costs(objective, rows_with_reference, batches)
    return {"rows": count, "share": share, "disk_mb": round(disk / 1024**2, 1), "stages": stages.lines, **costs}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="records")
    parser.add_argument("--words", type=int, default=20, help="words of each prompt and response")
    parser.add_argument("--share", type=float, default=0.01, help="of the records, labelled on the second objective")
    parser.add_argument("--steps", type=int, default=20, help="steps that are trained")
    parser.add_argument("--batches", type=int, default=1000, help="batches that are timed")
    parser.add_argument("--folder", type=Path, help="where the tables are written; by default a temporary folder")
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    parser.add_argument("--here", action="store_true", help="measure in this process, and print JSON only")
    given = parser.parse_args(arguments)
    sizes = {name: getattr(given, name) for name in ("rows", "words", "share", "steps", "batches")}
    if given.here:
        print(json.dumps(measure(*sizes.values(), given.folder)))
        return
    with TemporaryDirectory(dir=given.folder) as folder:
        options = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, __file__, "--here", *options, "--folder", folder]
        environment = {**os.environ, "HF_DATASETS_CACHE": folder, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result = json.loads(run.stdout.splitlines()[-1])
    print(f"{result['rows']:,} records, {result['disk_mb']:,.0f} MB on the disk")
    print(f"{'stage':<18}{'seconds':>9}{'peak resident':>16}")
    for line in result["stages"]:
        print(f"{line['stage']:<18}{line['seconds']:>9.1f}{line['peak_mb']:>13.0f} MB")
    parts = ", ".join(f"{name[:-3].replace('_', ' ')} {result[name]:.2f}" for name in result if name.endswith("_ms"))
    print(f"a batch of {_BATCH_SIZE}, {_GROUPS} preferences, in ms: {parts}")
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
