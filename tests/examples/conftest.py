"""The example scripts as modules."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def load_example():
    """Import examples/<name>.py, which is no package."""

    def load(name: str):
        script = Path(__file__).parents[2] / "examples" / f"{name}.py"
        specification = importlib.util.spec_from_file_location(f"{name}_example", script)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load
