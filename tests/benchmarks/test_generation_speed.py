"""benchmarks/generation_speed.py runs, and both sides of its comparison do the same work."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("generation_speed")


@pytest.fixture
def keep_threads():
    threads = torch.get_num_threads()
    yield threads
    torch.set_num_threads(threads)


def test_writes_its_table_and_its_numbers(speed, keep_threads, tmp_path, capsys):
    output = tmp_path / "new" / "speed.json"
    sizes = ["--blocks", "1", "--batch-sizes", "1", "2", "--prompt-tokens", "3", "--new-tokens", "2"]
    speed.main([*sizes, "--repeats", "1", "--threads", str(keep_threads), "--output", str(output)])
    table = capsys.readouterr().out.splitlines()
    written = json.loads(output.read_text())
    assert written["settings"]["blocks"] == 1
    cases = [(row["mode"], row["batch_size"]) for row in written["results"]]
    assert cases == [("greedy", 1), ("greedy", 2), ("sampling", 1), ("sampling", 2)]
    assert len(table) == 2 + len(cases)
    for row, line in zip(written["results"], table[2:], strict=True):
        # One repeat: each median is the run itself.
        assert row["ratio"] == pytest.approx(row["conditioned"] / row["merged"])
        assert row["ratio_min"] == row["ratio"] == row["ratio_max"]
        assert f"{row['ratio']:.3f}" in line


def test_medians_are_of_neighbouring_runs_without_the_first(speed, monkeypatch):
    """Five pairs, the first of which warms up; what the runs give, by the clock and in processor time, is known."""
    speeds = iter([(1, 1), (9, 1), (5, 10), (5, 4), (2, 4), (1, 2), (6, 8), (4, 8), (8, 8), (1, 1)])
    asked = []

    def run(model, prompts, new_tokens, **options):
        asked.append(model)
        # Every row has a preference of its own, and only the conditioned model is given any.
        assert ("preferences" in options) == (model == "conditioned")
        if model == "conditioned":
            assert len(options["preferences"].unique(dim=0)) == len(prompts)
        return next(speeds)

    monkeypatch.setattr(speed, "run", run)
    result = speed.compare("conditioned", "merged", torch.ones(7, 2, dtype=torch.long), 4, 4, do_sample=False)
    assert asked == ["conditioned", "merged"] * 5
    # The ratio of the medians would be 2.2.
    assert result == {
        "conditioned": 5.5,
        "merged": 2.5,
        "ratio": 1.75,
        "ratio_min": 1.0,
        "ratio_max": 8.0,
        "processor_ratio": 2.25,
    }


def test_peft_runs_the_same_loras_in_one_batch(speed, keep_threads, tmp_path, capsys):
    """The script stops where a row has other tokens."""
    pytest.importorskip("peft")
    output = tmp_path / "speed.json"
    sizes = ["--model", "small", "--blocks", "1", "--batch-sizes", "3", "--prompt-tokens", "3", "--new-tokens", "4"]
    rest = ["--modes", "greedy", "--repeats", "1", "--threads", str(keep_threads), "--output", str(output), "--peft"]
    speed.main([*sizes, *rest])
    (row,) = json.loads(output.read_text())["results"]
    assert row["peft_ratio"] == pytest.approx(row["conditioned"] / row["peft"])
    assert f"{row['peft']:.1f}" in capsys.readouterr().out


def test_other_tokens_stop_the_comparison_with_peft(speed):
    model = speed.make_model("small", 1, "cpu")
    preferences = torch.eye(3)
    peft_model = speed.mixed_batch_model(model, preferences.flip(0))
    runs = {
        "conditioned": (model, {"preferences": preferences}),
        "peft": (peft_model, {"adapter_names": ["0", "1", "2"]}),
    }
    prompts = torch.full((3, 4), 7)
    for layer in model.adapters.values():
        torch.nn.init.normal_(layer.U, std=2.0)
    with pytest.raises(RuntimeError, match="of 3 rows have other tokens"):
        speed._check_same_tokens(runs, prompts, 8)


def test_speed_counts_new_tokens_and_refuses_an_early_end(speed, make_llama, monkeypatch):
    base = make_llama(eos_token_id=None)
    model = PreferenceModel(base, SVDLoRAConfig(speed.OBJECTIVES))
    times = iter([10.0, 12.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(times, 0.0))
    processor = iter([1.0, 5.0])
    monkeypatch.setattr(speed.time, "process_time", lambda: next(processor, 0.0))
    prompts = torch.full((3, 4), 7)
    assert speed.run(model, prompts, 8, preferences=[1, 0, 0], do_sample=False) == (3 * 8 / 2.0, 3 * 8 / 4.0)

    base.generation_config.eos_token_id = int(model(prompts, preferences=[1, 0, 0]).logits[0, -1].argmax())
    base.generation_config.pad_token_id = 0
    with pytest.raises(RuntimeError, match="ended early, after 1 of 8"):
        speed.run(model, prompts, 8, preferences=[1, 0, 0], do_sample=False)
