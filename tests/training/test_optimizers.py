"""Optimisers by name: the same steps as the peers' own, refused where they cannot work, and resumed bit for bit."""

import copy
import importlib.util
import shutil

import pytest
import torch
from _checkpoints import about_run, put_state, seal
from torch import nn

from mopref import Objective, ParetoTrainer, TrainerCallback, TrainerConfig
from mopref.scalarizers import Linear
from mopref.training import optimizers
from mopref.training.checkpoint import load_state, save_state
from mopref.training.optimizers import OPTIMIZERS, check_optimizer, is_state_of, make_optimizer, state_bytes

CPU = torch.device("cpu")
ON_A_CPU = ["adamw", "adamw-fused", "adamw-8bit"]


@pytest.fixture(params=ON_A_CPU)
def name(request) -> str:
    if OPTIMIZERS[request.param].in_8_bits:
        pytest.importorskip("bitsandbytes")
    return request.param


def parameters(*sizes: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in sizes]


def descend(optimizer, trained, steps: int = 5, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in trained:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach().clone() for parameter in trained]


def test_adamw_is_pytorchs_own_bit_for_bit():
    ours, theirs = parameters(7, 5000), parameters(7, 5000)
    made = make_optimizer("adamw", ours, CPU, 1e-2, 0.1)
    assert type(made) is torch.optim.AdamW
    expected = descend(torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1), theirs)
    assert all(torch.equal(*pair) for pair in zip(descend(made, ours), expected, strict=True))


def test_every_optimizer_takes_adamws_steps(name):
    """With the same rate, decay and betas: fused to rounding, 8 bits to theirs."""
    ours, theirs = parameters(7, 5000), parameters(7, 5000)
    start = [parameter.detach().clone() for parameter in ours]
    moved = descend(make_optimizer(name, ours, CPU, 1e-2, 0.1), ours)
    expected = descend(torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1), theirs)
    for begin, own, peer in zip(start, moved, expected, strict=True):
        far = (own - peer).norm() / (peer - begin).norm()
        assert far < (0.1 if OPTIMIZERS[name].in_8_bits and len(begin) >= 4096 else 1e-4)


def test_the_eight_bits_are_eight_bits_and_small_parameters_are_not(name):
    trained = parameters(100, 8192)
    made = make_optimizer(name, trained, CPU, 1e-2, 0.0)
    descend(made, trained, steps=1)
    for parameter in trained:
        held = sum(
            value.numel() * value.element_size()
            for key, value in made.state[parameter].items()
            if isinstance(value, torch.Tensor) and not key.startswith(("qmap", "step"))
        )
        assert held == state_bytes(name, parameter)
    assert state_bytes(name, trained[1]) == (8192 * 2 + 256 if OPTIMIZERS[name].in_8_bits else 8192 * 8)


def test_a_package_that_is_missing_is_named_with_the_command(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    for name in ("adamw-8bit", "paged-adamw-8bit"):
        message = rf"^optimizer is '{name}': it needs bitsandbytes; run pip install 'mopref\[quantized\]'\.$"
        with pytest.raises(ValueError, match=message):
            check_optimizer(name, CPU)


def test_what_cannot_work_on_the_device_is_refused():
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ValueError, match=r"^optimizer is 'paged-adamw-8bit': .+ the device is the CPU; choose 'adamw-"):
        check_optimizer("paged-adamw-8bit", CPU)
    for name in ("adamw-fused", "adamw-8bit", "paged-adamw-8bit"):
        with pytest.raises(
            ValueError, match=rf"^optimizer is '{name}', which does not work on meta with .+ float32 \("
        ):
            check_optimizer(name, torch.device("meta"))


