"""Run the tests on the oldest and on the newest versions that pyproject.toml allows, each in an environment of its own.

    python benchmarks/compatibility.py --quick

The oldest environment has the lower bounds of torch, transformers, accelerate and pymoo, and what fits them of the
rest; the newest one has what the package index offers today. Peers that only tests compare with are left out of both,
and the tests that need them are skipped.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import NamedTuple

__all__ = ["PINNED", "Result", "lower_bounds", "main", "result_of"]

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


def tested(python: Path, tests: list[str]) -> Result:
    """Run tests with that interpreter."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-n", "auto", *tests]
    finished = subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, check=False)
    return result_of(finished.stdout + finished.stderr)


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
    failed = 0
    with tempfile.TemporaryDirectory(prefix="compatibility-") as place:
        rows = [f"{'edge':<8} {' '.join(PINNED):<40} {'passed':>7} {'failed':>7} {'skipped':>8} {'minutes':>8}"]
        for edge in options.edges:
            python = environment((options.folder or Path(place)) / edge, pins if edge == "oldest" else {})
            start = time.perf_counter()
            result = tested(python, tests)
            minutes = (time.perf_counter() - start) / 60
            rows.append(
                f"{edge:<8} {versions_of(python):<40} {result.passed:>7} {result.failed:>7} {result.skipped:>8} "
                f"{minutes:>8.1f}"
            )
            failed += result.failed
            print(*(f"{edge}: {name} failed" for name in result.names), sep="\n", flush=True)
    print("\n".join(rows))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
