"""Parts that do not fit together are refused when the trainer is made, and nothing has been done by then."""

import warnings

import pytest
import torch
from accelerate.tracking import GeneralTracker
from torch import nn

from mopref import (
    Objective,
    ParetoSetModel,
    ParetoTrainer,
    PreferenceModel,
    SVDLoRAConfig,
    TrainerCallback,
    TrainerConfig,
    UniformSampler,
)
from mopref.conditioning import FiLMModel
from mopref.objectives import DPO, ZDT1
from mopref.samplers.adaptive import AdaptiveSampler
from mopref.samplers.lattice import LatticeSampler
from mopref.scalarizers import PBI, Linear
from mopref.training.checkpoint import save_state
from mopref.training.parts import check_frozen_base, check_kinds, check_names, check_outputs, settle_convention

NAMES = ("helpful", "harmless")


def model_of(objectives=NAMES) -> PreferenceModel:
    return PreferenceModel(nn.Sequential(nn.Linear(4, 2)), SVDLoRAConfig(objectives=objectives))


def trained_base() -> PreferenceModel:
    """The base requires gradients, as where new tokens were added to it."""
    model = model_of(("f1", "f2"))
    model.base_model[0].base_layer.weight.requires_grad_(True)
    return model


class Silent(GeneralTracker):
    name, requires_logging_directory, tracker = "silent", False, None


# Kinds.


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": "gpt2"}, "the model is a str: give a torch module"),
        ({"model": nn.Linear}, "the model is a type: give a torch module"),
        ({"config": {"steps": 5}}, r"config is a dict: give a TrainerConfig\(…\)"),
        ({"config": TrainerConfig}, "config is a type: give a TrainerConfig"),
        ({"callbacks": TrainerCallback()}, "callbacks is a TrainerCallback: give a list, also of a single one"),
        ({"callbacks": [TrainerCallback]}, "callbacks hold TrainerCallback: give instances of classes that derive"),
        ({"callbacks": [print]}, "callbacks hold builtin_function_or_method: give instances"),
    ],
)
def test_arguments_of_another_kind(parts, message):
    with pytest.raises(TypeError, match=message):
        check_kinds(**{"model": nn.Linear(1, 1), "config": TrainerConfig(), "callbacks": ()} | parts)


# Names.


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        (model_of(), UniformSampler(2)),
        (model_of(), UniformSampler(NAMES)),
        (model_of(), LatticeSampler(NAMES, 5)),
        (model_of(("f1", "f2")), UniformSampler(NAMES)),
        (nn.Linear(1, 1), UniformSampler(2)),
        (nn.Sequential(model_of()), UniformSampler(2)),
    ],
)
def test_the_same_names_pass(model, sampler):
    check_names(model, DPO(NAMES), sampler)


@pytest.mark.parametrize(
    ("model", "sampler", "message"),
    [
        (
            model_of(NAMES[::-1]),
            UniformSampler(2),
            r"DPO has .*\(helpful, harmless\), the model \(harmless, helpful\): the",
        ),
        (model_of(("kind", "brief")), UniformSampler(2), r"the model \(kind, brief\): give both the same names"),
        (model_of(("helpful",)), UniformSampler(2), "2 and 1 of them"),
        (nn.Sequential(model_of(NAMES[::-1])), UniformSampler(2), "the model .* in another order"),
        (FiLMModel(nn.Sequential(nn.Linear(4, 2)), NAMES[::-1]), UniformSampler(2), "the model .* in another order"),
        (model_of(), UniformSampler(NAMES[::-1]), r"the sampler \(harmless, helpful\): the same in another order"),
        (model_of(), AdaptiveSampler(("kind", "brief")), r"the sampler \(kind, brief\): give both the same names"),
        (
            model_of(),
            UniformSampler(3),
            "the sampler draws preferences over 3 objectives, but there are 2: helpful, harm",
        ),
    ],
)
def test_other_names_are_refused(model, sampler, message):
    with pytest.raises(ValueError, match=message):
        check_names(model, DPO(NAMES), sampler)


# The convention of λ.


def trained(model: PreferenceModel) -> PreferenceModel:
    with torch.no_grad():
        next(iter(model.adapters.values())).U.add_(0.1)
    return model


