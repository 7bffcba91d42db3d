"""Run the tests on the oldest and on the newest versions that pyproject.toml allows, each in an environment of its own.

    python benchmarks/compatibility.py --quick

The oldest environment has the lower bounds of torch, transformers, accelerate and pymoo, and what fits them of the
rest; the newest one has what the package index offers today. Peers that only tests compare with are left out of both,
and the tests that need them are skipped. Of two edges each also reads what the other has saved: adapters,
conditionings, checkpoints to go on from, and fronts. An environment takes up to 7 GB.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

__all__ = ["PINNED", "Result", "exchanged", "lower_bounds", "main", "result_of"]

REPOSITORY = Path(__file__).resolve().parents[1]
PINNED = ("torch", "transformers", "accelerate", "pymoo")
TOOLS = ("pytest", "hypothesis", "pytest-xdist")
# What touches the four most: saved files, training and resuming, language models, indicators.
QUICK = (
    "tests/golden",
    "tests/conditioning",
    "tests/front",
    "tests/indicators",
    "tests/llm/policy",
    "tests/objectives/test_dpo.py",
    "tests/objectives/test_rlhf.py",
    "tests/scalarizers",
    "tests/training",
)


class Result(NamedTuple):
    """What came of the tests in one environment."""

    passed: int
    failed: int
    skipped: int
    names: list[str]


def lower_bounds(text: str) -> dict[str, str]:
    """The lower bound of each dependency of :data:`PINNED`, from the text of a pyproject.toml.

    Raises:
        ValueError: one without a lower bound.
    """
    project = tomllib.loads(text)["project"]
    bounds = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["llm"]]:
        name, _, bound = requirement.partition(">=")
        bounds[name.partition("[")[0].strip()] = bound.partition(",")[0].strip()
    missing = [name for name in PINNED if not bounds.get(name)]
    if missing:
        raise ValueError(
            f"pyproject.toml has no lower bound (>=) of {', '.join(missing)}: nothing says what is the oldest."
        )
    return {name: bounds[name] for name in PINNED}


def result_of(output: str) -> Result:
    """What pytest's output says.

    Raises:
        ValueError: no line that counts tests.
    """
    line = next((line for line in reversed(output.splitlines()) if re.search(r"\d+ (passed|failed|error)", line)), None)
    if line is None:
        raise ValueError(f"no tests were counted:\n{output[-2000:]}")
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", line)}
    names = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    failed = counts.get("failed", 0) + counts.get("error", 0)
    return Result(counts.get("passed", 0), failed, counts.get("skipped", 0), names)


def environment(folder: Path, pins: dict[str, str]) -> Path:
    """The interpreter of an environment with the package, its language models and the tools."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    versions = [f"{name}=={bound}" for name, bound in pins.items()]
    command = [str(python), "-m", "pip", "install", "--quiet", *([] if pins else ["--upgrade"])]
    subprocess.run([*command, "--editable", f"{REPOSITORY}[llm]", *versions, *TOOLS], check=True)
    return python


def tested(python: Path, tests: list[str], **variables: str) -> Result:
    """Run tests with that interpreter."""
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-n", "auto", *tests]
    finished = subprocess.run(
        command, cwd=REPOSITORY, env=surroundings(**variables), capture_output=True, text=True, check=False
    )
    return result_of(finished.stdout + finished.stderr)


def surroundings(**variables: str) -> dict[str, str]:
    """The environment variables of what is run in an environment."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **variables}


def exchanged(writer: Path, reader: Path, folder: Path) -> Result:
    """What the tests of golden files say in one environment of those that the other writes into a folder."""
    folder.mkdir(parents=True)
    command = [str(writer), "tests/golden/make.py", str(folder / "written")]
    subprocess.run(command, cwd=REPOSITORY, env=surroundings(), stdout=subprocess.DEVNULL, check=True)
    return tested(reader, ["tests/golden"], GOLDEN_FILES=str(folder))


def versions_of(python: Path) -> str:
    """The versions of :data:`PINNED` in an environment."""
    code = f"from importlib.metadata import version; print(*[version(name) for name in {PINNED!r}])"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """Print a table; 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", nargs="+", choices=["oldest", "newest"], default=["oldest", "newest"])
    parser.add_argument("--quick", action="store_true", help="a part of the tests, in minutes")
    parser.add_argument("--tests", nargs="+", help="these tests alone")
    parser.add_argument("--folder", type=Path, help="keep the environments here (default: a temporary folder)")
    options = parser.parse_args(arguments)
    pins = lower_bounds((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    tests = options.tests or (list(QUICK) if options.quick else [])
    head = f"{'edge':<20} {' '.join(PINNED):<40} {'passed':>7} {'failed':>7} {'skipped':>8} {'minutes':>8}"
    rows, results = [head], []

    def note(what: str, versions: str, run: Callable[[], Result]) -> None:
        start = time.perf_counter()
        result = run()
        minutes = (time.perf_counter() - start) / 60
        counts = f"{result.passed:>7} {result.failed:>7} {result.skipped:>8} {minutes:>8.1f}"
        rows.append(f"{what:<20} {versions:<40} {counts}")
        results.append(result)
        print(*(f"{what}: {name} failed" for name in result.names), sep="\n", end="\n" * bool(result.names), flush=True)

    with tempfile.TemporaryDirectory(prefix="compatibility-") as place:
        pythons = {}
        for edge in dict.fromkeys(options.edges):
            pythons[edge] = environment((options.folder or Path(place)) / edge, pins if edge == "oldest" else {})
            note(edge, versions_of(pythons[edge]), partial(tested, pythons[edge], tests))
        for writer, reader in itertools.permutations(pythons, 2):
            exchange = partial(exchanged, pythons[writer], pythons[reader], Path(place) / f"written_by_{writer}")
            note(f"{reader} reads {writer}", "", exchange)
    print("\n".join(rows))
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
