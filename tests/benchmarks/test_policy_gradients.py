"""benchmarks/policy_gradients.py runs, and its closed form is the best there is."""

import importlib
import json
from pathlib import Path

import pytest
import torch


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("policy_gradients")


def test_writes_its_table_and_its_numbers(benchmark, tmp_path, capsys):
    output = tmp_path / "new" / "results.json"
    few = [
        "--algorithms",
        "rloo",
        "--normalizations",
        "none",
        "group",
        "--steps",
        "2",
        "--samples",
        "2",
        "--seeds",
        "1",
    ]
    benchmark.main([*few, "--output", str(output)])
    written = json.loads(output.read_text())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, row in zip(lines[1:], written["results"], strict=True):
        assert f"{row['runs'][0]['ratio']:.4f}" in line


def test_the_closed_form_beats_its_neighbours(benchmark):
    bandit, _ = benchmark.make_bandit(0)
    preferences = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    best = bandit.optima(preferences, bandit.rewards, benchmark.BETA)
    loss = (preferences * bandit.values(best, bandit.rewards, benchmark.BETA)[0]).sum(-1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = (best + 0.2 * torch.randn(best.shape, generator=generator)).log_softmax(-1)
        worse = (preferences * bandit.values(other, bandit.rewards, benchmark.BETA)[0]).sum(-1)
        assert (worse > loss).all()
