"""benchmarks/one_against_many.py gives one model and K models the same steps, once."""

import importlib
import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_all_runs_together_have_the_steps_and_nothing_is_run_twice(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = importlib.import_module("one_against_many")
    words = ["--steps", "6", "9", "--models", "3", "--learning-rates", "0.01", "--seeds", "0"]
    script.main([*words, "--output", str(tmp_path)])
    path = tmp_path / "one_against_many.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 4
    for record in records:
        cell, budget = json.loads(record["cell"]), record["result"]["budget"]
        assert budget["steps"] == cell["steps"]
        assert budget["runs"] == (1 if cell["method"] == "ours" else 3)
    assert "a LoRA for each λ, 3 λ" in capsys.readouterr().out
    content = path.read_text()
    script.main([*words, "--output", str(tmp_path)])
    assert path.read_text() == content
