"""benchmarks/bandit_cone.py runs, and a model learns what it is measured by: on exact gradients, and on samples."""

import importlib
from pathlib import Path

import pytest

pytest.importorskip("transformers")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("bandit_cone")


def shares(benchmark, capsys, *words: str) -> dict[str, list[float]]:
    """The numbers of the table, by the names of its lines."""
    benchmark.main(["--seeds", "0", *words])
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.split("|")[2:-1]] == ["s = 0.25", "s = 0.5", "s = 1", "s = 2", "s = 4"]
    assert rule == "|---" * 6 + "|"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {name: [float(cell) for cell in numbers] for name, *numbers in cells}


def test_one_model_and_one_for_each_strength_are_measured(benchmark, capsys):
    """Nothing is better than the exact optimum, and more steps leave less."""
    few, more = (shares(benchmark, capsys, "--steps", steps) for steps in ("2", "40"))
    for table in (few, more):
        assert list(table) == ["one model of all s", "one model for each s"]
        assert all(share > 0 for line in table.values() for share in line)
    assert all(after < before for name in few for after, before in zip(more[name], few[name], strict=True))
    assert max(more["one model for each s"]) < 15
    assert max(more["one model of all s"][1:]) < 25


def test_other_seeds_gates_and_samples(benchmark, capsys):
    seeds = [shares(benchmark, capsys, "--steps", "2", "--seeds", seed) for seed in ("0", "1")]
    together = shares(benchmark, capsys, "--steps", "2", "--seeds", "0", "1")
    for name, line in together.items():
        expected = [(first + second) / 2 for first, second in zip(seeds[0][name], seeds[1][name], strict=True)]
        assert line == pytest.approx(expected, abs=0.011), "the mean over seeds"
    curved = shares(benchmark, capsys, "--steps", "2", "--gate", "layer-mlp")
    assert curved != seeds[0]


def test_on_samples(benchmark, capsys):
    table = shares(benchmark, capsys, "--steps", "15", "--samples", "4", "--rate", "1e-2")
    assert all(share > 0 for line in table.values() for share in line)
    # Where the pull is weakest there is most to be gained, also by so few and noisy steps.
    assert max(table[name][-1] for name in table) < 90
