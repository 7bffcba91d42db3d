"""benchmarks/decoding_products.py and compiled_decoding.py run, and compare what makes the same numbers."""

import importlib
from pathlib import Path

import pytest
import torch

from mopref.conditioning import packed_weights

needs_onednn = pytest.mark.skipif(not packed_weights._is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module


@needs_onednn
def test_products_are_timed_for_each_way(benchmark, capsys):
    products = benchmark("decoding_products")
    products.main(["--rows", "2", "33", "--blocks", "1", "--turns", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * len(products.WAYS)
    for number, rows in enumerate((2, 33)):
        first = lines[1 + number * len(products.WAYS)].split()
        assert first == [str(rows), "rows", "merged", "1.000", "1.000"]


@needs_onednn
def test_a_way_that_makes_other_numbers_is_refused(benchmark, monkeypatch):
    products = benchmark("decoding_products")
    lay_out, _ = products.WAYS["packed"]
    monkeypatch.setitem(products.WAYS, "packed", (lay_out, lambda x, gate, layer: products._packed(x, -gate, layer)))
    with pytest.raises(RuntimeError, match="'packed' makes other numbers than 'small product first'"):
        products.measure(2, 1, 1)


def test_compiled_tokens_are_compared(benchmark, monkeypatch, capsys):
    """Compiling takes a minute, and is left out here."""
    compiled = benchmark("compiled_decoding")
    asked = []

    def not_compiled(function, **options):
        asked.append(options)
        return function

    monkeypatch.setattr(torch, "compile", not_compiled)
    compiled.main(["--model", "small", "--blocks", "1", "--rows", "2", "--new-tokens", "5"])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert asked == [{"dynamic": False}] * 2
    assert len(lines) == 6
    assert all(line.endswith("tokens the same") for line in lines)
