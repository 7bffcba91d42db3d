"""benchmarks/personal.py runs, and its people are what it says."""

import argparse
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("personal")


def test_writes_its_table_and_its_numbers(benchmark, tmp_path, capsys):
    output = tmp_path / "new" / "results.json"
    few = ["--objectives", "2", "--agreements", "0.8", "--people", "3", "--pairs", "20", "--most", "18"]
    benchmark.main([*few, "--output", str(output)])
    (result,) = json.loads(output.read_text())["results"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines[1:], ("random", "active"), strict=True):
        assert f"{result[name]['errors'][16]:.3f}" in line
    assert len(result["random"]["errors"]) == 19
    # Before any question both know the same.
    assert result["random"]["errors"][0] == result["active"]["errors"][0]


def test_people_agree_with_themselves_as_often_as_is_said(benchmark):
    for agreement in (0.7, 0.95):
        person = benchmark.make_person(np.random.default_rng(0), 3, agreement, 4000, -0.3)
        assert np.maximum(person.chances, 1 - person.chances).mean() == pytest.approx(agreement, abs=1e-6)
        better = np.where(person.chances > 0.5, 0, 1)
        assert (person.choices == better).mean() == pytest.approx(agreement, abs=0.03)
        correlations = np.corrcoef(person.margins.values.numpy().T)
        assert correlations[0, 1] == pytest.approx(-0.3, abs=0.05)


def test_the_best_log_likelihood_is_that_of_a_fine_grid(benchmark):
    margins = torch.tensor([0.5, 1.0, -0.3, 2.0, -0.1]).double()
    betas = np.linspace(0, 20, 20001)
    exact = np.log(1 / (1 + np.exp(-betas[:, None] * margins.numpy()))).mean(axis=1).max()
    assert benchmark.best_log_likelihood(margins) == pytest.approx(exact, abs=1e-3)
    assert benchmark.best_log_likelihood(-margins.abs()) == pytest.approx(-np.log(2))


def test_a_language_model_predicts_other_choices(benchmark, make_llama, randomise, make_pairs, capsys):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(("a", "b"), rank=1, preference_rank=1)), std=0.08)
    rows = make_pairs([[0, 1], [1, 0], [0, 0]] * 10)
    options = argparse.Namespace(people=2, agreements=[0.8], seed=0)
    result = benchmark.with_model(model, rows[:20], rows[20:], options)
    assert result["pairs"] == [20, 10]
    assert len(result["people"]) == 2
    for person in result["people"]:
        assert sum(person["fitted"]) == pytest.approx(1)
        assert all(-5 < score < 0 for score in person["at"])
    assert "20 pairs to ask about, 10 others" in capsys.readouterr().out


def test_people_whose_labels_the_model_knows_are_predicted_better(benchmark):
    """Margins that are the labels themselves, and a person for whom one objective counts."""
    generator = torch.Generator().manual_seed(0)
    benefits = 1.0 - 2.0 * torch.randint(0, 2, (120, 2), generator=generator).double()
    margins = benchmark.PairMargins(benefits, ("a", "b"))
    options = argparse.Namespace(people=8, agreements=[0.9], seed=1)
    people = benchmark.predicted(margins, benefits, 60, options)
    assert np.mean([person["at"][0] - person["at"][1] for person in people]) > 0.01
    assert np.mean([abs(p["truth"][0] - p["fitted"][0]) for p in people]) < 0.25
