"""Parts are made before any model or data is loaded, and what they refuse is named."""

from dataclasses import replace

import pytest
import torch

from mopref.gradients import EPO
from mopref.objectives import DPO, SFT
from mopref.recipes import DataSettings, EvaluationSettings, PartSettings, Recipe, RecipeError, TrainingSettings
from mopref.recipes.parts import make_objective, make_parts, trainer_config
from mopref.samplers import ConeSampler, VertexBiasedSampler
from mopref.scalarizers import Tchebycheff


def test_parts_are_those_of_the_recipe(load):
    parts = make_parts(load(sampler={"name": "vertex-biased", "options": {"vertex_probability": 0.5}}, seed=3))
    assert isinstance(parts.scalarizer, Tchebycheff)
    assert isinstance(parts.sampler, VertexBiasedSampler)
    assert parts.sampler.names == ("helpful", "harmless")
    assert (parts.adapter.objectives, parts.adapter.seed, parts.adapter.rank) == (("helpful", "harmless"), 3, 4)
    assert parts.preferences.tolist() == [[0, 1], [0.5, 0.5], [1, 0]]
    assert parts.device == torch.device("cpu")


def test_nothing_is_loaded(load):
    make_parts(load(data={"source": "nowhere.jsonl"}, model={"name": "nowhere/nothing"}))


def test_a_gradient_weighting_may_stand_in_place_of_a_scalarizer(load):
    recipe = load("--scalarizer.name", "epo")
    assert isinstance(make_parts(recipe).scalarizer, EPO)


def test_preferences_may_be_said_by_name(load):
    given = [{"harmless": 0.25, "helpful": 0.75}]
    parts = make_parts(load(evaluation={"preferences": given, "points": None}))
    assert parts.preferences.tolist() == [[0.75, 0.25]]


def test_objectives_take_the_recipes_names(load):
    assert isinstance(make_objective(load(), None), DPO)
    recipe = Recipe(("x", "y"), objective=PartSettings("sft", {"length_normalized": True}))
    objective = make_objective(recipe, None)
    assert isinstance(objective, SFT)
    assert objective.names == ("x", "y")


@pytest.mark.parametrize(("epochs", "rows", "steps"), [(1, 32, 4), (2, 32, 8), (0.5, 32, 2), (1, 33, 5), (0.01, 32, 1)])
def test_epochs_become_steps(epochs, rows, steps):
    training = TrainingSettings(epochs=epochs, batch_size=4, preferences_per_step=2, gradient_accumulation_steps=2)
    assert trainer_config(training, rows, seed=1).steps == steps


def test_the_trainers_settings_are_the_recipes():
    training = TrainingSettings(steps=7, learning_rate=0.5, checkpoint_every=3, trackers=("tensorboard",))
    config = trainer_config(training, 8, seed=5, output_dir="folder", cpu=True)
    assert (config.steps, config.learning_rate, config.checkpoint_every, config.seed) == (7, 0.5, 3, 5)
    assert (config.trackers, config.output_dir, config.cpu) == (("tensorboard",), "folder", True)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"objective": "reinforce"}, r"objective\.name is 'reinforce': recipes know no such objective; there are dpo"),
        ({"objective": "zdt1"}, r"objective\.name is 'zdt1': recipes know no such objective"),
        (
            {"objective": {"name": "dpo", "options": {"names": ["a"]}}},
            r"objective\.options\.names: the setting objectives",
        ),
        ({"training": {"preferences_per_step": 3}}, r"training\.batch_size is 4: preferences_per_step = 3"),
        ({"evaluation": {"reference_point": [1, 1, 1]}}, r"evaluation\.reference_point: a point has 3 numbers"),
        (
            {"scalarizer": {"name": "tchebycheff", "options": {"ideal": [0]}}},
            r"scalarizer\.options: ideal has 1 numbers, but there are 2 objectives: give one for each",
        ),
        ({"objectives": ["a:b", "c"]}, r"objectives: the objective 'a:b' cannot name a folder"),
        ({"output": " "}, r"output is ' ', which names no folder: give its path"),
        ({"seed": 2**70}, r"seed is 1180591620717411303424: it must be at least 0 and less than 2³²"),
        ({"model": {"device": "meta"}}, r"model\.device is 'meta': PyTorch sees no such device here"),
        ({"model": {"device": "cuda:77"}}, r"model\.device is 'cuda:77': PyTorch sees no such device here"),
        ({"model": {"device": "fridge"}}, r"model\.device is 'fridge': choose auto, cpu, cuda"),
        ({"data": {"max_prompt_length": 0}}, r"data\.max_prompt_length is 0: nothing would be left"),
        ({"rewards": {"helpful": "sentiment"}}, r"rewards: the objective 'dpo' reads no rewards; leave them out"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(load, sections, message):
    with pytest.raises(RecipeError, match=message):
        load(**sections)


def test_a_run_that_is_there_is_opened_under_any_name(load):
    recipe = replace(load(), objectives=("a:b", "c"))
    assert make_parts(recipe, for_training=False).adapter.objectives == ("a:b", "c")
    with pytest.raises(RecipeError, match="cannot name a folder"):
        make_parts(recipe)


def test_rlhf_is_tried_without_a_tokenizer(load):
    rewards = {"helpful": "sentiment", "harmless": {"name": "conciseness", "options": {"target_length": 5}}}
    options = {"sampling": {"max_new_tokens": 4, "temperature": 0.5}, "algorithm": "grpo"}
    load(objective={"name": "rlhf", "options": options}, rewards=rewards)
    with pytest.raises(RecipeError, match=r"objective\.options\.sampling\.temperature is -1\.0: it must be positive"):
        load(objective={"name": "rlhf", "options": {"sampling": {"temperature": -1}}}, rewards=rewards)
    with pytest.raises(RecipeError, match=r"objective\.options.* unknown .*algorithm 'pppo'"):
        load(objective={"name": "rlhf", "options": {"algorithm": "pppo"}}, rewards=rewards)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"options": {"pull": "close", "beta": 0}}, r"objective\.options\.beta is 0\.0, and pull 'close' is β·KL"),
        (
            {"options": {"pull": "close", "normalization": "group"}},
            r"objective\.options\.normalization is 'group', and",
        ),
        ({"options": {"pull": 3}}, r"objective\.options\.pull is 3: it must be a text or null"),
        ({"options": {"pull": ""}}, r"objective\.options\.pull is '', which names nothing"),
        ({"name": "online-dpo", "options": {"pull": "close"}}, r"objective\.options\.pull: there is no such option"),
        ({}, r"rewards\.close: this reward is missing"),
    ],
)
def test_a_pull_is_refused_by_its_key(load, sections, message):
    rewards = {"helpful": "sentiment", "harmless": "sentiment"}
    names = ["helpful", "harmless", "close"]
    with pytest.raises(RecipeError, match=message):
        load(objectives=names, objective={"name": "rlhf", **sections}, rewards=rewards, evaluation=THREE)


