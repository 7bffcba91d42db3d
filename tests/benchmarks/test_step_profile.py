"""benchmarks/step_profile.py puts every operator into the right group, and loses no time."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def profile(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("step_profile")


@pytest.fixture
def setting(profile):
    return profile.Setting(
        vocabulary=101,
        layers=1,
        hidden=32,
        intermediate=48,
        heads=2,
        key_value_heads=2,
        pairs=4,
        prompt=(3, 6),
        response=(4, 12),
        rank=7,
    )


@pytest.mark.parametrize(
    ("name", "shapes", "group"),
    [
        ("aten::mm", [[90, 32], [32, 48]], "base matrix products"),
        ("aten::mm", [[90, 32], [32, 7]], "adapters: products and gates"),
        ("aten::mm", [[7, 90], [90, 32]], "adapters: products and gates"),
        ("aten::mul", [[8, 18, 7], [8, 1, 7]], "adapters: products and gates"),
        ("aten::mm", [[90, 32], [32, 101]], "head and log-probabilities"),
        ("aten::logsumexp", [[8, 12, 101], []], "head and log-probabilities"),
        ("aten::_log_softmax", [[8, 12, 101], [], []], "head and log-probabilities"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [[8, 2, 18, 16]] * 3, "attention"),
        ("aten::bmm", [[16, 18, 16], [16, 16, 18]], "attention"),
        ("aten::_softmax", [[8, 2, 18, 18], [], []], "attention"),
        ("aten::silu", [[8, 18, 48]], "norms, activations, rotary, residuals"),
        ("aten::neg", [[8, 2, 18, 8]], "norms, activations, rotary, residuals"),
        ("aten::rsqrt", [[8, 18, 1]], "norms, activations, rotary, residuals"),
        ("aten::linalg_vector_norm", [[32, 7]], "optimiser and clipping"),
        ("aten::embedding", [[101, 32], [8, 18]], "the rest: Python, batches, bookkeeping"),
        ("aten::add", [[], []], "the rest: Python, batches, bookkeeping"),
    ],
)
def test_groups(profile, setting, name, shapes, group):
    assert group in profile.GROUPS
    assert profile.group_of(name, shapes, setting) == group
    assert profile.group_of(name, shapes, setting, in_optimiser=True) == "optimiser and clipping"


def test_what_runs_in_the_optimisers_range_is_its_and_the_clocks_rest_is_pythons(profile, setting):
    def event(name, start, end, own, shapes=()):
        return SimpleNamespace(
            name=name,
            time_range=SimpleNamespace(start=start, end=end),
            self_cpu_time_total=own * 1e6,
            input_shapes=shapes,
        )

    events = [
        event("Optimizer.step#AdamW.step", 10, 20, 5),
        event("aten::mul_", 12, 13, 1, [[32, 7]]),
        event("aten::mul_", 22, 23, 2, [[32, 7]]),
        event("aten::mm", 24, 28, 3, [[90, 32], [32, 48]]),
    ]
    seconds = profile.grouped_seconds(events, setting, wall=20.0)
    assert sum(seconds.values()) == pytest.approx(20)
    assert seconds["optimiser and clipping"] == 1
    assert seconds["adapters: products and gates"] == 2
    assert seconds["base matrix products"] == 3
    assert seconds["the rest: Python, batches, bookkeeping"] == 14


def test_a_profiled_step_has_every_group(profile, setting, capsys, monkeypatch):
    bench = importlib.import_module("dpo_step")
    seconds = bench.print_profile("mopref-2", setting, repeats=2, threads=1)
    assert list(seconds) == list(profile.GROUPS)
    assert all(value > 0 for value in seconds.values())
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(profile.GROUPS)
