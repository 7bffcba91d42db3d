import pytest

from mopref.cli import main
from mopref.recipes import load_recipe
from mopref.recipes.rows import KINDS


def test_a_starter_recipe_is_complete_and_says_what_each_setting_is(tmp_path, capsys):
    path = tmp_path / "new" / "recipe.yaml"
    assert main(["init", str(path)]) == 0
    recipe = load_recipe(path)
    assert recipe.objectives == ("helpful", "harmless")
    assert recipe == recipe.completed()
    text = path.read_text(encoding="utf-8")
    assert "# optimiser steps; 1000 where neither steps nor epochs are given." in text
    assert '"response_0"' in text
    assert all(name in text for name in KINDS)
    assert all(loader in text for loader in ("unpaired-records", "loader responses", "loader prompts"))
    assert f"mopref train {path}" in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    (tmp_path / "recipe.yaml").write_text("mine")
    assert main(["init"]) == 2
    assert "recipe.yaml is there already: give another name, or remove it." in capsys.readouterr().err
    assert (tmp_path / "recipe.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300])
def test_what_no_file_can_be_called_is_a_mistake(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["init", name]) == 2
    assert "mopref init: RECIPE.yaml is " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