THREE = {"points": 6, "reference_point": [0, 0, -9]}


def test_the_cone_is_drawn_for_a_pull_only(load):
    rewards = {"helpful": "sentiment", "harmless": "sentiment"}
    names, scalarizer = ["helpful", "harmless", "close"], {"name": "linear", "options": {}}
    sections = {"rewards": rewards, "objective": {"name": "rlhf", "options": {"pull": "close"}}, "sampler": "cone"}
    recipe = load(objectives=names, scalarizer=scalarizer, evaluation=THREE, **sections)
    sampler = make_parts(recipe).sampler
    assert isinstance(sampler, ConeSampler)
    assert sampler.names == tuple(names)
    with pytest.raises(RecipeError, match=r"scalarizer\.name is 'smooth-tchebycheff', and .* with linear only"):
        load(objectives=names, scalarizer={"name": "smooth-tchebycheff", "options": {}}, evaluation=THREE, **sections)
    with pytest.raises(
        RecipeError, match=r"sampler\.name is 'cone', .* but 'harmless' is none: give rlhf's option pull"
    ):
        load(sampler="cone")
    assert make_parts(replace(load(), sampler=PartSettings("cone")), for_training=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nadir": [1, 1, 1]}, r"scalarizer\.options: nadir has 3 numbers, but there are 2 objectives"),
        ({"scalarizer": {"name": "tchebycheff", "options": {"ideal": [0]}}}, r"ideal has 1 numbers, but there are 2"),
        ({"ideal": [1, 1], "nadir": [1, 2]}, r"scalarizer\.options: nadir's entry 0 is 1, not above ideal's 1"),
    ],
)
def test_points_of_a_normalized_scalarizer_are_of_all_objectives(load, options, message):
    with pytest.raises(RecipeError, match=message):
        load(scalarizer={"name": "normalized", "options": {"scalarizer": "linear", **options}})


@pytest.mark.parametrize(("points", "told"), [(5, "choose 3 or 6"), (11, "choose 10 or 15")])
def test_points_that_no_lattice_has_are_refused(points, told):
    data = DataSettings(source="records.jsonl")
    recipe = Recipe(("a", "b", "c"), data=data, evaluation=EvaluationSettings(points=points))
    with pytest.raises(RecipeError, match=rf"^evaluation\.points is {points}: .+ 3 objectives .+, so {told}"):
        make_parts(recipe)
    assert len(make_parts(Recipe(("a", "b", "c"), data=data)).preferences) == 6


def launched(monkeypatch, processes, place="1"):
    for name, value in (("RANK", place), ("LOCAL_RANK", place), ("WORLD_SIZE", str(processes))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mopref.recipes.parts.process_count", lambda: processes)


def test_each_of_several_processes_has_a_gpu_of_its_own(load, monkeypatch):
    launched(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RecipeError, match=r"model\.device is 'cuda:0', and there are 2 processes, each of which needs"):
        load(model={"device": "cuda:0"})
    for name in ("auto", "cuda"):
        with pytest.raises(RecipeError, match=r"model\.device is 'cuda:1': PyTorch sees no such device here"):
            load(model={"device": name})
    assert make_parts(load(model={"device": "cpu"})).device.type == "cpu"


def test_steps_are_those_that_all_processes_share(load, monkeypatch):
    with pytest.raises(RecipeError, match=r"training\.batch_size is 3: preferences_per_step = 2"):
        load(training={"batch_size": 3, "preferences_per_step": 2})
    launched(monkeypatch, 2)
    shared = {"training": {"batch_size": 3, "preferences_per_step": 2}}
    recipe = load(**shared)
    training = TrainingSettings(epochs=1, batch_size=4, preferences_per_step=2)
    assert trainer_config(training, 64).steps == 8
    launched(monkeypatch, 3)
    with pytest.raises(RecipeError, match=r"training\.batch_size is 3: preferences_per_step = 4 .* multiple of 4"):
        load(training={"batch_size": 3, "preferences_per_step": 4})
    monkeypatch.setattr("mopref.recipes.parts.process_count", lambda: 1)
    # What was trained by several is opened by one.
    assert len(make_parts(recipe, for_training=False).preferences) == 3


def test_a_gradient_weighting_has_whole_preferences_on_each_process(load, monkeypatch):
    load(scalarizer="epo")
    launched(monkeypatch, 2)
    with pytest.raises(RecipeError, match=r"training\.preferences_per_step: EPO weighs .* make .* a multiple of 2"):
        load(scalarizer="epo")
