import json
from dataclasses import replace
from pathlib import Path

import pytest
from _checkpoints import empty_checkpoint

from mopref.recipes import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    Recipe,
    RecipeError,
    RunFolderError,
    TrainingSettings,
)
from mopref.recipes.run_folder import (
    VERSIONS,
    check_new_folder,
    check_same_recipe,
    check_same_records,
    fingerprint,
    located,
    newest_checkpoint,
    versions,
)


def test_new_and_empty_folders_will_do(tmp_path):
    check_new_folder(tmp_path / "a" / "b")
    check_new_folder(tmp_path)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_holds_anything_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RecipeError, match=r"output is '.+', which holds files already: choose another folder"):
        check_new_folder(tmp_path)
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(RecipeError, match=r"which holds a run already: choose another folder, or go on .+--resume"):
        check_new_folder(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RecipeError, match=r"output is '.+': nothing can be written into .+; choose another"):
            check_new_folder(path)


def test_a_link_that_leads_nowhere_is_in_the_way(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "none")
    for path in (tmp_path / "link", tmp_path / "link" / "below"):
        with pytest.raises(RecipeError, match=r"nothing can be written into .*link; choose another"):
            check_new_folder(path)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~/runs/a", r"^output is '~/runs/a': only a shell knows whose folder '~' is, so write the whole path\.$"),
        ("~nobody", "only a shell knows"),
        ("a\0b", r"^output: the folder is .* a character that no name of a file can have"),
        ("x" * 300, "more than 255 bytes"),
    ],
)
def test_what_no_folder_can_be_is_refused(path, message):
    with pytest.raises(RecipeError, match=message):
        check_new_folder(Path(path))


def test_the_newest_checkpoint_is_that_of_the_most_steps(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no run: there is no recipe.yaml in it"):
        newest_checkpoint(tmp_path)
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(RunFolderError, match=r"has no whole checkpoint to resume from, since .+: remove the folder"):
        newest_checkpoint(tmp_path)
    (tmp_path / "checkpoint-200").mkdir()
    with pytest.raises(RunFolderError, match=r"has no whole checkpoint to resume from"):
        newest_checkpoint(tmp_path)
    for step in (5, 100, 20):
        empty_checkpoint(tmp_path, step)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


RECIPE = Recipe(("a", "b"), data=DataSettings(source="x"))


@pytest.mark.parametrize(
    "change",
    [
        {"training": TrainingSettings(steps=5000, checkpoint_every=3, progress=False)},
        {"training": TrainingSettings(epochs=3)},
        {"evaluation": EvaluationSettings(points=11, prompts=("hello",))},
        {"output": "elsewhere"},
    ],
)
def test_how_far_and_what_is_measured_may_differ(tmp_path, change):
    check_same_recipe(tmp_path, replace(RECIPE, **change), RECIPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, r"^seed is 3, and the run in .+ was begun with 0: resume it with that\.$"),
        ({"training": TrainingSettings(learning_rate=1.0)}, r"^training\.learning_rate is 1\.0, and .+ with 0\.001"),
        ({"data": DataSettings(source="y")}, r"^data\.source is 'y', and .+ with 'x'"),
        ({"data": DataSettings(source="/a/y")}, r"^data\.source is '/a/y', and .+ with 'x'"),
        ({"objectives": ("b", "a")}, r"^objectives is \('b', 'a'\)"),
    ],
)
def test_anything_else_must_be_as_it_was(tmp_path, change, message):
    with pytest.raises(RecipeError, match=message):
        check_same_recipe(tmp_path, replace(RECIPE, **change), RECIPE)


def test_the_fingerprint_is_that_of_the_records(tmp_path):
    records = [{"prompt": "a", "x": 1}, {"prompt": "b", "x": 0}]
    assert fingerprint(records) == fingerprint([{"x": 1, "prompt": "a"}, records[1]])
    assert fingerprint(records) != fingerprint(records[::-1])
    assert fingerprint(records) != fingerprint([records[0], {"prompt": "b", "x": 1}])
    (tmp_path / VERSIONS).write_text(json.dumps(versions(fingerprint(records))))
    check_same_records(tmp_path, fingerprint(records))
    with pytest.raises(RunFolderError, match=r"the data of the run in .+ have changed since it was begun"):
        check_same_records(tmp_path, fingerprint(records[:1]))


def test_versions_name_packages_and_python():
    content = versions("abc")
    assert {"python", "system", "mopref", "torch", "transformers", "records"} <= content.keys()
    assert content["records"] == "abc"


def test_paths_that_are_there_become_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "a.jsonl").write_text("")
    data = DataSettings(source={"a": "a.jsonl", "b": "b.jsonl"}, test_source="a.jsonl")
    recipe = located(Recipe(("a", "b"), data=data, model=ModelSettings("model", tokenizer="org/model")))
    assert recipe.model == ModelSettings(str(tmp_path / "model"), tokenizer="org/model")
    assert recipe.data.source == {"a": str(tmp_path / "a.jsonl"), "b": "b.jsonl"}
    assert recipe.data.test_source == str(tmp_path / "a.jsonl")
    assert located(Recipe(("a",))).model.name == "demo"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300])
def test_what_no_folder_can_be_called_is_refused(tmp_path, name):
    with pytest.raises(RecipeError, match=r"^output: the folder is '.+': (it has a character|a name in it has more)"):
        check_new_folder(tmp_path / name)
