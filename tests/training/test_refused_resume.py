"""A checkpoint that is damaged or of another run is refused by the trainer, in words, and nothing of it is loaded."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _checkpoints import put_state, seal
from _refused_runs import STEPS, assert_refused, everything, problem_trainer
from safetensors.torch import load_file, save_file
from torch import nn

from mopref import (
    ParetoTrainer,
    PreferenceModel,
    SVDLoRAConfig,
    TrainerCallback,
    TrainerConfig,
    UniformSampler,
    VertexBiasedSampler,
)
from mopref.objectives import DPO, Quadratic
from mopref.samplers import AdaptiveSampler
from mopref.scalarizers import PBI, Linear, Tchebycheff
from mopref.training.checkpoint import load_state
from mopref.training.manifest import read_manifest

SAVED = 2
ROWS = [
    {"prompt_ids": [3 + i], "response_0_ids": [4 + i, 5], "response_1_ids": [6, 7 + i], "labels": [i % 2, i // 2 % 2]}
    for i in range(8)
]


class Pause(TrainerCallback):
    def on_step_end(self, trainer):
        trainer.should_stop = trainer.step == STEPS - 1


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    problem_trainer(checkpoint_every=SAVED, output_dir=tmp_path).train()
    return tmp_path / f"checkpoint-{SAVED}"


class LlamaTrainers:
    """DPO on a tiny Llama under its many settings."""

    def __init__(self, make_llama: Callable[..., nn.Module]) -> None:
        self.make_llama = make_llama

    def __call__(self, rows: Any = ROWS, weight: float = 0.0, folder: Path | None = None, **change: Any) -> Any:
        base = self.make_llama()
        with torch.no_grad():
            base.get_input_embeddings().weight.add_(weight)
        adapter = {"objectives": ("a", "b"), "rank": 2, "seed": 7 if folder is None else 0}
        model = PreferenceModel(base, SVDLoRAConfig(**adapter, **change.pop("adapter", {})))
        parts = {"objective": DPO(("a", "b")), "scalarizer": "pbi", "sampler": "uniform", **change}
        config = TrainerConfig(
            steps=STEPS,
            batch_size=4,
            preferences_per_step=2,
            progress=False,
            cpu=True,
            output_dir=folder,
            checkpoint_every=None if folder is None else SAVED,
        )
        return ParetoTrainer(model, train_data=rows, config=config, **parts)


@pytest.fixture
def llama_trainer(make_llama) -> LlamaTrainers:
    return LlamaTrainers(make_llama)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scalarizer": PBI(convention="ray")}, "convention = importance, not ray"),
        ({"scalarizer": Linear()}, "scalarizer = PBI, not Linear"),
        ({"scalarizer": PBI(theta=2.5)}, r"scalarizer\.theta = 5, not 2\.5"),
        ({"scalarizer": "epo"}, "scalarizer = PBI, not EPO"),
        ({"sampler": VertexBiasedSampler(2)}, "sampler = UniformSampler, not VertexBiasedSampler"),
        ({"objective": DPO(("a", "b"), beta=5.0)}, r"objective\.beta = 0\.1, not 5"),
        ({"objective": DPO(("a", "b"), loss="ipo")}, r"objective\.loss = 'sigmoid', not 'ipo'"),
        ({"adapter": {"scaling": 50.0}}, r"adapter\.scaling = 1, not 50"),
        ({"weight": 0.1}, r"frozen weights = \w{12}, not \w{12}"),
        ({"rows": [{**row, "labels": [1 - i for i in row["labels"]]} for row in ROWS]}, "content of the rows = "),
        ({"rows": [{**row, "prompt_ids": [9]} for row in ROWS]}, "content of the rows = "),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_checkpoint_of_another_run_is_refused_and_nothing_changes(change, message, llama_trainer, tmp_path):
    llama_trainer(folder=tmp_path).train()
    trainer = llama_trainer(**change)
    assert_refused(trainer, tmp_path / f"checkpoint-{SAVED}", f"was trained with {message}")
    # The trainer can still be used.
    assert llama_trainer().train(resume_from=tmp_path / f"checkpoint-{SAVED}")[-1]["step"] == STEPS


def test_the_same_parts_in_other_words_are_resumed(llama_trainer, tmp_path):
    llama_trainer(folder=tmp_path).train()
    rows = [{**row, "labels": np.array(row["labels"]), "reference_log_probabilities": [0.0, 0.0]} for row in ROWS]
    same = {"scalarizer": PBI(), "sampler": UniformSampler(("a", "b")), "objective": DPO(["a", "b"], beta=0.1)}
    trainer = llama_trainer(rows=[{k: v for k, v in row.items() if k[:3] != "ref"} for row in rows], **same)
    trainer.train(resume_from=tmp_path / f"checkpoint-{SAVED}")
    assert trainer.step == STEPS


def test_the_identity_is_that_of_the_parts_when_the_trainer_was_made(tmp_path):
    """An option that a part changes while it trains is no other option in the run that goes on."""

    class Annealed(Quadratic):
        def __init__(self, centers, strength=1.0):
            super().__init__(centers)
            self.strength = strength

        def losses(self, model, batch, preferences):
            self.strength *= 0.5
            return super().losses(model, batch, preferences)

    centers = [[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]]
    problem_trainer(objective=Annealed(centers), checkpoint_every=SAVED, output_dir=tmp_path).train()
    trainer = problem_trainer(objective=Annealed(centers))
    trainer.train(resume_from=tmp_path / f"checkpoint-{SAVED}")
    assert trainer.step == STEPS
    other = problem_trainer(objective=Annealed(centers, strength=2.0))
    assert_refused(other, tmp_path / f"checkpoint-{SAVED}", r"objective\.strength = 1, not 2")


def test_more_steps_than_the_run_is_to_have_are_refused(checkpoint):
    message = r"checkpoint-2 has 2 steps behind it, but config\.steps is 1: give 2 steps or more"
    assert_refused(problem_trainer(steps=1), checkpoint, message)
    assert len(problem_trainer(steps=2, learning_rate=1e-3, log_every=3).train()) == 1


@pytest.mark.parametrize("name", ["step", "attempt", "settings", "identity"])
def test_a_checkpoint_that_says_nothing_of_its_run_is_refused(name, checkpoint):
    seal(checkpoint, **{name: None})
    assert_refused(problem_trainer(), checkpoint, f"is a damaged checkpoint: '{name}' in manifest.json is None")


def test_a_checkpoint_without_a_manifest_is_one_of_an_older_version(checkpoint):
    (checkpoint / "manifest.json").unlink()
    message = "no checkpoint: it has no manifest.json, as those of versions before 0.3: nothing tells whether"
    assert_refused(problem_trainer(), checkpoint, message, FileNotFoundError)


def test_a_manifest_of_another_step_does_not_go_with_the_state(checkpoint):
    seal(checkpoint, step=1)
    assert_refused(problem_trainer(), checkpoint, "its state is of step 2, its manifest of step 1")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def write(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path)


def with_another_tensor(path: Path) -> None:
    save_file({**load_file(path), "another": torch.zeros(1)}, path)


DAMAGES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "tensors cut": ("state.safetensors", cut, r"state\.safetensors cannot be read"),
    "tensors empty": ("state.safetensors", write(b""), r"state\.safetensors cannot be read"),
    "tensors zeroed": ("state.safetensors", lambda p: p.write_bytes(bytes(p.stat().st_size)), "cannot be read"),
    "tensors of another kind": ("state.safetensors", write(b"not tensors at all"), "cannot be read"),
    "a tensor missing": ("state.safetensors", without_a_tensor, r"state\.json does not say what .* holds \(KeyError"),
    "a tensor too many": ("state.safetensors", with_another_tensor, r"state\.json does not say what .* holds\. Resume"),
    "JSON cut": ("state.json", cut, r"state\.json cannot be read"),
    "JSON empty": ("state.json", write(b""), r"state\.json cannot be read"),
    "JSON zeroed": ("state.json", lambda p: p.write_bytes(bytes(p.stat().st_size)), r"state\.json cannot be read"),
    "JSON not UTF-8": ("state.json", lambda p: p.write_bytes(p.read_bytes() + b"\xff"), r"state\.json cannot be read"),
    "JSON nested deep": ("state.json", write(b"[" * 100_000 + b"]" * 100_000), r"state\.json cannot be read"),
    "nodes nested deep": ("state.json", write(b'{"list": [' * 900 + b"]}" * 900), r"state\.json (cannot|does not)"),
    "a number of many digits": ("state.json", write(b"9" * 5000), r"state\.json cannot be read"),
    "a list": ("state.json", write(b'{"list": [1]}'), "does not say what"),
    "a bare list": ("state.json", write(b"[1, 2]"), "does not say what"),
    "a number": ("state.json", write(b"3"), "does not say what"),
    "a key of no kind": ("state.json", write(b'{"dict": [[[1], 2]]}'), "does not say what"),
    "a pair too long": ("state.json", write(b'{"dict": [[1, 2, 3]]}'), "does not say what"),
    "a dict of two": ("state.json", write(b'{"dict": [], "list": []}'), "does not say what"),
    "an unknown kind": ("state.json", write(b'{"set": []}'), "does not say what"),
    "a record without fields": ("state.json", write(b'{"record": ["Metric", []]}'), "does not say what"),
    "a record of three": ("state.json", write(b'{"record": ["Metric", [], 3]}'), "does not say what"),
    "no tensor's name": ("state.json", write(b'{"tensor": [1]}'), "does not say what"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_nothing_changes(damage, checkpoint):
    name, harm, message = DAMAGES[damage]
    harm(checkpoint / name)
    trainer = problem_trainer(seed=3)
    assert_refused(trainer, checkpoint, f"checkpoint-2 is a damaged checkpoint: {name} is no longer what was written")
    seal(checkpoint)
    assert_refused(trainer, checkpoint, f"checkpoint-2 is a damaged checkpoint: .*{message}")
    assert trainer.train()[-1]["step"] == STEPS


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_file_that_is_gone_is_named(name, checkpoint):
    (checkpoint / name).unlink()
    assert_refused(problem_trainer(), checkpoint, f"is no whole checkpoint: it has no {name}", FileNotFoundError)


KEYS = [
    "step", "model", "optimizer", "scaler", "scalarizer", "sampler", "objective", "pending", "batches",
    "history", "unlogged", "callbacks", "random",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_an_entry_that_is_gone_or_something_else_is_refused(key, checkpoint):
    state = load_state(checkpoint, problem_trainer()._record_types)
    # An objective without a state looks at none.
    for others in ({}, {key: "text"}, {key: 3.5})[: 1 if key == "objective" else 3]:
        changed = {name: value for name, value in state.items() if name != key} | others
        put_state(checkpoint, changed)
        assert_refused(problem_trainer(seed=3), checkpoint, r"checkpoint-2 (is a damaged|does not go|was trained)")


def optimizer_with(**change: Any) -> Callable[[dict], None]:
    def harm(state: dict) -> None:
        state["optimizer"]["state"][0].update(change)

    return harm


HARMS: dict[str, tuple[Callable[[dict], Any], str]] = {
    "steps below 0": (lambda s: s.update(step=-1), "its 'step' is not one"),
    "a weight missing": (lambda s: s["model"].popitem(), "belongs to another model: .* has shape None there"),
    "a weight of another type": (
        lambda s: s.update(model={name: value.double() for name, value in s["model"].items()}),
        r"has type torch\.float64 there and torch\.float32 here",
    ),
    "a weight that is none": (lambda s: s["model"].update({next(iter(s["model"])): 3}), "has shape None there"),
    "a moment missing": (lambda s: s["optimizer"]["state"][0].pop("exp_avg"), "its 'optimizer' is not one"),
    "a moment of another shape": (optimizer_with(exp_avg=torch.zeros(3)), "its 'optimizer' is not one"),
    "a moment that is none": (optimizer_with(exp_avg_sq="x"), "its 'optimizer' is not one"),
    "a moment of no parameter": (
        lambda s: s["optimizer"]["state"].update({99: s["optimizer"]["state"][0]}),
        "its 'optimizer' is not one",
    ),
    "no groups": (lambda s: s["optimizer"].update(param_groups=[]), "its 'optimizer' is not one"),
    "a group without its rate": (lambda s: s["optimizer"]["param_groups"][0].pop("lr"), "its 'optimizer' is not one"),
    "a rate that is none": (
        lambda s: s["optimizer"]["param_groups"][0].update(lr="x"), "its 'optimizer' is not one"
    ),
    "other parameters": (
        lambda s: s["optimizer"]["param_groups"][0].update(params=[0]), "its 'optimizer' is not one"
    ),
    "a group that is none": (lambda s: s["optimizer"].update(param_groups=[3]), "its 'optimizer' is not one"),
    "no moments": (lambda s: s["optimizer"].pop("state"), "its 'optimizer' is not one"),
    "waiting for other forwards": (lambda s: s["pending"].append([]), "its 'pending' is not one"),
    "something else that waits": (lambda s: s.update(pending=[[3]]), "its 'pending' is not one"),
    "a history of numbers": (lambda s: s.update(history=[3]), "its 'history' is not one"),
    "no ideal point": (lambda s: s["scalarizer"].clear(), "nothing of it was loaded: ValueError"),
    "no generator of the sampler": (lambda s: s["sampler"].clear(), "nothing of it was loaded: ValueError"),
    "an interval of one part": (lambda s: s["unlogged"].pop(), "nothing of it was loaded: ValueError"),
    "no generators": (lambda s: s["random"].pop("torch"), "nothing of it was loaded: KeyError"),
    "a generator cut short": (
        lambda s: s["random"].update(torch=s["random"]["torch"][:9]), "nothing of it was loaded: "
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_state_that_cannot_be_gone_on_from_changes_nothing(harm, checkpoint):
    """Also where only a part of its own can tell, and others are loaded before it."""
    state = load_state(checkpoint, problem_trainer()._record_types)
    change, message = HARMS[harm]
    change(state)
    put_state(checkpoint, state)
    # Somewhere in its own run, with moments and a history.
    trainer = problem_trainer(seed=3, callbacks=[Pause()])
    trainer.train()
    assert_refused(trainer, checkpoint, message)
    trainer.train()
    untouched = problem_trainer(seed=3)
    untouched.train()
    assert all(
        torch.equal(value, untouched.unwrapped_model.state_dict()[name])
        for name, value in trainer.unwrapped_model.state_dict().items()
    )


@pytest.mark.parametrize(
    "change",
    [lambda group: group.pop("decoupled_weight_decay", None), lambda group: group.update(a_later_switch=False)],
    ids=["older", "newer"],
)
def test_a_checkpoint_of_another_pytorch_is_gone_on_from(change, checkpoint):
    """Their optimisers have other switches: PyTorch 2.6 has no decoupled_weight_decay."""
    ends = []
    for is_other in (False, True):
        if is_other:
            state = load_state(checkpoint, problem_trainer()._record_types)
            change(state["optimizer"]["param_groups"][0])
            put_state(checkpoint, state)
        trainer = problem_trainer()
        trainer.train(resume_from=checkpoint)
        ends.append(torch.cat([parameter.detach().flatten() for parameter in trainer.unwrapped_model.parameters()]))
    assert torch.equal(*ends)


def test_what_a_sampler_had_learned_is_kept(checkpoint, tmp_path):
    def trainer(**options):
        return problem_trainer(sampler=AdaptiveSampler(2, num_cells=4), **options)

    trainer(checkpoint_every=SAVED, output_dir=tmp_path / "adaptive").train()
    folder = tmp_path / "adaptive" / f"checkpoint-{SAVED}"
    state = load_state(folder, trainer()._record_types)
    state["sampler"]["losses"] = torch.zeros(5, 2)
    put_state(folder, state)
    own = trainer(seed=3)
    own.train()
    assert_refused(own, folder, r"the state holds losses of shape \(5, 2\), but this sampler has 4 cells")
    shutil.rmtree(folder)


def test_an_interruption_while_loading_changes_nothing_either(checkpoint):
    class Interrupted(Tchebycheff):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            if self.interrupts:
                self.interrupts = False
                raise KeyboardInterrupt("stop")

    seal(checkpoint, identity={**read_manifest(checkpoint)["identity"], "scalarizer": "Interrupted"})
    trainer = problem_trainer(scalarizer=Interrupted())
    trainer.scalarizer.interrupts = True
    before = everything(trainer)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        trainer.train(resume_from=checkpoint)
    assert everything(trainer) == before
