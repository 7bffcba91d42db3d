"""benchmarks/quantised_bases.py: what is counted is what is stored, PEFT and mopref hold the same model, it runs."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("bitsandbytes")
pytest.importorskip("peft")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("quantised_bases")


@pytest.fixture
def tiny(bench):
    sizes = {"hidden": 64, "intermediate": 128, "heads": 2, "key_value_heads": 2}
    return bench.Setting(vocabulary=96, layers=1, pairs=2, prompt=(3, 6), response=(4, 12), rank=4, steps=2, **sizes)


def test_what_is_counted_is_what_is_stored(bench, tiny):
    blocks = 4 * 64 * 64 + 3 * 64 * 128
    others = 96 * 64 + 3 * 64
    assert bench.stored_bytes(bench.make_base(tiny)) == 4 * (blocks + others)
    found = bench.stored_bytes(bench.make_base(replace(tiny, quantization="4bit")))
    # A scale for each 64 numbers, and of each of 7 layers a table and its settings.
    assert 0 < found - (4 * others + blocks // 2 + 4 * blocks // 64) < 7 * 300


@pytest.mark.parametrize("base", ["float32", "8bit", "4bit"])
def test_both_libraries_have_the_same_loss_and_another_adapter_another_one(bench, tiny, base, monkeypatch):
    setting = replace(tiny, **bench.BASES[base])
    rows = bench.measure_layers(setting)
    assert abs(rows["mopref"]["loss"] - rows["peft"]["loss"]) < bench._TOLERANCE[setting.dtype]
    assert abs(rows["mopref"]["loss"] - rows["base"]["loss"]) > 1e-5
    made = bench.SVDLoRAConfig
    monkeypatch.setattr(bench, "SVDLoRAConfig", lambda names, **settings: made(names, scaling=300.0, **settings))
    with pytest.raises(RuntimeError, match="must agree"):
        bench.measure_layers(setting)


def test_runs_in_processes_of_their_own(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure_layers", lambda setting: dict.fromkeys(("base", "peft", "mopref"), ROW))
    output = tmp_path / "new" / "bases.json"
    sizes = "--vocabulary 96 --layers 1 --hidden 64 --intermediate 128 --heads 2 --pairs 2 --rank 4 --repeats 1"
    bench.main([*sizes.split(), "--bases", "float32", "4bit", "--json", str(output)])
    result = json.loads(output.read_text())
    assert list(result["steps"]) == list(result["layers"]) == ["float32", "4bit"]
    first, other = result["steps"].values()
    assert (first["processor_ratio"], first["loss_difference"]) == (1.0, 0.0)
    assert other["weights_bytes"] < first["weights_bytes"]
    assert 0 < abs(other["loss_difference"]) < 0.1
    assert min(row["peak_bytes"] for row in (first, other)) > 0
    table = capsys.readouterr().out
    assert f"{first['processor']:.2f}" in table


ROW = {"processor": 1.0, "ratio": 1.0, "loss": 2.0}
