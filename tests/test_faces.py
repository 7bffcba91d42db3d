"""The public names of packages: what `from package import *` brings."""

import importlib
import types

import pytest

PACKAGES = [
    "mopref",
    *(
        f"mopref.{room}"
        for room in "objectives scalarizers samplers conditioning gradients indicators plotting".split()
    ),
    *(f"mopref.{room}" for room in "plotting front training known_fronts llm.data llm.policy llm.rewards".split()),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_brings_parts_and_no_modules(package):
    face = importlib.import_module(package)
    names: dict = {}
    exec(f"from {package} import *", names)
    del names["__builtins__"]
    assert names, "or the test is vacuous"
    assert set(names) == set(face.__all__)
    for name, value in names.items():
        assert not isinstance(value, types.ModuleType), f"{package} gives the module {name}"
        assert not name.startswith("_")
