"""Recipes from files and flags: what is read, and the sentence for what cannot be."""

import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from _broken_recipes import broken_files, broken_flags

from mopref.recipes import PartSettings, RecipeError, load_recipe, recipe_text, save_recipe
from mopref.recipes.reading import _keys, read_recipe
from mopref.recipes.recipe import Recipe


def test_a_file_becomes_a_recipe_with_defaults(load, tree):
    recipe = load()
    assert recipe.objectives == ("helpful", "harmless")
    assert recipe.scalarizer == PartSettings("tchebycheff", {"ideal": [0, 0]})
    assert recipe.adapter.layers == (-2, -1)
    assert recipe.adapter.preference_rank == 4
    assert recipe.rewards == {}


def test_flags_count_in_place_of_the_files_settings(load):
    recipe = load("--training.steps", "9", "--training.learning_rate=1e-4", "--output", "x", "--adapter.layers", "[-1]")
    assert (recipe.training.steps, recipe.training.learning_rate, recipe.output) == (9, 1e-4, "x")
    assert recipe.adapter.layers == (-1,)
    assert recipe.training.batch_size == 4


def test_options_of_parts_can_be_flags(load):
    assert load("--scalarizer.options.margin", "0.5").scalarizer.options == {"ideal": [0, 0], "margin": 0.5}
    assert load("--scalarizer.name", "linear", "--scalarizer.options", "{}").scalarizer == PartSettings("linear")


def test_epochs_over_steps_are_refused_until_the_steps_are_taken_back(load):
    with pytest.raises(RecipeError, match=r"^--training\.epochs: steps is 6, and epochs is 2: each says how long"):
        load("--training.epochs", "2")
    assert load("--training.epochs", "2", "--training.steps", "null").training.epochs == 2


def test_the_name_alone_stands_for_a_part(load):
    recipe = load(sampler="dirichlet")
    assert recipe.sampler == PartSettings("dirichlet")


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "+1E-3", "0.001", ".001"])
def test_numbers_are_numbers_as_people_write_them(tree, tmp_path, text):
    path = tmp_path / "recipe.yaml"
    tree["training"]["learning_rate"] = "RATE"
    path.write_text(yaml.safe_dump(tree).replace("RATE", text))
    assert load_recipe(path).training.learning_rate == 0.001


def test_dates_and_words_stay_texts(load):
    assert load(output="2026-01-01").output == "2026-01-01"


def test_a_complete_recipe_is_the_same_recipe(load, tmp_path):
    recipe = load()
    save_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe
    written = yaml.safe_load((tmp_path / "again.yaml").read_text())
    assert written.keys() == asdict(recipe).keys()
    assert written["training"].keys() == asdict(recipe)["training"].keys()


