"""benchmarks/dpo_step.py: both libraries hold the same policy, its ratios are those of neighbouring steps, it runs."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("dpo_step")


@pytest.fixture
def tiny(bench):
    return bench.Setting(
        vocabulary=96,
        layers=1,
        hidden=32,
        intermediate=48,
        heads=2,
        key_value_heads=2,
        pairs=4,
        prompt=(3, 6),
        response=(4, 12),
        rank=12,
        steps=2,
    )


def test_ratios_are_of_neighbouring_steps_without_the_first(bench):
    def steps(seconds, peak):
        return [{"seconds": value, "processor": 2 * value, "loss": 9.0, "peak": peak} for value in seconds]

    # The first turn warms up. Ratios of the medians would be 1.5 and 6.
    taken = {
        "trl": steps([50.0, 1.0, 2.0, 4.0], 100),
        "mopref-1": steps([1.0, 4.0, 2.0, 3.0], 50),
        "floor": steps([1.0, 0.5, 1.0, 0.25], 1),
    }
    # The kernel's mark is an estimate, which may fall.
    taken["trl"][1]["peak"] = 200
    rows = bench.figures(taken)
    assert rows["mopref-1"] == {
        "seconds": 3.0,
        "processor": 6.0,
        "seconds_ratio": 1.0,
        "processor_ratio": 1.0,
        "seconds_to_floor": 8.0,
        "processor_to_floor": 8.0,
        "peak_bytes": 50,
        "peak_ratio": 0.25,
    }
    assert (rows["trl"]["seconds_ratio"], rows["trl"]["seconds_to_floor"]) == (1.0, 2.0)
    for step in taken["floor"]:
        step["processor"] = 1.0
    rows = bench.figures(taken)
    assert (rows["mopref-1"]["seconds_to_floor"], rows["mopref-1"]["processor_to_floor"]) == (8.0, 6.0)


def test_losses_that_differ_or_say_nothing_are_refused(bench):
    # Several objectives have other labels, so their loss may be another.
    assert bench.check_losses({"trl": 0.75, "mopref-1": 0.750002, "mopref-2": 0.6, "floor": 3.0}) < 1e-5
    with pytest.raises(RuntimeError, match="must agree"):
        bench.check_losses({"trl": 0.75, "mopref-1": 0.75002})
    with pytest.raises(RuntimeError, match="log 2"):
        bench.check_losses({"trl": math.log(2), "mopref-1": math.log(2)})


@pytest.mark.parametrize("cached", [True, False])
def test_both_libraries_begin_with_one_policy(bench, tiny, cached, monkeypatch, tmp_path):
    """In this process, first step; the adapters count, and other adapters give another loss."""
    pytest.importorskip("trl")
    parts = importlib.import_module("step_parts")
    monkeypatch.setattr(parts.tempfile, "tempdir", str(tmp_path))
    # TRL's switch for a compact head, which one variant sets, is put back.
    monkeypatch.setattr(importlib.import_module("trl.trainer.utils"), "_use_triton", lambda device: False)
    setting = replace(tiny, cached=cached, steps=1)

    def first_loss(variant):
        losses = []
        parts.make_trainer(variant, setting, losses.append).train()
        assert losses[0] is None
        return losses[1]

    losses = {variant: first_loss(variant) for variant in ("trl", "trl-compact", "mopref-1")}
    assert bench.check_losses(losses) < 1e-5
    weights = parts.adapter_weights
    monkeypatch.setattr(parts, "adapter_weights", lambda name, *sizes: weights(f"another {name}", *sizes))
    assert abs(first_loss("mopref-1") - losses["mopref-1"]) > 1e-5


def test_all_variants_have_the_same_pairs_and_trained_numbers(bench, tiny):
    parts = importlib.import_module("step_parts")
    one, many = parts.make_rows(tiny, 1), parts.make_rows(tiny, 10)
    for row, other in zip(one, many, strict=True):
        assert {**row, "labels": other["labels"]} == other
        assert row["labels"][0] == other["labels"][0]
    ranks = {
        m: {len(layer.U.T) for layer in parts.mopref_trainer(tiny, m, print).unwrapped_model.adapters.values()}
        for m in (1, 2, 10)
    }
    assert ranks == {1: {12}, 2: {12}, 10: {12}}
    with pytest.raises(ValueError, match="rank is 12: 13 objectives"):
        parts.mopref_trainer(tiny, 13, print)
    with pytest.raises(ValueError, match="unknown variant 'mopref-0'"):
        parts.make_trainer("mopref-0", tiny, print)


def test_runs_in_processes_of_their_own(bench, tmp_path, capsys):
    pytest.importorskip("trl")
    output = tmp_path / "new" / "step.json"
    sizes = "--vocabulary 96 --layers 1 --hidden 32 --intermediate 48 --heads 2 --pairs 4 --rank 12"
    sizes += " --prompt 3 6 --response 4 12 --repeats 1 --modes cached --variants trl mopref-1"
    bench.main([*sizes.split(), "--json", str(output)])
    (result,) = json.loads(output.read_text())
    assert list(result["variants"]) == ["trl", "mopref-1", "floor"]
    assert result["first_loss_difference"] < 1e-5
    assert result["setting"]["cached"] is True
    assert result["floor_multiply_adds"] > 1e6
    table = capsys.readouterr().out.splitlines()
    for variant, row in result["variants"].items():
        steps = result["steps"][variant]
        assert len(steps) == 2
        assert row["seconds"] == steps[1]["seconds"] > 0
        assert row["processor"] == steps[1]["processor"] > 0
        assert row["peak_bytes"] == max(step["peak"] for step in steps)
        (line,) = [line for line in table if line.startswith(f"{variant} ")]
        assert f"{row['seconds_ratio']:.3f}" in line


def test_a_training_that_fails_is_told(bench, tiny):
    workers = importlib.import_module("step_workers")
    with pytest.raises(RuntimeError, match=r"mopref-13 ended with 1:[\s\S]*rank is 12"):
        workers.take_turns([workers.Worker("mopref-13", tiny)], 1)


def test_a_rank_without_room_is_refused_before_the_work(bench, capsys):
    with pytest.raises(SystemExit):
        bench.main(["--rank", "9"])
    assert "mopref-10 needs a rank of at least 10" in capsys.readouterr().err
