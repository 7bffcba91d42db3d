"""benchmarks/conditioning.py: its yardstick is exact, and it runs."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch

from mopref import simplex_lattice


@pytest.fixture(scope="module")
def benchmark():
    script = Path(__file__).parents[2] / "benchmarks" / "conditioning.py"
    specification = importlib.util.spec_from_file_location("conditioning_benchmark", script)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("problem", "front"),
    [
        ("ZDT1", lambda f: f[:, 1] + f[:, 0].sqrt() - 1),
        ("ZDT2", lambda f: f[:, 1] + f[:, 0].square() - 1),
        ("DTLZ2", lambda f: f.square().sum(dim=1) - 1),
    ],
)
def test_the_exact_optimum_is_on_the_front_and_on_its_ray(problem, front, benchmark):
    task = benchmark.TASKS[problem]()
    assert front(task.exact).abs().max() < 1e-12
    rays = task.preferences.double().clamp(min=benchmark.EPSILON)
    ratios = task.exact / rays
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios))


def test_the_exact_optimum_of_balanced_preferences_by_hand(benchmark):
    """t = 1 − √t, t = 1 − t² and 3 t² = 1."""
    half, third = torch.full((1, 2), 0.5).double(), torch.full((1, 3), 1 / 3).double()
    assert benchmark.zdt1_exact(half)[0].tolist() == pytest.approx([(3 - math.sqrt(5)) / 2] * 2)
    assert benchmark.zdt2_exact(half)[0].tolist() == pytest.approx([(math.sqrt(5) - 1) / 2] * 2)
    assert benchmark.dtlz2_exact(third)[0].tolist() == pytest.approx([1 / math.sqrt(3)] * 3)


def test_the_exact_optimum_of_the_regression_is_the_smallest_weighted_sum(benchmark):
    task = benchmark.TASKS["regression"]()
    targets = torch.stack([target for _, target in task.rows]).double()
    weights = simplex_lattice(3, 105).double()
    best = (weights * task.exact).sum(dim=1)
    # Σ_i λ_i mean (y − t_i)² with y = Σ λ_i t_i is the mean variance of the targets under λ.
    mean = targets @ weights.T
    variance = (targets.square() @ weights.T - mean.square()).mean(dim=0)
    torch.testing.assert_close(best, variance, atol=1e-9, rtol=1e-6)
    # Each objective's own corner reaches 0.
    assert task.exact.amin(dim=0).tolist() == pytest.approx([0.0] * 3, abs=1e-12)


def test_it_prints_a_table_and_writes_json(benchmark, tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        arguments = ["--problems", "ZDT2", "--steps", "3", "--seeds", "1", "--output", str(tmp_path / "a" / "out.json")]
        benchmark.main(arguments)
    finally:
        torch.set_num_threads(threads)
    content = json.loads((tmp_path / "a" / "out.json").read_text(encoding="utf-8"))
    assert (content["steps"], content["seeds"]) == (3, [0])
    assert content["results"]["ZDT2"].keys() == benchmark.CONDITIONINGS.keys()
    run = content["results"]["ZDT2"]["SVD-LoRA, pre-trained base"][0]
    # U and V of three layers, k + p·m = 16, and σ and s of each: 16·(68 + 128 + 74) + 3·9.
    assert run["parameters"] == 4347
    assert run["seconds_before"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| ZDT2 |") for line in lines) == len(benchmark.CONDITIONINGS)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
