"""benchmarks/rlhf_engine.py against a server that answers as vLLM does; slow, and where there is one against vLLM."""

import argparse
import importlib
import os
from pathlib import Path

import pytest
from _fake_vllm import fake_vllm


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("rlhf_engine")


def test_a_short_trial_ends_with_both_ratios(benchmark, capsys):
    base = benchmark.make_bandit(0, 2)[1].merge([0.5, 0.5])
    options = argparse.Namespace(seeds=1, steps=2, samples=4)
    with fake_vllm(base) as running:
        benchmark.trial(options, running.url)
        assert not running.loaded
    told = capsys.readouterr().out
    assert "seed 0, model: ratio" in told
    assert "engine/difference" in told.split("seed 0, vLLM")[1]
    assert float(told.split("π_vLLM| ")[1].split()[0]) < 1e-4


@pytest.mark.slow
def test_a_real_vllm_reaches_what_the_model_reaches(benchmark):
    """Where MOPREF_VLLM_PYTHON names the interpreter of vLLM's environment."""
    if "MOPREF_VLLM_PYTHON" not in os.environ:
        pytest.skip("MOPREF_VLLM_PYTHON names no environment with vLLM.")
    assert benchmark.main(["--python", os.environ["MOPREF_VLLM_PYTHON"], "--seeds", "1"]) == 0
