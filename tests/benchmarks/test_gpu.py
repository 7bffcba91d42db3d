"""benchmarks/gpu.py runs on a CPU with a tiny model, and ends with 2 where there is no GPU."""

import importlib
import json
from pathlib import Path

import pytest
import torch


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("gpu")


def test_measures_every_variant(gpu, tmp_path, capsys):
    output = tmp_path / "new" / "gpu.json"
    options = ["--tiny", "--device", "cpu", "--repeats", "1", "--prompts", "3", "--json", str(output)]
    gpu.main(options)
    printed = capsys.readouterr().out
    numbers = json.loads(output.read_text())
    assert json.loads(next(line for line in printed.splitlines() if line.startswith("{"))) == numbers
    measured = {row["variant"]["name"]: row for row in numbers["steps"]}
    assert not [row["error"] for row in measured.values() if "error" in row]
    assert set(measured) >= {variant.name for variant in gpu.VARIANTS if variant.objectives}
    for name, row in measured.items():
        assert row["seconds"] > 0
        assert any(line.startswith(name) for line in printed.splitlines())
    # Same pairs, same adapters: the ways to train one policy give one loss.
    plain, recomputed = (measured[f"mopref, m = 2, autocast{end}"]["first_loss"] for end in ("", ", checkpointing"))
    assert plain == pytest.approx(recomputed, abs=1e-6)
    assert measured["mopref, m = 2"]["first_loss"] == pytest.approx(
        measured["mopref, m = 2, reference not cached"]["first_loss"], abs=1e-6
    )
    assert numbers["decoding"]["conditioned"] > 0


def test_without_trl_its_line_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    monkeypatch.setattr(gpu, "VARIANTS", gpu.VARIANTS[:1])
    gpu.main(["--tiny", "--device", "cpu", "--repeats", "1", "--prompts", "2"])
    printed = capsys.readouterr().out
    assert "left out: pip install trl peft" in printed
    assert json.loads(printed.splitlines()[-1])["steps"] == []


def test_a_variant_that_fails_says_why_and_stops_no_other(gpu, capsys):
    failing = gpu.Variant("no such thing", 2, objective={"loss": "no such loss"})
    row = gpu.step_figures(failing, gpu._TINY)
    assert "no such loss" in row["error"]
    gpu.print_row(row, {})
    assert "no such loss" in capsys.readouterr().out


def test_seconds_are_the_median_after_the_first_step(gpu, monkeypatch):
    times = iter([0.0, 10.0, 11.0, 13.0, 23.0])
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: next(times))
    clock = gpu.Clock("cpu")
    for loss in (None, 0.7, 0.6, 0.5, 0.4):
        clock(loss)
    figures = clock.figures()
    assert (figures["seconds"], figures["first_loss"]) == (2.0, 0.7)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(gpu, capsys):
    with pytest.raises(SystemExit) as ended:
        gpu.main([])
    assert ended.value.code == 2
    assert "torch sees no GPU" in capsys.readouterr().err
