"""benchmarks/studies.py reads its recipes, runs a cell once, and draws what it found."""

import importlib
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECIPES = sorted((BENCHMARKS / "studies").glob("*.yaml"))


@pytest.fixture
def studies(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("studies")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_makes_cells_that_differ_and_its_first_cell_gives_its_figures(path, studies):
    study = studies.load(path)
    made = study.made([100])
    keys = [studies.key_of(studies.asdict(cell)) for _, cell in made]
    assert len(set(keys)) == len(keys) > 1
    few = studies.replace(made[-1][1], setting=studies.replace(made[-1][1].setting, steps=2))
    result = studies.measure(few)
    for name in study.picture.panels:
        assert name in result or name == "outside_share", name


def write(path, **changes):
    tree = {
        "question": "What does a rate do?",
        "cells": {"setting": "defaults", "steps": 2, "learning_rate": [0.001, 0.01]},
        "seeds": [100, 101],
        "picture": {"across": "learning_rate", "scale": "log", "panels": ["regret_share", "order"]},
    }
    path.write_text(json.dumps({**tree, **changes}))
    return path


def test_a_study_is_run_once_and_again_gives_the_same(studies, tmp_path, capsys):
    recipe = write(tmp_path / "rate.yaml")
    for folder in ("first", "second"):
        studies.main([str(recipe), "--output", str(tmp_path / folder)])
    first, second = ((tmp_path / folder / "rate.md").read_text() for folder in ("first", "second"))
    assert first == second
    assert len(first.splitlines()) == 4
    cells = (tmp_path / "first" / "rate.jsonl").read_text()
    studies.main([str(recipe), "--output", str(tmp_path / "first")])
    assert (tmp_path / "first" / "rate.jsonl").read_text() == cells, "all were there"
    assert (tmp_path / "first" / "rate.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cells": {"no_such": [1, 2]}}, "'no_such' is none of"),
        ({"picture": {"across": "learning_rate", "panels": ["no_figure"]}}, "'no_figure' is none of"),
        ({"picture": {"across": "rank", "panels": ["order"]}}, "no two values"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, told, studies, tmp_path):
    with pytest.raises(SystemExit, match=told):
        studies.load(write(tmp_path / "rate.yaml", **changes))


def test_correlated_rewards_have_the_correlation_that_was_asked_for_over_many_bandits(studies):
    study = studies.load(next(path for path in RECIPES if path.stem == "conflict"))
    bandit_study = importlib.import_module("bandit_study")
    seeds = list(range(100, 116))
    found = {}
    for shown, cell in study.made(seeds):
        rewards = bandit_study.bandit_of(cell)[1].rewards
        found.setdefault(shown["correlation"], []).append(float(torch.corrcoef(rewards.reshape(-1, 2).T)[0, 1]))
    for asked, own in found.items():
        # 288 rewards a bandit, 16 bandits: a standard error of .015 at most.
        assert sum(own) / len(own) == pytest.approx(asked, abs=0.06)
