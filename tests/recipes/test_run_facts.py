"""What is said of a run: only what its folder tells, and no path of the machine."""

import json
from dataclasses import replace

import pytest
from _run_folders import NAMES, recipe_of, write_run
from hypothesis import given, settings, strategies as st

from mopref.preferences import validate_preferences
from mopref.recipes import DataSettings, ModelSettings, PartSettings, TrainingSettings, recipe_text
from mopref.recipes.front_table import front_table
from mopref.recipes.run_facts import (
    example_preference,
    example_weights,
    facts,
    hub_id,
    hub_sources,
    interval_sentence,
    portable_recipe,
    preference_convention,
    preference_sentences,
)
from mopref.recipes.run_files import read_run_files


def test_three_lines_say_what_was_trained_on_what(tmp_path):
    sections = {"scalarizer": PartSettings("tchebycheff", {"ideal": [0.0, 0.0]}), "seed": 7}
    files = read_run_files(write_run(tmp_path / "run", **sections))
    model, data, training = facts(files)
    assert model.text == "OWNER/model, frozen, with SVD-LoRA adapters of rank 8 + 4 for each objective"
    assert data.text == "OWNER/pairs, by the loader records: 41 pairs to train on, 13 pairs held out"
    assert training.text == (
        "dpo; scalarizer tchebycheff (ideal = [0.0, 0.0]); sampler of λ uniform; 1000 steps of 8 rows, seed 7"
    )


def test_epochs_and_a_model_of_this_machine(tmp_path):
    sections = {"model": ModelSettings(name="/home/me/secret/mine", revision="v2", quantization="4bit")}
    sections["training"] = TrainingSettings(epochs=1.5, batch_size=4, gradient_accumulation_steps=3)
    folder = write_run(tmp_path / "run", **sections, data=DataSettings(source="/home/me/records.jsonl"))
    (folder / "data.json").unlink()
    model, data, training = facts(read_run_files(folder))
    assert model.text.startswith("mine, revision v2, in 4bit, frozen")
    assert data.text == "records.jsonl, by the loader records"
    assert "1.5 epochs of 12 rows" in training.text
    demo = write_run(tmp_path / "demo", model=ModelSettings(name="demo"))
    assert facts(read_run_files(demo))[0].text.startswith("SmolLM2-135M-Instruct, ")


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", True),
        ("gpt2", True),
        ("/models/mine", False),
        ("./mine", False),
        ("~/mine", False),
        ("records.jsonl", False),
        ("data/pairs.csv.gz", False),
        ("a/b/c", False),
        ("two words", False),
        ("demo", False),
    ],
)
def test_hub_ids_are_told_from_paths(name, is_id):
    assert hub_id(name) == (name if is_id else None)


def test_a_folder_that_is_here_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "owner" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_id("owner/model") is None


def test_data_sets_of_a_hub_are_named(tmp_path):
    recipe = recipe_of(2, tmp_path)
    for data, names in (
        (DataSettings(source="OWNER/pairs"), ["OWNER/pairs"]),
        (DataSettings(source="/data/pairs.jsonl"), []),
        (DataSettings(source="pairs"), []),
        (DataSettings(loader="pku-saferlhf"), ["PKU-Alignment/PKU-SafeRLHF"]),
        (DataSettings(loader="hh-rlhf", source="/data/hh"), []),
        (DataSettings(loader="mine", source=None), []),
        (
            DataSettings(loader="preference-pairs", source={"helpful": "A/one", "harmless": "/b"}, test_source="A/two"),
            ["A/one", "A/two"],
        ),
        (DataSettings(source="A/one", test_source="A/one"), ["A/one"]),
    ):
        assert hub_sources(replace(recipe, data=data)) == names


def test_a_recipe_for_others_holds_no_path_and_no_prompt(tmp_path):
    recipe = recipe_of(
        2,
        tmp_path / "home" / "run",
        data=DataSettings(source={"a": "/home/me/a.jsonl", "b": "OWNER/b"}, options={"cache": "/home/me/cache"}),
        model=ModelSettings(name="/home/me/model", tokenizer="~/tokenizer"),
        rewards={"helpful": PartSettings("classifier", {"model": "/home/me/judge", "sign": 1})},
        objective=PartSettings("dpo", {"extra": {"file": "../x/y.txt"}}),
    )
    told = portable_recipe(recipe)
    text = recipe_text(told)
    assert "/home" not in text
    assert str(tmp_path) not in text
    assert "<script>" not in text
    assert told.data.source == {"a": "a.jsonl", "b": "OWNER/b"}
    assert (told.model.name, told.model.tokenizer) == ("model", "tokenizer")
    assert told.rewards["helpful"].options == {"model": "judge", "sign": 1}
    assert told.objective.options == {"extra": {"file": "y.txt"}}
    assert (told.training, told.adapter, told.seed) == (recipe.training, recipe.adapter, recipe.seed)


def test_the_convention_is_the_fronts_then_the_adapters_then_the_scalarizers(tmp_path):
    folder = write_run(tmp_path / "run", scalarizer=PartSettings("pbi", {"convention": "ray"}))
    assert preference_convention(read_run_files(folder)) == "importance"
    (folder / "front.json").unlink()
    assert preference_convention(read_run_files(folder)) == "importance"
    description = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    del description["preference_convention"]
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({**description, "format_version": 1}))
    assert preference_convention(read_run_files(folder)) == "unrecorded"
    (folder / "adapter" / "adapter_config.json").unlink()
    assert preference_convention(read_run_files(folder)) == "ray"


def test_rewards_are_asked_for_higher(tmp_path):
    files = read_run_files(write_run(tmp_path / "run", objective=PartSettings("rlhf")))
    assert "the higher the reward of objective i" in preference_sentences(files)[1]
    files = read_run_files(write_run(tmp_path / "losses"))
    assert "the lower the loss of objective i" in preference_sentences(files)[1]
    assert "(helpful, harmless)" in preference_sentences(files)[0]


def test_intervals_are_explained_where_there_are_any(tmp_path):
    with_, without = (read_run_files(write_run(tmp_path / str(flag), intervals=flag)) for flag in (True, False))
    assert "90 % interval" in interval_sentence(front_table(with_.front))
    assert interval_sentence(front_table(without.front)) is None


@given(st.integers(1, 12))
@settings(deadline=None)
def test_example_weights_are_a_preference(count):
    weights = example_weights(count)
    assert sum(weights) == pytest.approx(1, abs=1e-9)
    assert len(weights) == count
    assert max(weights) == weights[0]
    assert min(weights) > 0
    assert validate_preferences(weights, [f"objective {i}" for i in range(count)]).shape == (1, count)


def test_an_example_is_one_word_of_a_shell():
    assert example_preference(NAMES[:3]) == "helpful=0.5,harmless=0.25,brief=0.25"
    assert example_preference(("so so", "$(rm)")) == "'so so=0.7,$(rm)=0.3'"