def test_new_adapters_take_the_convention_of_their_training():
    model = model_of()
    settle_convention(nn.Sequential(model), "ray")
    assert model.preference_convention == "ray"


@pytest.mark.parametrize(("own", "asked"), [("importance", "ray"), ("ray", "importance")])
def test_trained_adapters_keep_theirs(own, asked):
    model = trained(model_of())
    model.preference_convention = own
    settle_convention(model, own)
    with pytest.raises(
        ValueError, match=f"trained under the preference convention '{own}', .* is '{asked}', under which"
    ):
        settle_convention(model, asked)
    assert model.preference_convention == own


def test_a_model_without_a_convention_gets_none():
    model = nn.Linear(1, 1)
    settle_convention(model, "ray")
    assert not hasattr(model, "preference_convention")


@pytest.mark.parametrize("convention", ["importance", "ray"])
def test_a_trainer_tells_its_model_and_its_fronts(convention):
    model = model_of()

    class Squares(Objective):
        names = NAMES

        def losses(self, model, batch, preferences):
            return model(torch.ones(len(preferences), 4), preferences=preferences).square()

    config = TrainerConfig(steps=1, preferences_per_step=2, progress=False, cpu=True)
    trainer = ParetoTrainer(model, Squares(), PBI(ideal=[0.0, 0.0], convention=convention), config=config)
    trainer.train()
    assert model.preference_convention == convention
    assert trainer.front(3).convention == convention
    other = {"importance": "ray", "ray": "importance"}[convention]
    with pytest.raises(ValueError, match=f"trained under the preference convention '{convention}'"):
        ParetoTrainer(model, Squares(), PBI(ideal=[0.0, 0.0], convention=other), config=config)


# Trackers and folders.


def test_trackers_that_are_there_pass(tmp_path):
    check_outputs(TrainerConfig(trackers=(Silent(),)))
    check_outputs(TrainerConfig(trackers=[Silent()], output_dir=tmp_path / "new" / "newer", checkpoint_every=1))
    assert not list(tmp_path.iterdir()), "a check writes nothing"


@pytest.mark.parametrize(
    ("trackers", "message"),
    [
        (("tensorbord",), "unknown tracker 'tensorbord': choose one of all, .*tensorboard.*wandb"),
        ((Silent,), "unknown tracker <class .*Silent'>: choose one of"),
        ((3,), "unknown tracker 3: choose one of"),
        (("wandb",), "the tracker 'wandb' is not installed, so the run would have no log"),
        ((Silent(), "tensorboard"), "the tracker 'tensorboard' is not installed"),
        (("all",), "trackers are 'all', but no tracker is installed"),
    ],
)
def test_trackers_that_are_not_there_are_refused(trackers, message, monkeypatch):
    monkeypatch.setattr("mopref.training.parts.get_available_trackers", list)
    with pytest.raises(ValueError, match=message):
        check_outputs(TrainerConfig(trackers=trackers, output_dir="runs"))


@pytest.mark.parametrize("name", ["tensorboard", "all"])
def test_trackers_that_write_files_need_a_folder(name, monkeypatch):
    monkeypatch.setattr("mopref.training.parts.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(
        ValueError, match=f"the tracker '{name}' writes files, and output_dir is None: say where they go"
    ):
        check_outputs(TrainerConfig(trackers=(name,)))
    check_outputs(TrainerConfig(trackers=(name,), output_dir="runs"))


def test_a_folder_that_cannot_be_written_into(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"output_dir is .*file/runs, but .*file is no folder: choose another"):
        check_outputs(TrainerConfig(output_dir=tmp_path / "file" / "runs", checkpoint_every=1))
    # Nothing is written there without checkpoints and trackers.
    check_outputs(TrainerConfig(output_dir=tmp_path / "file" / "runs"))


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="but nothing can be written into"):
        check_outputs(TrainerConfig(output_dir=tmp_path, checkpoint_every=1))


