"""A tiny model, records, and one trained run that tests only read: fixtures of recipes and of the command line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from _tiny_runs import pair_records, recipe_tree, save_model, write_lines


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, make_llama) -> Path:
    """A folder with ``model`` and ``records.jsonl``."""
    folder = tmp_path_factory.mktemp("tiny")
    save_model(folder / "model", make_llama)
    write_lines(pair_records(), folder / "records.jsonl")
    return folder


@pytest.fixture
def tree(tiny, tmp_path) -> dict[str, Any]:
    """A recipe as a file would hold it, whose run goes into a folder of the test's own."""
    return recipe_tree(tiny / "model", tiny / "records.jsonl", tmp_path / "run")


@pytest.fixture
def write_recipe(tmp_path):
    """Write a recipe's tree as a file."""

    def write(tree: Any, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def load(tree, write_recipe):
    """The recipe of the tree with some of its sections changed, and flags over it."""
    from mopref.recipes import load_recipe

    def load(*flags: str, **sections: Any):
        changed = dict(tree)
        for name, section in sections.items():
            changed[name] = (
                {**tree[name], **section} if isinstance(tree.get(name), dict) and isinstance(section, dict) else section
            )
        return load_recipe(write_recipe(changed), flags)

    return load


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """A run that was trained and evaluated, to be read only."""
    from mopref.recipes import evaluate, load_recipe, train

    folder = tmp_path_factory.mktemp("trained")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_tree(tiny / "model", tiny / "records.jsonl", folder / "run")))
    run = train(load_recipe(path))
    evaluate(run)
    return run
