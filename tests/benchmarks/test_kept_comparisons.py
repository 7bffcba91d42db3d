"""Measured cells that are kept in benchmarks/results: a copy of them is gone on from, wherever it and the data lie."""

import json
import shutil
from pathlib import Path

import pytest

from mopref.recipes import load_method_recipe
from mopref.recipes.method_beginning import content_of
from mopref.recipes.method_cells import read_cell
from mopref.recipes.method_plan import fingerprint_of
from mopref.recipes.parts import make_parts
from mopref.recipes.run import read_data
from mopref.recipes.run_folder import fingerprint

ROOT = Path(__file__).parents[2]


def folder_and_recipe(name, flags=()):
    return ROOT / "benchmarks" / "results" / name, load_method_recipe(
        ROOT / "examples" / "recipes" / f"{name}.yaml", flags
    )


def check_cells(folder, recipe, content):
    for cell in sorted((folder / "cells").iterdir()):
        name, _, seed = cell.name.rpartition("-seed-")
        found = read_cell(folder, name, int(seed), fingerprint_of(recipe.completed(), content, name))
        assert found is not None
        assert found.losses.shape[0] == recipe.evaluation.points


THREE = [
    *("--objectives", "[warm, concise, relevant]", "--scalarizer.options", "{ideal: [0, 0, 0]}"),
    *("--training.preferences_per_step", "2", "--evaluation.reference_point", "[1, 1, 1]", "--evaluation.points", "10"),
    *("--evaluation.judges", "{}", "--evaluation.sampled_prompts", "0"),
]


@pytest.mark.parametrize(
    ("kept", "name", "flags"),
    [
        ("compare_demo", "compare_demo", []),
        ("compare_on_policy", "compare_on_policy", []),
        ("compare_on_policy_three", "compare_on_policy", THREE),
    ],
)
def test_cells_are_those_of_the_recipe(kept, name, flags):
    folder, recipe = folder_and_recipe(name, flags)
    if recipe.data.source is not None:
        folder, recipe = folder_and_recipe(name, [*flags, "--data.source", str(folder / "pairs.jsonl")])
    folder = folder.with_name(kept)
    check_cells(folder, recipe, content_of(json.loads((folder / "beginning.json").read_text())))


def test_records_are_those_of_the_kept_pairs(tmp_path):
    folder, _ = folder_and_recipe("compare_on_policy")
    source = shutil.copy(folder / "pairs.jsonl", tmp_path / "copied.jsonl")
    _, recipe = folder_and_recipe("compare_on_policy", ["--data.source", str(source)])
    completed = recipe.completed()
    train, test = read_data(completed, make_parts(completed))
    assert fingerprint([*train, *test]) == json.loads((folder / "beginning.json").read_text())["records"]
