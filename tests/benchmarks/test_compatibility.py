"""benchmarks/compatibility.py reads bounds and results right; the environments themselves take minutes each."""

import importlib
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def compatibility(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("compatibility")


def test_the_oldest_versions_are_the_lower_bounds(compatibility):
    bounds = compatibility.lower_bounds((REPOSITORY / "pyproject.toml").read_text())
    assert tuple(bounds) == compatibility.PINNED
    assert all(bound[0].isdigit() for bound in bounds.values())
    text = '[project]\ndependencies = ["torch>=2.6,<3", "pymoo[x]>=0.6"]\n[project.optional-dependencies]\nllm = []\n'
    with pytest.raises(ValueError, match=r"no lower bound .* of transformers, accelerate"):
        compatibility.lower_bounds(text)


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("..s [100%]\n7 passed, 2 skipped, 1 warning in 3.21s\n", (7, 0, 2, [])),
        (
            "FAILED tests/a.py::test_x[1] - E\nERROR tests/b.py\n1 failed, 7 passed, 1 error in 1s\n",
            (7, 2, 0, ["tests/a.py::test_x[1]", "tests/b.py"]),
        ),
    ],
    ids=["passed", "failed"],
)
def test_results_are_read_from_what_pytest_prints(compatibility, output, wanted):
    assert tuple(compatibility.result_of(output)) == wanted


def test_a_run_without_tests_is_no_success(compatibility):
    with pytest.raises(ValueError, match="no tests were counted"):
        compatibility.result_of("ModuleNotFoundError: No module named 'torch'\n")


def test_the_tests_of_the_quick_part_are_there(compatibility):
    assert all((REPOSITORY / test).exists() for test in compatibility.QUICK)


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 1)])
@pytest.mark.parametrize("part", ["tests", "exchange"])
def test_two_edges_are_tested_and_read_each_other(compatibility, monkeypatch, capsys, tmp_path, part, failed, code):
    def result(kind):
        count = failed if kind == part else 0
        return compatibility.Result(5, count, 0, ["tests/a.py::test_x"] * count)

    exchanges = []

    def exchanged(writer, reader, folder):
        exchanges.append((writer.name, reader.name))
        assert not folder.exists()
        return result("exchange" if writer.name == "oldest" else "")

    monkeypatch.setattr(compatibility, "environment", lambda folder, pins: folder)
    monkeypatch.setattr(compatibility, "versions_of", lambda python: "1 2 3 4")
    monkeypatch.setattr(compatibility, "tested", lambda python, tests: result("tests" if "old" in python.name else ""))
    monkeypatch.setattr(compatibility, "exchanged", exchanged)
    assert compatibility.main(["--quick", "--folder", str(tmp_path)]) == code
    assert exchanges == [("oldest", "newest"), ("newest", "oldest")]
    said = capsys.readouterr().out.splitlines()
    place = "oldest" if part == "tests" else "newest reads oldest"
    assert said[:failed] == [f"{place}: tests/a.py::test_x failed"] * failed
    rows = [line[:20].strip() for line in said[failed:]]
    assert rows == ["edge", "oldest", "newest", "newest reads oldest", "oldest reads newest"]
    exchanges.clear()
    compatibility.main(["--edges", "newest", "--folder", str(tmp_path)])
    assert not exchanges


@pytest.mark.slow
def test_what_is_written_is_read(compatibility, tmp_path):
    here = Path(sys.executable)
    result = compatibility.exchanged(here, here, tmp_path / "files")
    assert result.failed == 0
    assert result.passed > len(compatibility.PINNED)
    assert (tmp_path / "files" / "written" / "expected.json").is_file()
