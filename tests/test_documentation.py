"""What the documentation shows is true: docstring examples, and the README's code for one's own problem."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import mopref
import mopref.objectives
import mopref.scalarizers

MODULES = sorted(
    module.name
    for package in (mopref, mopref.objectives, mopref.scalarizers)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
)
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_docstring_examples():
    assert {"mopref.preferences", "mopref.objectives.problem", "mopref.scalarizers.pbi"} <= set(MODULES)
    assert doctest.testmod(importlib.import_module("mopref.scalarizers.pbi")).attempted > 0


def code_block(containing: str) -> str:
    return next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if containing in block)


def test_readme_own_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code_block("class Mine(Problem)"), names)
    assert (tmp_path / "front.png").stat().st_size > 0
    assert (tmp_path / "front.json").stat().st_size > 0
    # The front is √f1 + √f2 = 1: the area below the reference point (1.1, 1.1) is 1.21 − 1/6, a little less for points.
    assert names["front"].hypervolume([1.1, 1.1]) == pytest.approx(1.21 - 1 / 6, abs=0.02)


def test_readme_own_scalarizer():
    import torch

    names: dict = {}
    exec(code_block("class WeightedPower(Scalarizer)"), names)
    value = names["WeightedPower"](power=2.0)(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]))
    assert value.item() == pytest.approx(5.0)


def test_public_names():
    for name in mopref.__all__:
        assert getattr(mopref, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = mopref.Nonsense
