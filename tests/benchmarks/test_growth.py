"""benchmarks/growth.py runs, its exponents are exponents, and each axis raises what it names."""

import importlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("growth")


def test_exponents_of_powers(growth):
    points = [growth.Point("rank", size, 3.0 * size**1.5, 7.0) for size in (2, 4, 16)]
    points += [growth.Point("pairs", size, 2.0, 5.0 * size) for size in (1, 8)]
    slopes = growth.exponents(points)
    assert list(slopes) == ["rank", "pairs"]
    assert slopes["rank"] == {"seconds": pytest.approx(1.5), "peak_bytes": pytest.approx(0, abs=1e-9)}
    assert slopes["pairs"] == {"seconds": pytest.approx(0, abs=1e-9), "peak_bytes": pytest.approx(1)}


def test_an_axis_changes_what_it_names_alone(growth):
    parts = importlib.import_module("step_parts")
    for axis, sizes in growth.AXES.items():
        for size in sizes:
            variant, setting = growth.at(growth._BASE, axis, size)
            m = parts.objectives_of(variant)
            (row, *_) = rows = parts.make_rows(setting, m)
            found = {
                "objectives": m,
                "pairs": len(rows),
                "tokens": len(row["prompt_ids"]) + len(row["response_0_ids"]),
                "rank": setting.rank,
                "vocabulary": setting.vocabulary,
            }
            common = {"objectives": 2, "pairs": 8, "tokens": 128, "rank": 32, "vocabulary": 4096}
            assert found == {**common, axis: size}
            # The total rank has room for a direction of each objective.
            assert m <= setting.rank


def test_writes_its_picture_and_its_numbers(growth, tmp_path, capsys):
    files = {name: tmp_path / "new" / f"growth.{name}" for name in ("png", "json")}
    options = ["--quick", "--repeats", "1", "--axes", "pairs"]
    growth.main([*options, "--figure", str(files["png"]), "--json", str(files["json"])])
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    numbers = json.loads(files["json"].read_text())
    assert [(point["axis"], point["size"]) for point in numbers["points"]] == [("pairs", 4), ("pairs", 8)]
    assert all(point["seconds"] > 0 and point["peak_bytes"] > 0 for point in numbers["points"])
    assert f"exponent {numbers['exponents']['pairs']['seconds']:.2f}" in capsys.readouterr().out