def test_something_else_where_a_checkpoint_will_go(tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "thesis.tex").write_text("years of work")
    for settings in ({"checkpoint_every": 3}, {"checkpoint_every": 5, "steps": 9}):
        check_outputs(TrainerConfig(output_dir=tmp_path, **settings))
    with pytest.raises(FileExistsError, match=r"checkpoint-10 holds something other than a checkpoint"):
        check_outputs(TrainerConfig(output_dir=tmp_path, checkpoint_every=5))
    (tmp_path / "checkpoint-10" / "thesis.tex").unlink()
    save_state({"step": 10}, tmp_path / "checkpoint-10")
    check_outputs(TrainerConfig(output_dir=tmp_path, checkpoint_every=5))
    # A run may go on from it, or from a later one: whether it is in the way is known then.
    (tmp_path / "checkpoint-10" / "thesis.tex").write_text("years of work")
    check_outputs(TrainerConfig(output_dir=tmp_path, checkpoint_every=5))
    (tmp_path / "elsewhere").mkdir()
    save_state({"step": 15}, tmp_path / "elsewhere")
    (tmp_path / "checkpoint-15").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="checkpoint-15 is a symbolic link"):
        check_outputs(TrainerConfig(output_dir=tmp_path, checkpoint_every=5))


def test_a_file_where_a_checkpoint_will_go(tmp_path):
    (tmp_path / "checkpoint-5").write_text("x")
    with pytest.raises(FileExistsError, match="checkpoint-5 is no folder: choose a new or empty folder"):
        check_outputs(TrainerConfig(output_dir=tmp_path, checkpoint_every=5))


# Bases.


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: nn.Sequential(model, nn.Linear(2, 3))])
def test_companions_and_what_lies_around_the_adapters_may_be_trained(wrap):
    model = model_of()
    model.companions["critic"] = nn.Linear(2, 1)
    check_frozen_base(wrap(model))


def test_a_base_that_is_trained_under_another_conditioning_is_its_own_affair():
    model = FiLMModel(nn.Sequential(nn.Linear(4, 2)), NAMES, train_base=True)
    assert model.base_model[0].base_layer.weight.requires_grad
    check_frozen_base(model)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"])
@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential], ids=["itself", "inside another module"])
def test_a_base_parameter_beside_the_adapters_is_refused_by_name(name, wrap, make_llama):
    """The head, the embeddings of new tokens, and the weight that an adapter is around."""
    model = PreferenceModel(make_llama(tie_word_embeddings=False), SVDLoRAConfig(objectives=NAMES))
    for own, parameter in model.base_model.named_parameters():
        if own.replace(".base_layer.", ".") == name:
            parameter.requires_grad_(True)
    with pytest.raises(ValueError, match=rf"^{name} of the base model requires a gradient: .*requires_grad_\(False\)"):
        check_frozen_base(wrap(model))


# In the trainer.


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"model": trained_base()}, ValueError, r"0\.weight of the base model requires a gradient"),
        ({"sampler": UniformSampler(("left", "right", "up"))}, ValueError, "draws preferences over 3 objectives"),
        ({"config": TrainerConfig(trackers=("nowhere",))}, ValueError, "unknown tracker 'nowhere'"),
        ({"train_data": iter([1, 2])}, TypeError, "train_data is a list_iterator"),
        ({"callbacks": TrainerCallback()}, TypeError, "callbacks is a TrainerCallback"),
    ],
    ids=["base", "names", "tracker", "data", "callbacks"],
)
def test_the_trainer_asks_when_it_is_made(parts, error, message):
    problem = ZDT1(4)
    model = ParetoSetModel.for_problem(problem)
    prepared = []
    problem.prepare_model = prepared.append
    with pytest.raises(error, match=message):
        ParetoTrainer(**{"model": model, "objective": problem, "scalarizer": Linear()} | parts)
    assert not prepared, "the model is as it was"


@pytest.mark.parametrize(("rate", "is_told"), [(1e-3, False), (1.0, False), (1.5, True), (1e6, True)])
def test_a_rate_that_scrambles_a_network_is_told(rate, is_told):
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        ParetoTrainer(ParetoSetModel(2, 4), ZDT1(4), Linear(), config=TrainerConfig(learning_rate=rate))
    messages = [str(record.message) for record in records]
    assert len(messages) == is_told
    assert all(f"learning_rate is {rate:g}: AdamW moves every weight by about so much" in each for each in messages)