def test_help_stands_above_each_setting(load, tmp_path):
    recipe = load()
    text = recipe_text(recipe, with_help=True)
    for key in _keys(Recipe, ""):
        name = key.rpartition(".")[2]
        assert re.search(rf"(?m)^ *# .+\n *{name}:", text), key
    (tmp_path / "help.yaml").write_text(text)
    assert load_recipe(tmp_path / "help.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objectives: [a", r"recipe.yaml: it is no YAML in line 1, column \d+ \(.+\); correct it, or put a text in"),
        ("seed: 1\nseed: 2", r"recipe.yaml: it is no YAML in line 2, column 1 \(the key 'seed' is there twice\)"),
        ("data: {source: x, source: y}", r"line 1, column 19 \(the key 'source' is there twice\)"),
        ("- a", r"recipe.yaml: a recipe is a mapping of settings, as in `objectives: \[helpful, harmless\]`\."),
        ("", "recipe.yaml: a recipe is a mapping of settings"),
        ("seed: 1", r"recipe.yaml, objectives: this setting is missing; it must be a list, each entry a text"),
        ("3: 4", r"recipe.yaml, 3: the name of a setting is a text, so put it in quotes\."),
    ],
)
def test_files_that_are_no_recipes(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(RecipeError, match=r"none.yaml: there is no such file; write one with `mopref init`"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"bytes.yaml: the file cannot be read .+; give a text file"):
        load_recipe(tmp_path / "bytes.yaml")
    with pytest.raises(RecipeError, match=r": the file cannot be read"):
        load_recipe(tmp_path)


def test_every_broken_file_is_told_in_a_sentence(tree, write_recipe):
    count = 0
    for broken in broken_files(tree):
        path = write_recipe(broken.tree)
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        broken.check(str(caught.value), f"{path}, ")
        count += 1
    assert count > 150


def test_every_broken_flag_is_told_in_a_sentence(tree, write_recipe):
    path, count = write_recipe(tree), 0
    for broken in broken_flags():
        with pytest.raises(RecipeError) as caught:
            load_recipe(path, broken.flags)
        broken.check(str(caught.value), "--")
        count += 1
    assert count > 40


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["other.yaml"], "recipe.yaml: 'other.yaml' is given beside it; a recipe is one file"),
        (["--seed"], "^--seed: the flag has no value; it must be a whole number, so write it behind.$"),
        (
            ["--scalarizer", "linear"],
            "^--scalarizer is 'linear': it is a section; write --scalarizer.name for example.$",
        ),
        (["--training.step", "3"], r"^--training.step: there is no such setting; did you mean --training.steps\?$"),
        (["--rewards.h.nam", "x"], "^--rewards: 'nam' in it does not fit"),
    ],
)
def test_flags_that_are_none(tree, write_recipe, flags, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(write_recipe(tree), flags)


def test_a_recipe_is_read_without_its_parts(tree, write_recipe):
    """As a report reads it, on a machine that has neither the device nor a part of another package."""
    assert read_recipe(write_recipe(tree)) == load_recipe(write_recipe(tree))
    tree["model"]["device"], tree["objective"] = "cuda:7", "mine"
    path = write_recipe(tree)
    assert read_recipe(path).objective == PartSettings("mine")
    with pytest.raises(RecipeError):
        load_recipe(path)
    tree["training"]["stepz"] = 3
    with pytest.raises(RecipeError, match=r"recipe\.yaml, training\.stepz: there is no such setting"):
        read_recipe(write_recipe(tree))


def lines_of_aliases(first: str) -> str:
    """A list of ten, ten times over, and so on: a few lines that stand for 10^11 values."""
    texts = [f"{first}: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return "\n".join([*texts, *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 11))]) + "\n"


HOSTILE = {
    "aliases at the top": (lines_of_aliases("a0"), "stand for more than 100000 values"),
    "aliases in options": (
        "scalarizer:\n  name: linear\n  options:\n    " + lines_of_aliases("x").replace("\n", "\n    "),
        "stand for more than",
    ),
    "a list in itself": ("objectives: &a [b, *a]\n", "a value that holds itself"),
    "options in themselves": ("scalarizer: {name: linear, options: &s {x: *s}}\n", "a value that holds itself"),
    "deep": ("x: " + "[" * 20_000 + "]" * 20_000 + "\n", "RecursionError"),
    "a number of many digits": ("seed: " + "9" * 5000 + "\n", "cannot be read .ValueError"),
    "a number above all floats": ("training: {learning_rate: " + "9" * 400 + "}\n", "must be a number"),
    "no digits": ("seed: 0b_\n", "cannot be read"),
    "a text that is no date": ("seed: !!timestamp abc\n", "cannot be read"),
    "a text that is no truth": ("seed: !!bool abc\n", "cannot be read"),
    "a text that is no number": ("seed: !!int abc\n", "cannot be read"),
    "a mapping that is none": ("seed: !!map abc\n", "expected a mapping node"),
    "a tag of Python's": ("seed: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "more than a recipe has": ("# " + "x" * 2**20, "has more than 1 MiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("read", [read_recipe, load_recipe])
def test_what_a_stranger_could_write_is_refused_in_a_short_sentence(read, name, tmp_path):
    text, message = HOSTILE[name]
    path = tmp_path / "recipe.yaml"
    path.write_text("" if "objectives" in text else "objectives: [a, b]\n", encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(RecipeError, match=message) as refusal:
        read(path)
    assert len(str(refusal.value)) < 1000


def test_a_pipe_and_a_device_are_no_recipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(RecipeError, match="is a pipe or a device"):
            read_recipe(path)


def test_aliases_of_a_few_values_are_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("objectives: &names [a, b]\nevaluation: {prompts: *names}\n", encoding="utf-8")
    assert read_recipe(path).evaluation.prompts == read_recipe(path).objectives


def test_a_long_value_is_shortened_in_the_message(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"objectives: [a, b]\nseed: [{'1, ' * 50_000}]\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"seed is .*must be a whole number") as refusal:
        read_recipe(path)
    assert len(str(refusal.value)) < 1000


def test_what_is_no_recipe_or_no_path_is_not_saved(load, tmp_path):
    for recipe in (None, Recipe, "recipe.yaml", {}):
        with pytest.raises(TypeError, match=r"recipe is .*: give a Recipe"):
            save_recipe(recipe, tmp_path / "saved.yaml")
    for path in (None, 3, b"x"):
        with pytest.raises(TypeError, match="path is "):
            save_recipe(load(), path)
    with pytest.raises(IsADirectoryError, match="could not be written"):
        save_recipe(load(), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name == "saved.yaml"] == []


@pytest.mark.parametrize("flag", [" ", "\n", ""])
def test_a_flag_of_blanks_is_refused_in_words(tmp_path, flag):
    (tmp_path / "recipe.yaml").write_text("objectives: [a, b]\n")
    with pytest.raises(RecipeError, match=r"flags begin with --"):
        load_recipe(tmp_path / "recipe.yaml", [flag, "--training.steps", "3"])


def test_a_recipe_that_no_file_holds_is_not_written(load, tmp_path):
    recipe = load()
    spoilt = replace(recipe, data=replace(recipe.data, options={"key": b"bytes"}))
    with pytest.raises(RecipeError, match=r"cannot be written into a file \(.*bytes.*\): take numbers"):
        recipe_text(spoilt)
