"""benchmarks/trainer_overhead.py runs, and both of its trainings do the same work."""

import importlib
import json
from pathlib import Path

import pytest
import torch


@pytest.fixture
def overhead(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    threads = torch.get_num_threads()
    yield importlib.import_module("trainer_overhead")
    torch.set_num_threads(threads)


def test_writes_its_table_and_its_numbers(overhead, tmp_path, capsys):
    output = tmp_path / "new" / "overhead.json"
    overhead.main(["--steps", "9", "--turn", "3", "--repeats", "2", "--json", str(output)])
    written = json.loads(output.read_text())
    assert [row["scalarizer"] for row in written] == list(overhead.SCALARIZERS)
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + 2 * len(written)
    for row in written:
        assert row["pairs_of_turns"] == 4, "the first of each training warms up"
        for kind in overhead.KINDS:
            low, ratio, high = (row[f"{kind}_ratio{end}"] for end in ("_low", "", "_high"))
            assert 0 < low <= ratio <= high
            assert any(line.startswith(row["scalarizer"]) and f"ratio {ratio:.3f}" in line for line in table)


def test_trainings_that_are_not_the_same_are_refused(overhead, monkeypatch):
    make, _ = overhead.SCALARIZERS["linear"]
    monkeypatch.setitem(overhead.SCALARIZERS, "linear", (make, lambda preferences, losses: losses.sum(dim=-1)))
    with pytest.raises(RuntimeError, match=r"^net\.0\.weight is not the same after both trainings"):
        overhead.train("linear", 4, 2)


def test_ratios_are_of_neighbouring_turns(overhead):
    pairs = [{"seconds": (1.0, 2.0), "processor": (2.0, 2.0)}, {"seconds": (4.0, 4.0), "processor": (2.0, 3.0)}]
    row = overhead.figures([*pairs, {"seconds": (2.0, 6.0), "processor": (1.0, 2.0)}])
    assert (row["bare_seconds"], row["trainer_seconds"], row["seconds_ratio"]) == (2.0, 4.0, 2.0)
    assert (row["bare_processor"], row["trainer_processor"], row["processor_ratio"]) == (2.0, 2.0, 1.5)


@pytest.mark.parametrize(
    "options", [["--steps", "7", "--turn", "2"], ["--steps", "2", "--turn", "2"], ["--repeats", "0"]]
)
def test_turns_that_make_no_training_are_refused(overhead, capsys, options):
    with pytest.raises(SystemExit):
        overhead.main(options)
    assert "must be whole turns" in capsys.readouterr().err
