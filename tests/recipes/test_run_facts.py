"""What is said of a run: only what its folder tells, and no path of the machine."""

import json
from dataclasses import asdict, replace

import pytest
from _run_folders import NAMES, recipe_of, write_run
from hypothesis import given, settings, strategies as st

from mopref import Front
from mopref.preferences import validate_preferences
from mopref.recipes import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    MonitoringSettings,
    PartSettings,
    TrainingSettings,
    recipe_text,
)
from mopref.recipes.front_table import front_table
from mopref.recipes.run_facts import (
    column_meanings,
    example_preference,
    example_weights,
    facts,
    hub_id,
    hub_sources,
    interval_sentence,
    meaning_of_preference,
    outdated_sentence,
    portable_recipe,
    preference_convention,
    preference_sentences,
    selection_sentence,
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
        evaluation=EvaluationSettings(judges={"helpful": PartSettings("classifier", {"model": "/home/me/other"})}),
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
    assert told.evaluation.judges["helpful"].options == {"model": "other"}
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


def test_the_pull_is_told_as_what_it_is(tmp_path):
    """Here the last of the two objectives."""
    objective = PartSettings("rlhf", {"pull": "harmless"})
    files = measured_files(tmp_path / "run", ["kl"], objective=objective)
    assert "harmless is the pull to the base model: the larger its λ, the nearer to it." in preference_sentences(files)
    first, second, *_ = column_meanings(files)
    assert (first.label, second.label) == ("helpful", "harmless")
    assert first.text.startswith("mean reward")
    assert second.text.startswith("−KL from the base model, in nats for an answer, from the sampled answers")


@pytest.mark.parametrize(
    ("convention", "end"),
    [("importance", "At λ_i = 0 objective i counted for nothing"), ("ray", "At λ_i = 1 it asks for")],
)
def test_the_end_at_which_the_model_is_worse_on_purpose_is_told(convention, end):
    (first, meaning) = meaning_of_preference(("helpful", "harmless"), convention)
    assert "(helpful, harmless)" in first
    assert f"{end}" in meaning
    assert "that model is deliberately worse by it, and where the objective stands for safety, less safe" in meaning
    assert "deliberately" not in meaning_of_preference(("a", "b"), "unrecorded")[1]


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


def run_with(folder, steps, count=2, **sections):
    """The files of a run whose file of versions also tells these steps."""
    folder = write_run(folder, count, **sections)
    versions = json.loads((folder / "versions.json").read_text())
    (folder / "versions.json").write_text(json.dumps({**versions, **steps}))
    return read_run_files(folder)


BEST = MonitoringSettings(evaluation_every=5, keep_best=True)


@pytest.mark.parametrize(
    ("steps", "monitoring", "text"),
    [
        ({}, MonitoringSettings(), None),
        ({"steps": 1000, "adapter_step": 1000}, MonitoringSettings(), None),
        ({"steps": 9, "adapter_step": 7}, MonitoringSettings(), "of step 7 of the 9 that were trained"),
        ({"adapter_step": 7}, MonitoringSettings(), "of step 7"),
        (
            {"steps": 9, "adapter_step": 7},
            BEST,
            "of step 7 of the 9 that were trained, at which the held-out hypervolume was largest",
        ),
        (
            {"steps": 9, "adapter_step": 9},
            BEST,
            "of step 9, the last of 9, at which the held-out hypervolume was largest",
        ),
        ({}, BEST, "of a step that is not recorded, at which the held-out hypervolume was largest"),
    ],
)
def test_the_adapters_step_is_told_where_it_is_not_simply_the_last(steps, monitoring, text, tmp_path):
    lines = {fact.label: fact.text for fact in facts(run_with(tmp_path / "run", steps, monitoring=monitoring))}
    assert lines.get("Adapter") == text


def test_an_unfinished_run_has_no_adapter_to_tell_of(tmp_path):
    folder = write_run(tmp_path / "run", monitoring=BEST)
    (folder / "adapter" / "adapter_config.json").unlink()
    files = read_run_files(folder)
    assert "Adapter" not in [fact.label for fact in facts(files)]
    assert selection_sentence(files) is None


def test_a_training_that_ended_early_says_after_how_many_steps(tmp_path):
    assert "; 40 of 1000 steps of 8 rows" in facts(run_with(tmp_path / "early", {"steps": 40}))[2].text
    assert "; 1000 steps of 8 rows" in facts(run_with(tmp_path / "whole", {"steps": 1000}))[2].text
    epochs = run_with(tmp_path / "epochs", {"steps": 12}, training=TrainingSettings(epochs=1.5))
    assert "; 1.5 epochs asked for, 12 steps of 8 rows" in facts(epochs)[2].text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, None),
        ({"keep_best": True}, ("adapter was chosen", "on the same held-out rows as the front's figures")),
        (
            {"keep_best": True, "rows": 5},
            ("adapter was chosen", "on held-out rows that are among those of the front's"),
        ),
        ({"patience": 2}, ("When the training ended was decided", "flatters these")),
    ],
)
def test_a_choice_on_held_out_rows_is_told(settings, words, tmp_path):
    monitoring = MonitoringSettings(evaluation_every=5, **settings)
    sentence = selection_sentence(read_run_files(write_run(tmp_path / "run", monitoring=monitoring)))
    assert (sentence is None) == (words is None)
    assert all(word in sentence for word in words or ())


