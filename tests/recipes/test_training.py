"""A recipe trains what the same calls by hand train, bit for bit, and a run's folder holds what runs it again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from _tiny_runs import pair_records, write_lines

from mopref import Front, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.llm.data import split_by_prompt, tokenize_records
from mopref.llm.evaluation import preference_front
from mopref.llm.policy import answer_prompts
from mopref.objectives import DPO
from mopref.recipes import RecipeError, RunFolderError, load_recipe, open_run, train
from mopref.recipes.training import prepare
from mopref.samplers import VertexBiasedSampler
from mopref.scalarizers import Tchebycheff

NAMES = ("helpful", "harmless")


def test_a_recipe_is_the_same_as_its_calls_by_hand(trained, tiny):
    from transformers import AutoTokenizer

    config = SVDLoRAConfig(NAMES, rank=4, layers=(-2, -1), seed=0)
    model = PreferenceModel.from_pretrained(str(tiny / "model"), config, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    objective = DPO(NAMES)
    train_rows, test_rows = (
        objective.precompute(model, tokenize_records(tokenizer, part, NAMES), frozen_layers="auto")
        for part in split_by_prompt(pair_records(), 0.25, seed=0)
    )
    settings = {"steps": 6, "batch_size": 4, "preferences_per_step": 1, "learning_rate": 1e-2, "log_every": 2}
    trainer = ParetoTrainer(
        model,
        objective,
        Tchebycheff(ideal=[0.0, 0.0]),
        sampler=VertexBiasedSampler(NAMES, vertex_probability=0.5),
        train_data=train_rows,
        config=TrainerConfig(**settings, seed=0, cpu=True, progress=False),
    )
    trainer.train()
    assert trained.history == trainer.history
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.model.state_dict()[name]), name

    preferences = simplex_lattice(2, 3)
    prompts = ["red cat", "blue dog"]
    answers = answer_prompts(model, tokenizer, prompts * 3, preferences.repeat_interleave(2, dim=0), max_new_tokens=4)
    front = preference_front(model, objective, test_rows, preferences)
    saved = Front.load(trained.folder / "front.json")
    assert (saved.values == front.values).all()
    assert (saved.preferences == front.preferences).all()
    assert (saved.extra["accuracy_helpful"] == front.extra["accuracy_helpful"]).all()
    lengths = [(answers[2 * point].num_tokens + answers[2 * point + 1].num_tokens) / 2 for point in range(3)]
    assert saved.extra["mean_response_length"].tolist() == lengths
    entries = json.loads((trained.folder / "answers.json").read_text())
    assert [entry["answer"] for entry in entries] == [answer.text for answer in answers]


def test_the_folder_holds_the_run(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert names == {
        "recipe.yaml",
        "versions.json",
        "data.json",
        "log.jsonl",
        "checkpoint-4",
        "checkpoint-6",
        "adapter",
        "front.json",
        "front.csv",
        "front.png",
        "answers.json",
    }
    log = [json.loads(line) for line in (trained.folder / "log.jsonl").read_text().splitlines()]
    assert log == trained.history
    assert [entry["step"] for entry in log] == [2, 4, 6]


def test_the_folders_recipe_runs_the_run_again(trained, tmp_path):
    recipe = load_recipe(trained.folder / "recipe.yaml", ["--output", str(tmp_path / "again")])
    again = train(recipe)
    assert again.history == trained.history
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_a_run_begun_by_relative_paths_is_opened_from_anywhere(load, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny)
    recipe = load(model={"name": "model"}, data={"source": "records.jsonl"}, training={"steps": 4})
    run = train(recipe)
    # The same recipe, said in the same words, goes on with it.
    with pytest.warns(UserWarning, match="learning rate"):
        assert train(replace(recipe, training=replace(recipe.training, steps=5)), resume=True).history[-1]["step"] == 5
    monkeypatch.chdir(tmp_path)
    assert len(open_run(run.folder, with_data=True).test_rows) == len(run.test_rows)


@pytest.mark.parametrize("are_data_moved", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(load, trained, tmp_path, monkeypatch, are_data_moved):
    recipe = load(output=str(tmp_path / "broken"))
    save = ParetoTrainer.save_checkpoint

    def save_and_stop(trainer, folder):
        save(trainer, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(ParetoTrainer, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe)
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "adapter").exists()
    with pytest.raises(RecipeError, match=r"output is .+, which holds a run already"):
        train(recipe)
    if are_data_moved:
        source = shutil.copy(recipe.data.source, tmp_path / "moved.jsonl")
        recipe = replace(recipe, data=replace(recipe.data, source=str(source)))
    resumed = train(recipe, resume=True)
    assert resumed.history == trained.history
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert (tmp_path / "broken" / "log.jsonl").read_bytes() == (trained.folder / "log.jsonl").read_bytes()


def test_another_recipe_or_other_data_do_not_resume_a_run(load, trained, tmp_path, tiny):
    recipe = replace(trained.recipe, seed=1)
    with pytest.raises(RecipeError, match=r"^seed is 1, and the run in .+ was begun with 0"):
        train(recipe, resume=True)
    source = write_lines(pair_records(), tmp_path / "records.jsonl")
    begun = load(data={"source": str(source)}, training={"steps": 4})
    train(begun)
    write_lines([*pair_records()[1:], pair_records()[0]], source)
    with pytest.raises(RunFolderError, match=r"the data of the run in .+ have changed"):
        train(begun, resume=True)


def test_nothing_is_written_before_everything_is_checked(load, tmp_path):
    bad = pair_records()
    bad[7]["harmless"] = 3
    source = write_lines(bad, tmp_path / "bad.jsonl")
    with pytest.raises(ValueError, match=r"row 7, column 'harmless'"):
        train(load(data={"source": str(source)}))
    with pytest.raises(RecipeError, match=r"^model\.name is .+: nothing could be loaded"):
        train(load(model={"name": str(tmp_path / "none")}))
    with pytest.raises(ValueError, match="tracker"):
        train(load(training={"trackers": ["nonsense"]}))
    assert not (tmp_path / "run").exists()


def test_batches_that_cannot_be_are_refused_before_the_model_is_loaded(load, monkeypatch):
    monkeypatch.setattr("mopref.recipes.training.adapted_model", None)
    with pytest.raises(RecipeError, match=r"^training.batch_size: a preference group has 1 rows .+ use larger batches"):
        prepare(load(training={"batch_size": 4, "preferences_per_step": 4}))


def test_prompts_too_long_to_answer_are_refused_before_the_references_are_computed(load, monkeypatch):
    def refuse(_):
        raise ValueError("too long")

    monkeypatch.setattr("mopref.recipes.training.precomputed", None)
    monkeypatch.setattr("mopref.recipes.training.check_prompts", refuse)
    with pytest.raises(RecipeError, match=r"^evaluation.max_new_tokens.*too long"):
        prepare(load())


def test_rows_can_be_computed_later(load):
    at_once, later = prepare(load()), prepare(load(), precompute=False)
    assert "reference_log_probabilities" not in later.train_rows[0]
    computed = later.precomputed()
    for side in ("train_rows", "test_rows"):
        for one, other in zip(getattr(at_once, side), getattr(computed, side), strict=True):
            assert one["reference_log_probabilities"] == other["reference_log_probabilities"]


def test_what_is_done_is_told(load):
    lines = []
    prepare(load(), lines.append)
    assert lines[0].startswith("train: ")
    assert "labelled on all objectives" in lines[0]
    assert lines[1].startswith("held out: ")


def test_a_second_run_finds_the_references_of_the_first(load, tmp_path, monkeypatch):
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path / "cache"))
    lines: list[str] = []
    first = prepare(load(), lines.append)
    assert [line.split(":")[0] for line in lines[-2:]] == ["Kept in the cache"] * 2
    second = prepare(load(seed=0), lines.append)
    assert [line.split(":")[0] for line in lines[-2:]] == ["Found in the cache"] * 2
    for one, other in zip(first.train_rows, second.train_rows, strict=True):
        assert one["reference_log_probabilities"] == other["reference_log_probabilities"]
    off = prepare(load(training={"cache_references": False}), lines.append)
    assert "cache" not in lines[-1]
    assert off.train_rows[0]["reference_log_probabilities"] == first.train_rows[0]["reference_log_probabilities"]


def test_styles_are_trained_too(load, tmp_path):
    rows = [
        {"prompt": f"{place} red {place}", "response": f"{style} {place}", "dimension": name}
        for place in ("here", "there", "now", "then")
        for style, name in (("cat", "helpful"), ("dog", "harmless"))
    ]
    source = write_lines(rows, tmp_path / "styles.jsonl")
    data = {"source": str(source), "loader": "responses"}
    run = train(load(data=data, objective="sft", training={"checkpoint_every": None}))
    assert len(run.history) == 3
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["objective"]["name"] == "sft"


def test_evaluating_on_changed_data_is_refused(load, tiny, tmp_path):
    source = write_lines(pair_records(), tmp_path / "own.jsonl")
    run = train(load(data={"source": str(source)}))
    write_lines(pair_records(60), source)
    with pytest.raises(RunFolderError, match=r"the data of the run in .+ have changed since it was begun"):
        open_run(run.folder, with_data=True)
    assert open_run(run.folder).step == 6
    write_lines(pair_records(), source)
    assert open_run(run.folder, with_data=True).test_rows


def test_a_finished_run_is_not_resumed(load):
    run = train(load())
    before = (run.folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    with pytest.raises(RunFolderError, match="is finished, after 6 steps: nothing is left to resume"):
        train(run.recipe, resume=True)
    assert (run.folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before
    longer = train(load("--training.steps", "8"), resume=True)
    assert longer.step == 8
    assert [entry["step"] for entry in longer.history][-1] == 8


def test_of_two_runs_that_begin_in_one_folder_one_is_refused(load, monkeypatch):
    from mopref.recipes import training

    prepare = training.prepare

    def overtaken(recipe, tell):
        ready = prepare(recipe, tell)
        folder = Path(recipe.output)
        folder.mkdir()
        (folder / "recipe.yaml").write_text("of the other")
        return ready

    monkeypatch.setattr(training, "prepare", overtaken)
    recipe = load()
    with pytest.raises(RecipeError, match="where another run has begun"):
        train(recipe)
    assert [path.name for path in Path(recipe.output).iterdir()] == ["recipe.yaml"]
    assert (Path(recipe.output) / "recipe.yaml").read_text() == "of the other"


@pytest.mark.parametrize(
    ("every", "told"), [(4, "resume it with --resume, from step 4"), (None, "nothing can be resumed, since")]
)
def test_an_interrupted_run_says_how_to_go_on(load, monkeypatch, every, told):
    step = ParetoTrainer._descend_once

    def interrupted(trainer):
        if trainer.step == 5:
            raise KeyboardInterrupt
        return step(trainer)

    monkeypatch.setattr(ParetoTrainer, "_descend_once", interrupted)
    lines = []
    with pytest.raises(KeyboardInterrupt):
        train(load(training={"checkpoint_every": every}), tell=lines.append)
    assert lines[-1].startswith("Interrupted at step 5 of 6; the run is in ")
    assert told in lines[-1]


def test_rows_that_are_refused_are_counted_as_in_their_source(load, tiny, tmp_path):
    records = pair_records()
    records[20]["helpful"] = 7
    source = write_lines(records, tmp_path / "own.jsonl")
    with pytest.raises(RecipeError, match=r"data\.source: .*row 20, column 'helpful'"):
        train(load(data={"source": str(source)}))
    good = write_lines(pair_records(), tmp_path / "good.jsonl")
    with pytest.raises(RecipeError, match=r"data\.test_source: .*row 20, column 'helpful'"):
        train(load(data={"source": str(good), "test_source": str(source), "test_fraction": None}))


def test_held_out_prompts_that_are_trained_on_are_told(load, tiny):
    lines = []
    source = str(tiny / "records.jsonl")
    train(load(data={"source": source, "test_source": source, "test_fraction": None}), tell=lines.append)
    assert any(
        line.startswith("warning: 40 of 40 held-out records have a prompt of the training data") for line in lines
    )


@pytest.mark.parametrize("recipe", [None, {}, "recipe.yaml"])
def test_only_a_recipe_is_trained(recipe):
    with pytest.raises(TypeError, match=r"recipe is .*: give a Recipe"):
        train(recipe)
