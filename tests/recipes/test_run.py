import shutil
from dataclasses import replace

import pytest
import torch

from mopref.recipes import RecipeError, RunFolderError, open_run
from mopref.recipes.parts import make_parts
from mopref.recipes.run import read_data


def test_an_opened_run_is_the_trained_one(trained):
    opened = open_run(trained.folder, with_data=True)
    assert opened.recipe == trained.recipe
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, opened.model.state_dict()[name]), name
    assert opened.test_rows[0]["prompt_ids"] == trained.test_rows[0]["prompt_ids"]
    assert len(opened.test_rows) == len(trained.test_rows)


def test_the_data_are_read_only_where_they_are_wanted(trained, monkeypatch):
    monkeypatch.setattr("mopref.recipes.run.load_records", None)
    assert open_run(trained.folder).test_rows == []


def test_a_folder_without_a_finished_run_is_refused(tmp_path, trained):
    with pytest.raises(RunFolderError, match=r"is no finished run: there is no recipe.yaml in it; give the folder"):
        open_run(tmp_path)
    (tmp_path / "recipe.yaml").write_text((trained.folder / "recipe.yaml").read_text())
    with pytest.raises(
        RunFolderError, match=r"there is no adapter in it; go on with it by `mopref train RECIPE --resume`"
    ):
        open_run(tmp_path)


def test_a_base_that_is_elsewhere_now_is_corrected_in_the_runs_recipe(tmp_path, trained):
    base, folder = tmp_path / "base", tmp_path / "run"
    shutil.copytree(trained.recipe.model.name, base)
    shutil.copytree(trained.folder, folder)
    recipe = folder / "recipe.yaml"
    text = recipe.read_text()
    assert trained.recipe.model.name in text
    recipe.write_text(text.replace(trained.recipe.model.name, str(tmp_path / "gone")))
    with pytest.raises(RecipeError, match=r"run/recipe\.yaml, model\.name is '.*gone': .*there is no such folder"):
        open_run(folder)
    recipe.write_text(text.replace(trained.recipe.model.name, str(base)))
    assert open_run(folder).recipe.model.name == str(base)


def test_prompts_are_on_one_side_or_where_the_test_data_say(load):
    recipe = load()
    train, test = read_data(recipe, make_parts(recipe))
    assert len(train) + len(test) == 40
    assert not {record["prompt"] for record in train} & {record["prompt"] for record in test}
    recipe = load(data={"test_options": {"limit": 5}, "test_fraction": None})
    train, test = read_data(recipe, make_parts(recipe))
    assert (len(train), len(test)) == (40, 5)


def test_the_split_is_the_recipes_seeds(load):
    sides = [read_data(load(seed=seed), make_parts(load())) for seed in (0, 0, 1)]
    assert sides[0] == sides[1]
    assert sides[0] != sides[2]


def test_parts_of_another_kind_are_refused_and_a_folder_may_be_a_text(trained):
    assert replace(trained, folder=str(trained.folder)).folder == trained.folder
    for field in ("recipe", "model", "test_rows", "judges", "step"):
        with pytest.raises(TypeError, match=f"{field} is 'x', of type str: give "):
            replace(trained, **{field: "x"})
    with pytest.raises(ValueError, match=r"folder is .*: it has a character that no name of a file can have"):
        replace(trained, folder="a\0")
