"""benchmarks/bandit_study.py runs, resumes, and measures what it says."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bandit_study.py"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("bandit_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bandit_study", module)
    spec.loader.exec_module(module)
    return module


def words(path, *others):
    return ["--output", str(path), "--seeds", "100", "--set", "steps=2", *others]


def test_a_cell_is_run_once(study, tmp_path, capsys):
    path = tmp_path / "cells.jsonl"
    study.main(words(path, "learning_rate=1e-2"))
    first, table = path.read_text(), capsys.readouterr().out
    assert "steps=2" in table
    assert "learning_rate=0.01" in table
    study.main(words(path, "learning_rate=1e-2"))
    assert path.read_text() == first, "it was there"
    assert capsys.readouterr().out == table
    study.main(words(path, "learning_rate=1e-3"))
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("bed", ["rewards", "labels"])
@pytest.mark.parametrize("scalarizer", ["linear", "tchebycheff"])
def test_every_bed_is_measured_and_nothing_beats_the_exact_front(bed, scalarizer, study, tmp_path):
    path = tmp_path / "cells.jsonl"
    study.main(words(path, "--beds", bed, "--scalarizers", scalarizer, "--training-preferences", "11"))
    record = json.loads(path.read_text())
    result = record["result"]
    assert record["cell"]["training_preferences"] == 11
    assert 0 < result["regret_share"] <= result["worst_share"]
    assert result["held_out_share"] > 0
    assert 0 < result["hypervolume_ratio"] < 1
    assert result["regret"] == pytest.approx(result["regret_share"] * result["spread"])


def test_a_setting_that_is_none_is_refused(study, tmp_path):
    with pytest.raises(SystemExit, match="no setting is called 'no_such'"):
        study.main(["--output", str(tmp_path / "cells.jsonl"), "--set", "no_such=1"])