@pytest.mark.parametrize(("measured", "is_outdated"), [(None, False), (7, False), (5, True)])
def test_a_front_of_another_step_is_outdated(measured, is_outdated, tmp_path):
    files = run_with(tmp_path / "run", {"steps": 9, "adapter_step": 7})
    files.front.metadata["step"] = measured
    sentence = outdated_sentence(files)
    assert (sentence is not None) == is_outdated
    if is_outdated:
        assert sentence == "The front was measured at step 5, and the adapter is of step 7: it is outdated."
    assert outdated_sentence(replace(files, adapter_step=None)) is None


def measured_files(folder, columns, metadata=None, **sections):
    """The files of a run whose front has these extra columns."""
    folder = write_run(folder, 2, **sections)
    front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], NAMES[:2], extra={name: [1.0, 2.0] for name in columns})
    front.metadata = metadata or {}
    front.save(folder / "front.json")
    return read_run_files(folder)


def test_only_columns_that_are_there_are_explained(tmp_path):
    files = measured_files(
        tmp_path / "run", ["kl", "kl_low", "kl_high", "accuracy_helpful", "accuracy_harmless", "note"]
    )
    assert [meaning.label for meaning in column_meanings(files)] == ["helpful, harmless", "accuracy", "kl"]
    every = ["win_rate_harmless", "truncated", "mean_response_length", "sampled_length", "standard_error_helpful"]
    files = measured_files(tmp_path / "all", [*every, "margin_helpful"])
    assert {meaning.label for meaning in column_meanings(files)[1:]} == {
        "win rate harmless",
        "truncated",
        "mean response length",
        "sampled length",
        "standard error",
        "margin",
    }
    (tmp_path / "all" / "front.json").unlink()
    assert column_meanings(read_run_files(tmp_path / "all")) == []


def test_columns_are_explained_by_the_numbers_of_their_evaluation(tmp_path):
    judges = {"helpful": PartSettings("classifier", {"model": "/home/me/judge"})}
    evaluation = EvaluationSettings(sampled_prompts=9, prompts=("a", "b", "c"), judges=judges)
    columns = ["kl", "sampled_length", "mean_response_length", "win_rate_helpful", "win_rate_harmless"]
    files = measured_files(tmp_path / "run", columns, evaluation=evaluation)
    told = {meaning.label: meaning.text for meaning in column_meanings(files)}
    assert told["helpful, harmless"] == "mean dpo loss of each objective over the held-out pairs labelled on it"
    assert "in nats" in told["kl"]
    assert "may come out below 0, from sampled answers to 9 held-out prompts, one each" in told["kl"]
    assert told["sampled length"] == "mean length in tokens of sampled answers to 9 held-out prompts, one each"
    assert "tokens of the greedy answers to the 3 prompts of the recipe" in told["mean response length"]
    assert "that the judge classifier (model = judge) prefers to the base model's" in told["win rate helpful"]
    assert "a draw counts ½" in told["win rate helpful"]
    assert "that a judge prefers" in told["win rate harmless"]
    # The front's own record is of the evaluation that it was measured by.
    metadata = {"recipe": {"evaluation": asdict(replace(evaluation, sampled_prompts=4))}}
    files = measured_files(tmp_path / "again", columns, metadata, evaluation=evaluation)
    assert "to 4 held-out prompts" in column_meanings(files)[1].text
    files = measured_files(tmp_path / "damaged", columns, {"recipe": {"evaluation": 3}}, evaluation=evaluation)
    assert "to 9 held-out prompts" in column_meanings(files)[1].text


@pytest.mark.parametrize(
    ("asked", "rows", "told"), [(32, 13, "13"), (32, 12, "up to 13"), (12, 12, "12"), (12, 13, "12")]
)
def test_no_more_prompts_are_told_than_there_are(asked, rows, told, tmp_path):
    files = measured_files(tmp_path / "run", ["kl"], evaluation=EvaluationSettings(sampled_prompts=asked))
    tree = json.loads((tmp_path / "run" / "data.json").read_text())
    tree["sides"][1]["rows"] = rows
    (tmp_path / "run" / "data.json").write_text(json.dumps(tree))
    assert f"sampled answers to {told} held-out prompts" in column_meanings(read_run_files(files.folder))[1].text
    (tmp_path / "run" / "data.json").unlink()
    assert f"answers to up to {asked} held-out prompts" in column_meanings(read_run_files(files.folder))[1].text


def test_columns_of_answers_and_of_rewards_are_told_as_theirs(tmp_path):
    files = measured_files(tmp_path / "kto", ["accuracy_helpful"], objective=PartSettings("kto"))
    value, accuracy = (meaning.text for meaning in column_meanings(files))
    assert value == "mean kto loss of each objective over the held-out unpaired answers labelled on it"
    assert "share of the held-out answers" in accuracy
    columns = ["standard_error_helpful", "kl", "mean_response_length", "truncated", "win_rate_helpful"]
    files = measured_files(tmp_path / "rlhf", columns, objective=PartSettings("rlhf"))
    told = {meaning.label: meaning.text for meaning in column_meanings(files)}
    assert "mean reward of each objective" in told["helpful, harmless"]
    assert "the sampled answers that the rewards are of" in told["kl"]
    assert "greedy" not in told["mean response length"]
    assert "cut at the length limit" in told["truncated"]
    files = measured_files(tmp_path / "mine", [], objective=PartSettings("mine"))
    assert column_meanings(files)[0].text == "mean mine loss of each objective over the held-out rows"
