"""benchmarks/large_data.py goes the whole way, finds again what it kept, and times batches."""

import importlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def large_data(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("large_data")


def test_the_whole_way_of_a_few_records(large_data, tmp_path, capfd):
    output = tmp_path / "figures.json"
    large_data.main(["--rows", "1200", "--words", "6", "--batches", "30", "--output", str(output)])
    result = json.loads(output.read_text())
    lines = {line["stage"]: line for line in result["stages"]}
    assert list(lines) == [
        "start", "records", "tokenise", "tokenise again", "reference", "reference again", "trainer", "20 steps",
    ]  # fmt: skip
    peaks = [line["peak_mb"] for line in lines.values()]
    assert peaks == sorted(peaks)
    assert peaks[-1] < 2048
    # Nothing is tokenised or computed twice.
    assert lines["tokenise again"]["seconds"] < lines["tokenise"]["seconds"]
    assert lines["reference again"]["seconds"] < lines["reference"]["seconds"]
    assert 0 < result["draw_ms"] < result["batch_ms"] < 20
    assert "1,200 records" in capfd.readouterr().out


def test_records_are_labelled_on_the_second_objective_by_a_share(large_data, tmp_path):
    records = large_data.write_records(500, 3, 0.1, str(tmp_path))
    labelled = sum(label >= 0 for label in records["b"])
    assert 20 < labelled < 90
    assert all(label >= 0 for label in records["a"])