@pytest.mark.filterwarnings("error")
def test_what_is_asked_of_an_optimizer_changes_no_generator_and_no_parameter(name):
    trained, state = parameters(5000), torch.get_rng_state()
    before = trained[0].detach().clone()
    make_optimizer(name, trained, CPU, 1.0, 0.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(trained[0], before)
    assert trained[0].grad is None


def test_a_state_is_that_of_its_parameter_only(name, tmp_path):
    trained = parameters(100, 8192, 4097)
    made = make_optimizer(name, trained, CPU, 1e-2, 0.0)
    descend(made, trained, steps=2)
    save_state(made.state_dict(), tmp_path)
    entries = load_state(tmp_path)["state"]
    for index, entry in entries.items():
        fits = [is_state_of(name, entry, parameter) for parameter in trained]
        assert fits == [index == place for place in range(3)]
        assert not is_state_of(name, {**entry, "more": torch.zeros(1)}, trained[index])
        assert not is_state_of(name, {"step": entry["step"]}, trained[index])
    assert not is_state_of(name, None, trained[0])
    other = "adamw-8bit" if name != "adamw-8bit" else "adamw"
    if importlib.util.find_spec("bitsandbytes") is not None:
        assert not is_state_of(other, entries[1], trained[1])


class Wide(nn.Module):
    """Enough weights for 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(2, 96), nn.Tanh(), nn.Linear(96, 96), nn.Tanh(), nn.Linear(96, 2))

    def forward(self, preferences: torch.Tensor) -> torch.Tensor:
        return self.body(preferences)


class Distances(Objective):
    names = ("left", "right")

    def losses(self, model, batch, preferences):
        targets = torch.tensor([[1.0, 0.0], [-1.0, 0.5]])
        return (model(preferences)[:, None] - targets).square().sum(-1)


class Die(TrainerCallback):
    def on_step_end(self, trainer):
        if trainer.step == 5:
            raise KeyboardInterrupt


def make_trainer(folder, callbacks=(), **options) -> ParetoTrainer:
    settings = {"steps": 8, "learning_rate": 1e-2, "checkpoint_every": 4, "log_every": 2, "output_dir": folder}
    config = TrainerConfig(**{**settings, "progress": False, "cpu": True, **options})
    return ParetoTrainer(Wide(), Distances(), Linear(), config=config, callbacks=callbacks)


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, tmp_path):
    whole = make_trainer(tmp_path / "whole", optimizer=name)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "broken", [Die()], optimizer=name).train()
    resumed = make_trainer(tmp_path / "broken", optimizer=name)
    assert resumed.train(resume_from=tmp_path / "broken" / "checkpoint-4") == whole.history
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_another_optimizer_does_not_go_on_with_a_run(name, tmp_path):
    make_trainer(tmp_path, optimizer=name, steps=4).train()
    other = "adamw" if name != "adamw" else "adamw-fused"
    with pytest.raises(ValueError, match=rf"was trained with optimizer = {name}, not {other}: resume with the same"):
        make_trainer(tmp_path, optimizer=other).train(resume_from=tmp_path / "checkpoint-4")


def test_a_checkpoint_from_before_a_setting_was_there_had_its_default(tmp_path):
    whole = make_trainer(tmp_path / "run")
    whole.train()
    shutil.copytree(tmp_path / "run" / "checkpoint-4", tmp_path / "older")
    settings = about_run(tmp_path / "older")["settings"]
    del settings["optimizer"]
    seal(tmp_path / "older", settings=settings)
    assert make_trainer(tmp_path / "again").train(resume_from=tmp_path / "older") == whole.history
    with pytest.raises(ValueError, match="was trained with optimizer = adamw, not adamw-fused"):
        make_trainer(tmp_path / "again", optimizer="adamw-fused").train(resume_from=tmp_path / "older")


def test_damaged_averages_of_eight_bits_are_refused_before_anything_is_loaded(tmp_path):
    pytest.importorskip("bitsandbytes")
    trainer = make_trainer(tmp_path, optimizer="adamw-8bit")
    trainer.train()
    state = load_state(tmp_path / "checkpoint-4")
    harmed = copy.deepcopy(state)
    (quantised,) = [
        part
        for entry in harmed["optimizer"]["state"].values()
        for part in (entry, *entry.values())
        if isinstance(part, dict) and "absmax1" in part
    ]
    quantised["absmax1"] = torch.zeros(2)
    put_state(tmp_path / "checkpoint-4", harmed)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match="is a damaged checkpoint: its 'optimizer' is not one of this run"):
        trainer.train(resume_from=tmp_path / "checkpoint-4")
    assert all(torch.equal(value, trainer.model.state_dict()[key]) for key, value in before.items())


def test_paged_averages_go_with_no_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^optimizer is 'paged-adamw-8bit', and checkpoint_every is 2: .+ choose 'a"):
        TrainerConfig(optimizer="paged-adamw-8bit", checkpoint_every=2, output_dir=tmp_path)
    pytest.importorskip("bitsandbytes")
    trainer = make_trainer(tmp_path, optimizer="adamw-8bit")
    trainer.train()
    # As on a GPU, where it can be made.
    monkeypatch.setattr(optimizers, "check_optimizer", lambda *arguments: None)
    paged = make_trainer(tmp_path, optimizer="paged-adamw-8bit", checkpoint_every=None)
    with pytest.raises(ValueError, match=r"cannot be resumed by the optimizer 'paged-adamw-8bit'"):
        paged.train(resume_from=tmp_path / "checkpoint-4")
    with pytest.raises(ValueError, match=r"^optimizer is 'paged-adamw-8bit': a run resumed from a checkpoint would"):
        paged.save_checkpoint(tmp_path / "by-hand")
    assert not (tmp_path / "by-hand").exists()


@pytest.mark.parametrize(("value", "error"), [("adam", ValueError), ("AdamW", ValueError), (3, TypeError)])
def test_an_unknown_optimizer_is_refused_by_the_settings(value, error):
    with pytest.raises(error, match=r"optimizer is .+"):
        TrainerConfig(optimizer=value)


def test_a_trainer_refuses_what_cannot_work_when_it_is_made(tmp_path):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ValueError, match="optimizer is 'paged-adamw-8bit': it moves its averages"):
        make_trainer(tmp_path, optimizer="paged-adamw-8bit", checkpoint_every=None)
