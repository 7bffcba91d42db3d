"""Runs a trial of benchmarks/ in a process of its own: it forks, which no process with threads should."""

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run_trial(code: str) -> subprocess.CompletedProcess[str]:
    """What a program prints whose modules lie in benchmarks/, and its exit status."""
    paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"import sys\n{code}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
