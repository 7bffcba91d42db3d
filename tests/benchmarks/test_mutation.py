"""The mutation run tells a broken line from a whole file."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mutation():
    spec = importlib.util.spec_from_file_location("mutation", ROOT / "benchmarks" / "mutation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_target_and_its_tests_are_there(mutation):
    for path, tests in mutation.TARGETS.items():
        assert (ROOT / path).is_file(), path
        for test in tests:
            assert (ROOT / test.partition("::")[0]).is_file(), test


def test_a_module_is_named_as_it_is_imported(mutation):
    assert mutation.module_name("scalarizers/linear.py") == "mopref.scalarizers.linear"
    assert mutation.module_name("mopref/training/manifest.py") == "mopref.training.manifest"


def test_annotations_are_no_program(mutation):
    assert mutation._program("def f(x: int | None) -> int: return x") == mutation._program("def f(x): return x")
    assert mutation._program("x = 1 + 2") != mutation._program("x = 1 - 2")
    assert mutation._program("x = = 2") is None


def test_mutants_are_other_programs_and_the_same_for_a_seed(mutation):
    pytest.importorskip("cosmic_ray")
    source = "def smaller(a: int, b: int) -> int:\n    return a if a < b else b + 1\n"
    found = mutation.mutants(source, 5, seed=0)
    assert found == mutation.mutants(source, 5, seed=0)
    assert len({text for *_, text in found}) == 5
    assert all(mutation._program(text) != mutation._program(source) for *_, text in found)


@pytest.mark.slow
def test_a_broken_line_is_noticed_and_a_whole_file_passes():
    """In a process of its own: a fork of this one would have the module already."""
    import subprocess

    script = """
import sys
sys.path.insert(0, "benchmarks")
from mutation import ROOT, run_tests
path, tests = "scalarizers/linear.py", ["tests/scalarizers/test_linear.py"]
source = (ROOT / path).read_text()
broken = source.replace("preferences * losses", "preferences + losses")
assert broken != source
print(run_tests(path, source, tests, 300)[0], run_tests(path, broken, tests, 300)[0])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["survived", "killed"]
