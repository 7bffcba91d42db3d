"""A run of every objective that recipes know: trained, evaluated, opened again, tried out, resumed, and refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _tiny_runs import answer_records, kind_sections, write_lines

from mopref import Front, ParetoTrainer
from mopref.recipes import RecipeError, evaluate, open_run, train
from mopref.recipes.inspection import inspect_data
from mopref.recipes.rows import KINDS
from mopref.recipes.run_folder import check_same_recipe
from mopref.recipes.training import prepare
from mopref.recipes.trial import try_out
from mopref.registry import OBJECTIVES

FEW = {"steps": 3, "checkpoint_every": None, "log_every": 1}
COLUMNS = {
    "preferences": {"accuracy_helpful", "accuracy_harmless", "margin_helpful", "margin_harmless"},
    "answers": {"accuracy_helpful", "accuracy_harmless"},
    "losses": set(),
    "rewards": {"kl", "standard_error_helpful", "standard_error_harmless", "truncated"},
}


@pytest.fixture
def load_kind(load, tmp_path):
    def make(kind, *flags, **sections):
        merged = kind_sections(kind, tmp_path)
        for name, section in sections.items():
            is_section = section and isinstance(section, dict) and isinstance(merged.get(name), dict)
            merged[name] = {**merged[name], **section} if is_section else section
        return load(*flags, **merged)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_trained_evaluated_and_opened_again(load_kind, kind, tmp_path):
    run = train(load_kind(kind, training=FEW))
    assert [entry["step"] for entry in run.history] == [1, 2, 3]
    assert type(run.objective) is OBJECTIVES[kind]
    front = evaluate(run)
    assert np.isfinite(front.values).all()
    sampled = {"kl", "sampled_length"} if KINDS[kind].front != "rewards" else set()
    bounds = {f"{name}_{bound}" for name in front.intervals for bound in ("low", "high")}
    assert COLUMNS[KINDS[kind].front] | sampled | {"mean_response_length"} == set(front.extra) - bounds
    assert front.maximize is (KINDS[kind].front == "rewards")
    again = open_run(run.folder, with_data=True)
    for row, own in zip(again.test_rows, run.test_rows, strict=True):
        assert all(
            torch.equal(torch.as_tensor(row[name]), torch.as_tensor(own[name])) for name in own if "_ids" in name
        )
    assert repr(again.objective) == repr(run.objective)
    opened = evaluate(again, folder=tmp_path / "again")
    assert (opened.values == front.values).all()
    for column, values in front.extra.items():
        assert (opened.extra[column] == values).all(), column
    assert (Front.load(run.folder / "front.json").values == front.values).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_of_every_kind_writes_nothing(load_kind, kind, tmp_path):
    report = try_out(load_kind(kind))
    assert report.endswith("Nothing was written.")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["kto", "online-dpo"])
def test_a_resumed_run_of_every_new_kind_is_the_uninterrupted_one(load_kind, kind, tmp_path, monkeypatch):
    training = {"steps": 5, "checkpoint_every": 3, "log_every": 1}
    whole = train(load_kind(kind, training=training, output=str(tmp_path / "whole")))
    save = ParetoTrainer.save_checkpoint

    def save_and_stop(trainer, folder):
        save(trainer, folder)
        raise KeyboardInterrupt

    recipe = load_kind(kind, training=training)
    monkeypatch.setattr(ParetoTrainer, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe)
    monkeypatch.undo()
    resumed = train(recipe, resume=True)
    assert resumed.history == whole.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_front_of_answers_is_the_objectives_own(load_kind):
    run = train(load_kind("kto", training=FEW))
    front = evaluate(run)
    preferences = torch.tensor(front.preferences, dtype=torch.float32)
    losses = run.objective.mean_losses(run.model.eval(), run.test_rows, preferences, 16)
    np.testing.assert_allclose(front.values, losses.numpy(), rtol=1e-5)
    # Without adapters h and z are 0: half of w_D for good answers, half of w_U for bad ones.
    labels = run.objective.labels(run.test_rows)
    good, bad = (labels == 1).sum(dim=0), (labels == 0).sum(dim=0)
    np.testing.assert_allclose(front.metadata["base_losses"], ((0.75 * good + 0.5 * bad) / (good + bad)), rtol=1e-5)


def test_mismatches_are_drawn_within_each_side(load_kind):
    run = train(load_kind("kto", training={**FEW, "steps": 1}))
    own = sorted(row["response_ids"] for row in run.test_rows)
    assert sorted(row["mismatched_response_ids"] for row in run.test_rows) == own
    assert any(row["mismatched_response_ids"] != row["response_ids"] for row in run.test_rows)


def test_labels_of_answers_are_counted(load_kind, tmp_path):
    records = [
        {"prompt": "red", "response": "cat", "helpful": 1, "harmless": 0},
        {"prompt": "red", "response": "dog here", "helpful": 0, "harmless": 0},
        {"prompt": "green red", "response": "cat", "helpful": 1, "harmless": -1},
        {"prompt": "here", "response": "cat", "helpful": 1, "harmless": 1},
    ]
    source = str(write_lines(records, tmp_path / "few.jsonl"))
    data = {"source": source, "test_source": source, "test_fraction": None, "max_response_length": 2}
    report = inspect_data(load_kind("kto", data=data))
    assert report.lines[:6] == [
        "train: 4 unpaired answers on 3 prompts; labelled on all objectives 3, with opposite labels 1",
        "train: helpful: 4 labelled (3 good, 1 bad), 0 not labelled",
        "train: harmless: 3 labelled (1 good, 2 bad), 1 not labelled",
        "train: helpful and harmless: 3 labelled on both, 2 agree, 1 conflict",
        "train: prompt tokens: median 4, most 5; 0 of 4 beyond the limit of 512",
        "train: response tokens: median 2, most 3; 1 of 4 beyond the limit of 2",
    ]
    assert report.rows[0].responses == ["cat </s>"]
    assert report.rows[0].labels == "helpful 1, harmless 0"


REWARDS = {name: {"name": "conciseness", "options": {"target_length": 2}} for name in ("helpful", "harmless")}


@pytest.mark.parametrize(
    ("kind", "sections", "message"),
    [
        (
            "kto",
            {"data": {"loader": "records"}},
            r"data\.loader is 'records', which reads pairs: the objective 'kto' learns from unpaired answers, so "
            r"choose one of unpaired-preferences, unpaired-records\.$",
        ),
        (
            "dpo",
            {"data": {"loader": "unpaired-records"}},
            r"data\.loader is 'unpaired-records', which reads unpaired answers: the objective 'dpo' learns from pairs, "
            r"so choose one of beavertails, graded-pairs, ",
        ),
        ("simpo", {"data": {"loader": "prompts"}}, r"data\.loader is 'prompts', .+ 'simpo' learns from pairs"),
        ("online-dpo", {"data": {"loader": "unpaired-records"}}, r"'online-dpo' learns from prompts, so choose one of"),
        (
            "sft",
            {"data": {"loader": "unpaired-records"}},
            r"'sft' learns from responses, so choose one of responses\.$",
        ),
        ("online-dpo", {"rewards": {}}, r"rewards\.helpful: this reward is missing; there are "),
        ("kto", {"rewards": REWARDS}, r"rewards: the objective 'kto' reads no rewards; leave them out"),
        (
            "kto",
            {"training": {"batch_size": 8, "preferences_per_step": 4}},
            r"training\.batch_size is 8 and preferences_per_step 4, which is 2 rows for a preference, but KTO needs 4",
        ),
        ("kto", {"objective": {"options": {"desirable_weight": 0}}}, r"objective\.options\.desirable_weight is 0"),
        ("kto", {"objective": {"options": {"weight": 1}}}, r"objective\.options\.weight: there is no such option"),
        ("simpo", {"objective": {"options": {"gamma": -1}}}, r"objective\.options\.gamma is -1\.0: it must be ≥ 0"),
        (
            "orpo",
            {"objective": {"options": {"weight": "x"}}},
            r"objective\.options\.weight is 'x': it must be a number",
        ),
        (
            "online-dpo",
            {"objective": {"options": {"sampling": {"temperature": -1}}}},
            r"objective\.options\.sampling\.temperature is -1",
        ),
        ("online-dpo", {"objective": {"options": {"algorithm": "ppo"}}}, r"objective\.options\.algorithm: there is no"),
        (
            "online-dpo",
            {"objective": {"options": {"seed": 3}}},
            r"objective\.options\.seed: the setting seed of the recipe says it",
        ),
        ("dpo", {"training": {"optimizer": "adam"}}, r"training\.optimizer is 'adam': it must be 'adamw' or"),
        (
            "dpo",
            {"training": {"optimizer": "paged-adamw-8bit"}},
            r"training\.optimizer is 'paged-adamw-8bit', and checkpoint_every is 4: .+ leave one of them out",
        ),
    ],
)
def test_mistakes_of_every_kind_are_sentences(load_kind, kind, sections, message):
    with pytest.raises(RecipeError, match=message):
        load_kind(kind, **sections)


def test_what_the_held_out_rows_cannot_be_measured_on_is_refused_before_the_model_is_loaded(
    load_kind, tmp_path, monkeypatch
):
    monkeypatch.setattr("mopref.recipes.training.adapted_model", None)
    few = str(write_lines(answer_records(3), tmp_path / "few.jsonl"))
    with pytest.raises(ValueError, match=r"there are 3 rows to evaluate on, and KTO needs 4: give more data"):
        train(load_kind("kto", data={"test_source": few, "test_fraction": None}))
    silent = [{**record, "harmless": -1} for record in answer_records(8)]
    one_sided = str(write_lines(silent, tmp_path / "silent.jsonl"))
    with pytest.raises(ValueError, match=r"none of the rows to evaluate on is labelled on 'harmless': give more data"):
        train(load_kind("kto", data={"test_source": one_sided, "test_fraction": None}))
    bad = str(write_lines([{**answer_records(1)[0], "helpful": 2}], tmp_path / "bad.jsonl"))
    with pytest.raises(ValueError, match=r"row 0, column 'helpful': the label is 2 .+ neither 1 \(good\)"):
        train(load_kind("kto", data={"source": bad}))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_composes_its_batch_as_the_training_does(load_kind, tmp_path):
    """The first half is labelled on one objective only, the second on the other."""
    records = answer_records(40)
    halves = [
        {**record, "helpful": record["helpful"] if index < 20 else -1, "harmless": 1 if index >= 20 else -1}
        for index, record in enumerate(records)
    ]
    source = str(write_lines(halves, tmp_path / "halves.jsonl"))
    assert try_out(load_kind("kto", data={"source": source})).endswith("Nothing was written.")


def test_an_optimizer_that_cannot_work_is_refused_before_anything_is_read(load_kind, monkeypatch):
    pytest.importorskip("bitsandbytes")
    recipe = load_kind("dpo", training={"optimizer": "paged-adamw-8bit", "checkpoint_every": None})
    monkeypatch.setattr("mopref.recipes.training.read_data", None)
    with pytest.raises(RecipeError, match=r"^training\.optimizer is 'paged-adamw-8bit': it moves its averages"):
        train(recipe)


def test_a_recipes_optimizer_is_the_trainers(load_kind):
    pytest.importorskip("bitsandbytes")
    run = train(load_kind("dpo", training={**FEW, "optimizer": "adamw-8bit"}))
    assert open_run(run.folder).recipe.training.optimizer == "adamw-8bit"
    recipe = replace(run.recipe, training=replace(run.recipe.training, optimizer="adamw"))
    with pytest.raises(
        RecipeError, match=r"^training\.optimizer is 'adamw', and the run in .+ begun with 'adamw-8bit'"
    ):
        check_same_recipe(run.folder, recipe, run.recipe)
    trainer = prepare(replace(run.recipe, output="nowhere")).trainer()
    assert type(trainer.optimizer.optimizer).__name__ == "AdamW8bit"


def test_a_normalized_scalarizer_is_trained_with(load_kind):
    scalarizer = {
        "name": "normalized",
        "options": {"scalarizer": {"name": "tchebycheff", "options": {"ideal": [0, 0]}}, "nadir": [1.5, 1.5]},
    }
    run = train(load_kind("dpo", scalarizer=scalarizer, training=FEW))
    assert repr(run.scalarizer).startswith(
        "Normalized(scalarizer=Tchebycheff(ideal=[0.0, 0.0]), ideal=None, nadir=[1.5"
    )
    assert run.scalarizer.ideal_point is not None
    assert repr(open_run(run.folder).scalarizer) == repr(run.scalarizer)
