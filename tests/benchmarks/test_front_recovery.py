"""benchmarks/front_recovery.py runs, and what it claims holds in every seed."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mopref.objectives import ZDT1, Quadratic
from mopref.scalarizers import Linear


@pytest.fixture
def front_recovery(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("front_recovery")


@pytest.fixture
def peers(front_recovery):
    return front_recovery.peers


def test_writes_its_table_and_its_numbers(front_recovery, tmp_path, capsys, monkeypatch):
    # The steps on the command line are the benchmark's for good.
    monkeypatch.setattr(front_recovery, "SETTINGS", dict(front_recovery.SETTINGS))
    arguments = ["--problems", "zdt2", "--seeds", "2", "--steps", "20", "--peers", "nsga2", "single"]
    front_recovery.main([*arguments, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    table = (tmp_path / "front_recovery.md").read_text()
    assert table in printed
    assert table.count("\n") == 3
    (case,) = json.loads((tmp_path / "front_recovery.json").read_text())["cases"]
    assert [run["seed"] for run in case["runs"]] == [0, 1]
    assert case["oracle"] < case["limit"]
    for run in case["runs"]:
        assert run["evaluations"] == 20 * front_recovery.PREFERENCES_PER_STEP
        assert run["regret_max"] >= run["regret_mean"] >= 0
        # Equal evaluations, up to a whole generation.
        assert all(0 <= run["evaluations"] - peer["evaluations"] < 105 for peer in run["peers"].values())


def test_every_setting_makes_its_problem(front_recovery):
    for name in front_recovery.SETTINGS:
        problem = front_recovery.make_problem(name)
        assert problem.ideal_point is not None
        assert problem.nadir_point is not None


def test_every_sampler_that_is_offered_can_be_made(front_recovery):
    assert set(front_recovery.SAMPLER_NAMES) == set(front_recovery.SAMPLERS) - {"lattice"}
    for name in front_recovery.SAMPLER_NAMES:
        assert front_recovery.SAMPLERS.make(name, num_objectives=2, seed=0).sample(3).shape == (3, 2)


def test_every_scalarizer_that_is_offered_can_be_made(front_recovery):
    losses, preferences = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]])
    assert set(front_recovery.SCALARIZER_NAMES) == set(front_recovery.SCALARIZERS) - {"normalized"}
    for name in front_recovery.SCALARIZER_NAMES:
        scalarizer = front_recovery.scalarizer_for_problem(name, front_recovery.make_problem("zdt1"))
        assert scalarizer(losses, preferences).isfinite().all(), name


def test_single_runs_find_each_preferences_own_optimum(peers):
    problem = Quadratic([[0.0, 0.0], [1.0, 0.5]])
    preferences = torch.tensor([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    run = peers.single_preference_runs(problem, Linear(), preferences, evaluations=1500, seed=0)
    expected = problem.evaluate(problem.optimum(preferences.double() / preferences.double().sum(1, keepdim=True)))
    np.testing.assert_allclose(run.values, expected, atol=1e-3)
    assert run.evaluations == 1500


@pytest.mark.parametrize("method", ["nsga2", "nsga3", "moead"])
def test_evolutionary_peers_approach_the_front(peers, method):
    run = peers.evolutionary_search(method, ZDT1(3), num_points=20, evaluations=3000, seed=1)
    assert run.values.shape == (20, 2)
    assert run.evaluations == 3000
    # Not all: MOEA/D keeps a weakly dominated point at a corner.
    assert np.quantile(run.values[:, 1] + np.sqrt(run.values[:, 0]), 0.9) < 1.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["zdt1", "zdt2", "zdt3", "scaled-zdt1", "vlmop1", "vlmop2", "dtlz1", "dtlz2"])
def test_every_seed_recovers_the_front_to_a_thousandth(front_recovery, name, seed):
    run = front_recovery.recover(front_recovery.Case(name, "modified-tchebycheff"), seed)
    assert run["ratio"] >= 0.999
    assert not run["collapsed"]
