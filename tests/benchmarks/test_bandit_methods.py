"""benchmarks/bandit_methods.py measures methods beside ours, and goes on where it stopped."""

import importlib
import json
from pathlib import Path
from statistics import mean

import pytest
import torch

pytest.importorskip("transformers")

from mopref import simplex_lattice
from mopref.baselines import Budget, MethodPolicy, MethodSetup

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FEW = [
    "--steps",
    "4",
    "--points",
    "3",
    "--seeds",
    "0",
    "1",
    "--methods",
    "ours",
    "rewarded-soup",
    "activation",
    "shuffled",
]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bandit_methods")


def tables(benchmark, capsys, *words: str) -> list[list[list[str]]]:
    """The cells of each printed table, without its head."""
    benchmark.main([*FEW, *words])
    found: list[list[list[str]]] = []
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("| method"):
            found.append([])
        elif line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.split("|")[1:-1]])
    return found


def test_means_and_gaps_are_those_of_the_records(benchmark, tmp_path, capsys):
    path = tmp_path / "cells.jsonl"
    rewards, labels = tables(benchmark, capsys, "--output", str(path))
    assert [line[0] for line in rewards] == ["ours", "Rewarded Soup", "ours, shuffled λ"], "activations need pairs"
    assert [line[0] for line in labels] == ["ours", "Rewarded Soup", "activation addition", "ours, shuffled λ"]
    assert [line[7:9] for line in labels] == [["1", "4"], ["2", "8"], ["0", "0"], ["1", "4"]], "runs and steps"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 2 * (3 + 4)

    def values(bed: str, method: str) -> list[float]:
        cells = [(json.loads(record["cell"]), record["result"]) for record in records]
        own = [result for cell, result in cells if (cell["bed"], cell["method"]) == (bed, method)]
        return [100 * result["regret_share"] for result in own]

    ours, soup = values("labels", "ours"), values("labels", "rewarded-soup")
    assert float(labels[0][4].split()[0]) == pytest.approx(mean(ours), abs=0.006)
    assert float(labels[1][5]) == pytest.approx(mean(soup) - mean(ours), abs=0.006)
    assert labels[1][6] == f"{sum(own > first for own, first in zip(soup, ours, strict=True))} of 2"
    # The same points at other preferences.
    assert rewards[2][2:4] == ["+0.0000", "0 of 2"], "rounding is no gap"
    assert labels[3][2:4] == ["+0.0000", "0 of 2"]
    assert float(rewards[2][5]) > 0


def test_what_is_recorded_is_not_run_again(benchmark, tmp_path, capsys, monkeypatch):
    path, few = tmp_path / "cells.jsonl", ("--beds", "rewards", "--seeds", "0")
    first = tables(benchmark, capsys, *few, "--output", str(path))
    whole = path.read_text()
    run: list[list[str]] = []
    measure = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", lambda *given: run.append(list(given[3])) or measure(*given))
    assert tables(benchmark, capsys, *few, "--output", str(path)) == first
    assert run == []
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if "rewarded-soup" not in line))
    assert tables(benchmark, capsys, *few, "--output", str(path)) == first
    assert run == [["rewarded-soup"]]
    tables(benchmark, capsys, *few, "--steps", "5", "--output", str(path))
    assert run[1:] == [["ours", "rewarded-soup", "shuffled"]], "another number of steps is another cell"


@pytest.mark.parametrize("bed", ["rewards", "labels"])
def test_a_method_is_measured_exactly(benchmark, bed):
    """The untrained model is the bandit's reference, whose losses are known without a forward."""
    options = benchmark.parsed(["--points", "3"])
    setup, bandit = benchmark.setup_of(bed, options, seed=0)
    assert isinstance(setup, MethodSetup)
    lattice = simplex_lattice(2, 3)
    untrained = MethodPolicy("ours", setup.make_model(setup.adapter), Budget())
    expected = bandit.losses_of(bandit.reference.log_softmax(-1).expand(3, -1, -1).double())
    torch.testing.assert_close(benchmark.exact_losses(bandit, untrained, lattice), expected, atol=1e-5, rtol=0)


def test_gaps_need_ours(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--methods", "mod"])
    assert "without ours" in capsys.readouterr().err
