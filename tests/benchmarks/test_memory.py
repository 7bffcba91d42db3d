"""benchmarks/memory.py runs, its line is the line, and a short training of each kind keeps its memory."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("memory")


def test_the_slope_is_that_of_a_line_and_the_error_that_of_noise(memory):
    steps = np.arange(4_000.0)
    slope, error = memory.fitted_slope(100_000 + 0.25 * steps)
    assert slope == pytest.approx(250)
    assert error == pytest.approx(0, abs=1e-6)
    noise = np.random.default_rng(0).normal(scale=100, size=4_000)
    slope, error = memory.fitted_slope(100_000 + noise)
    assert abs(slope) < 4 * error
    assert 0 < error < 10


@pytest.mark.parametrize("kind", ["toy", "dpo", "rlhf"])
def test_a_short_training_leaves_little_behind(memory, kind, capsys):
    """A tensor of a step that stays, such as a loss with its graph, would be thousands of KB."""
    steps = 60 if kind == "rlhf" else 150
    memory.main(["--here", "--kinds", kind, "--steps", str(steps), "--log-every", "10"])
    (result,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["history_entries"] == steps // 10
    assert result["last_kb"] - result["first_kb"] < 10 * steps
