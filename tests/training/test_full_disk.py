"""A disk that fills up while a run writes: the error names the step, and what was written before resumes the run."""

import errno
import os
import resource
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mopref import EvaluationCallback, ParetoSetModel, ParetoTrainer, TrainerCallback, TrainerConfig
from mopref.objectives import Quadratic
from mopref.recipes.log_file import LogFile
from mopref.scalarizers import ModifiedTchebycheff

STEPS, EVERY = 40, 2


class Figures(EvaluationCallback):
    def measure(self, trainer):
        return trainer.front(3)


def evaluating(folder: Path) -> list[TrainerCallback]:
    return [Figures(every=1, reference_point=[50.0, 50.0], best_folder=folder / "best")]


def trainer_of(folder: Path, *callbacks: TrainerCallback) -> ParetoTrainer:
    problem = Quadratic([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    settings = {"steps": STEPS, "checkpoint_every": EVERY, "log_every": 1, "learning_rate": 0.02}
    config = TrainerConfig(output_dir=folder, preferences_per_step=2, cpu=True, progress=False, **settings)
    model = ParetoSetModel(2, 3, bounds=problem.bounds, hidden=(8,), seed=1)
    watching = [LogFile(folder / "log.jsonl"), *callbacks]
    return ParetoTrainer(model, problem, ModifiedTchebycheff(), config=config, callbacks=watching)


class Whole(NamedTuple):
    """The run on a disk with room."""

    weights: torch.Tensor
    ideal_point: torch.Tensor
    history: list[dict[str, float]]
    log: bytes
    size_of_half: int


def outcome(trainer: ParetoTrainer, folder: Path) -> Whole:
    weights = torch.cat([parameter.detach().flatten() for parameter in trainer.unwrapped_model.parameters()])
    half = folder / f"checkpoint-{STEPS // 2}" / "state.json"
    size = half.stat().st_size - 1 if half.exists() else 0
    log = (folder / "log.jsonl").read_bytes()
    return Whole(weights, trainer.scalarizer.ideal_point, trainer.history, log, size)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(folder)
    trainer.train()
    return outcome(trainer, folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def assert_resumes_to(whole: Whole, full: Path, room: Path) -> None:
    """Where there is room, what was saved goes on to the end of the run that had it all along."""
    shutil.copytree(full, room)
    trainer = trainer_of(room)
    trainer.train(resume_from="latest")
    end = outcome(trainer, room)
    assert torch.equal(end.weights, whole.weights)
    assert torch.equal(end.ideal_point, whole.ideal_point)
    assert end.history == whole.history
    assert end.log == whole.log


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))


def test_a_full_disk_ends_the_run_with_its_step_and_the_last_good_checkpoint(whole, small_disk, tmp_path):
    folder = small_disk / "run"
    folder.mkdir()
    trainer = trainer_of(folder)
    with pytest.raises(OSError, match=r"step \d+ could not be saved as \S*checkpoint-\d+ \(.*No space left") as error:
        trainer.train()
    saved = steps_in(folder)
    assert 2 <= len(saved) < STEPS // EVERY
    assert trainer.step == saved[-1] + EVERY
    assert f"step {trainer.step} could not be saved as {folder / f'checkpoint-{trainer.step}'}" in str(error.value)
    assert f"{folder / f'checkpoint-{saved[-1]}'} is whole" in str(error.value)
    assert not [path.name for path in folder.rglob(".*")], "nothing half-written stays"
    assert_resumes_to(whole, folder, tmp_path / "room")


class Filling(TrainerCallback):
    """Another program, which takes every byte that is left after a step."""

    def __init__(self, at: int, disk: Path) -> None:
        self.at, self.disk = at, disk

    def on_train_begin(self, trainer):
        self.on_step_end(trainer)

    def on_step_end(self, trainer):
        if trainer.step == self.at:
            with suppress(OSError), (self.disk / "other").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))


@pytest.mark.parametrize(("at", "evaluates"), [(0, False), (0, True), (4, True), (7, False)])
def test_where_every_byte_is_taken_the_step_is_named_whatever_fails(at, evaluates, whole, small_disk, tmp_path):
    """A line of the log, an evaluation's best model or a checkpoint: what comes first after that step."""
    folder = small_disk / "run"
    folder.mkdir()
    trainer = trainer_of(folder, Filling(at, small_disk), *(evaluating(folder) if evaluates else ()))
    with pytest.raises(OSError, match=rf"step ({at}|{at + 1}) .*No space left"):
        trainer.train()
    assert at <= trainer.step <= at + 1
    assert not [path.name for path in folder.rglob(".*")]
    (small_disk / "other").unlink()
    saved = steps_in(folder)
    assert saved == [step for step in (2, 4, 6) if step < trainer.step]
    if saved:
        assert_resumes_to(whole, folder, tmp_path / "room")


def test_a_limit_on_a_files_size_ends_the_run_in_the_same_way(whole, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The history in it grows.
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole.size_of_half, hard))
    try:
        with pytest.raises(OSError, match=r"step \d+ could not be saved as \S*checkpoint-\d+ \("):
            trainer_of(folder).train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < steps_in(folder)[-1] < STEPS
    assert not [path.name for path in folder.rglob(".*")]
    assert_resumes_to(whole, folder, tmp_path / "room")


def test_a_disk_that_fails_while_older_checkpoints_go_is_told_too(tmp_path, monkeypatch):
    def failing(path, *others, real=os.replace):
        if Path(path).name == "checkpoint-4":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *others)

    config = {"steps": 5, "checkpoint_every": 1, "keep_checkpoints": 1, "progress": False, "cpu": True}
    problem = Quadratic([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    model = ParetoSetModel(2, 3, bounds=problem.bounds, hidden=(8,), seed=1)
    trainer = ParetoTrainer(model, problem, "tchebycheff", config=TrainerConfig(output_dir=tmp_path, **config))
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match=r"step 5 is saved, but older checkpoints .*checkpoint-5 is whole, and resumes"):
        trainer.train()
