"""``python -m benchmarks.bad_input``: see the package."""

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.bad_input.outcomes import BAD
from benchmarks.bad_input.run import all_targets, prepare, run_targets
from benchmarks.bad_input.table import failures_text, table


def main(words: list[str] | None = None) -> int:
    """Run the cases; 1 where one of them ended as none may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_input", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", nargs="*", default=(), help="words of which a group's or a target's name has one")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds that a case may take")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
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
    text = table(counts)
    print(text)
    print(failures_text(examples))
    print(f"{sum(row.total() for row in counts.values()):,} cases in {time.perf_counter() - start:.0f} s")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "bad_input.md").write_text(text, encoding="utf-8")
        (options.output / "bad_input.json").write_text(json.dumps(examples, indent=1), encoding="utf-8")
    return int(any(row[outcome] for row in counts.values() for outcome in BAD))


if __name__ == "__main__":
    sys.exit(main())
