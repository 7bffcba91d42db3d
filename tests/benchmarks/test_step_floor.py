"""benchmarks/step_floor.py counts what a step cannot do without, and no more than a step does."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def floor(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("step_floor")


@pytest.fixture
def one_length(floor):
    """Pairs of one length, so that no token is padding."""
    parts = importlib.import_module("step_parts")
    return parts.Setting(
        vocabulary=48,
        layers=2,
        hidden=16,
        intermediate=24,
        heads=2,
        key_value_heads=1,
        pairs=2,
        prompt=(5, 5),
        response=(7, 7),
        rank=3,
        attention="eager",
        steps=1,
    )


def multiply_adds(floor, setting, kind):
    return sum(product.multiply_adds for product in floor.necessary_products(setting) if product.kind == kind)


def test_by_hand(floor, one_length):
    tokens, targets = 2 * (5 + 6 + 6), 4 * 7
    qkv, others = 16 * 16 + 2 * 8 * 16, 16 * 16 + 3 * 16 * 24
    # Both ways in two blocks, but for what would lead from the first block to the embeddings.
    assert multiply_adds(floor, one_length, "base") == tokens * (4 * (qkv + others) - qkv)
    sides_in, sides_out = 16 * 6 + 24, 16 + 8 + 8 + 16 + 24 + 24 + 16
    assert multiply_adds(floor, one_length, "adapters") == tokens * 3 * (2 * 3 * (sides_in + sides_out) - 3 * 16)
    assert multiply_adds(floor, one_length, "head") == 2 * targets * 16 * 48
    pairs = 2 * (5 * 6 // 2) + 4 * (5 * 6 + 6 * 7 // 2)
    assert multiply_adds(floor, one_length, "attention") == pytest.approx(6 * 2 * pairs * 16)


def test_a_reference_that_is_not_cached_is_one_forward_more(floor, one_length):
    uncached = replace(one_length, cached=False)
    assert multiply_adds(floor, uncached, "adapters") == multiply_adds(floor, one_length, "adapters")
    assert multiply_adds(floor, uncached, "head") == 1.5 * multiply_adds(floor, one_length, "head")
    assert multiply_adds(floor, uncached, "attention") == pytest.approx(
        multiply_adds(floor, one_length, "attention") * 8 / 6
    )


def test_no_step_multiplies_less(floor, one_length, monkeypatch):
    """Counted by torch itself: a step that does all prompts twice is above the floor, by less than twice here."""
    parts = importlib.import_module("step_parts")
    counter = FlopCounterMode(display=False)
    trainer = parts.make_trainer("mopref-1", one_length, lambda loss: None)
    with counter:
        trainer.train()
    least = sum(product.multiply_adds for product in floor.necessary_products(one_length))
    assert least < counter.get_total_flops() / 2 < 2 * least


def test_the_products_are_measured_at_their_shapes(floor, one_length, monkeypatch):
    """With a second for every multiply-add, the floor is the count."""

    def counted(product, weights):
        assert product.count == 1
        return product.multiply_adds, 2 * product.multiply_adds

    monkeypatch.setattr(floor, "measured", counted)
    turns = []
    floor.run_floor(one_length, lambda loss, spent=None: turns.append(spent))
    least = sum(product.multiply_adds for product in floor.necessary_products(one_length))
    assert turns == [None, (pytest.approx(least), pytest.approx(2 * least))]


def test_a_measured_product_takes_time_and_scales(floor):
    product = floor.Product("base", 1.0, 64, 32, 16, batch=2)
    weights = {}
    assert all(spent > 0 for spent in floor.measured(product, weights))
    assert {tuple(weight.shape) for weight in weights.values()} == {(2, 64, 32), (2, 16, 32)}
    assert all(isinstance(weight, torch.Tensor) for weight in weights.values())
