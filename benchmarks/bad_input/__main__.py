"""``python -m benchmarks.bad_input``: see the package."""

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.bad_input.atheris_parsers import is_installed, run_format
from benchmarks.bad_input.outcomes import BAD
from benchmarks.bad_input.run import all_targets, prepare, run_targets
from benchmarks.bad_input.table import failures_text, table
from benchmarks.bad_input.targets.files import FORMATS


def main(words: list[str] | None = None) -> int:
    """Run the cases; 1 where one of them ended as none may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_input", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", nargs="*", default=(), help="words of which a group's or a target's name has one")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds that a case may take")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    parser.add_argument("--atheris", type=int, default=0, help="mutations of each format by atheris besides")
    parser.add_argument("--output", type=Path, help="a folder for the table and the failures")
    options = parser.parse_args(words)
    prepare()
    targets = all_targets(options.groups)
    start = time.perf_counter()
    counts: dict[str, Counter[str]] = {target.group: Counter() for target in targets}
    examples = []
    with ThreadPoolExecutor(options.workers) as pool:
        for target, tally in run_targets(targets, options.cases, options.seed, options.limit, pool):
            counts[target.group] += tally.counts
            examples += tally.examples.values()
            bad = sum(tally.counts[outcome] for outcome in BAD)
            print(f"{target.name}: {tally.counts.total()}, {bad} bad", file=sys.stderr, flush=True)
            # After each target, so that a run that is stopped has told what it saw.
            _write(options.output, counts, examples)
    for form in FORMATS if options.atheris else ():
        if not is_installed():
            print("atheris is not installed: its part is left out.", file=sys.stderr)
            break
        tally = run_format(form.name, options.atheris, options.seed)
        counts.setdefault("files, by atheris", Counter()).update(tally.counts)
        examples += tally.examples.values()
        _write(options.output, counts, examples)
    text = table(counts)
    print(text)
    print(failures_text(examples))
    print(f"{sum(row.total() for row in counts.values()):,} cases in {time.perf_counter() - start:.0f} s")
    return int(any(row[outcome] for row in counts.values() for outcome in BAD))


def _write(folder: Path | None, counts: dict[str, Counter[str]], examples: list[dict[str, Any]]) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bad_input.md").write_text(table(counts), encoding="utf-8")
        (folder / "bad_input.json").write_text(json.dumps(examples, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
