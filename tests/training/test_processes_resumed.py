"""Checkpoints of two processes: one of them is killed, both end, and the run goes on bit for bit."""

import shutil
import time
from pathlib import Path

import pytest
from _processes import launch, results
from safetensors.torch import load_file

SCRIPT = """
import os
import signal
import sys
import warnings

import torch
from _processes import Tchebycheff, leave, trained, trainer_of
from mopref import TrainerCallback

folder, kind, mode, runs = sys.argv[1:5]


class Die(TrainerCallback):
    def on_step_end(self, trainer):
        if trainer.step == 5 and trainer.accelerator.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)


callbacks = [Die()] if mode == "killed" else []
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    trainer = trainer_of(
        kind,
        Tchebycheff(),
        output=runs,
        callbacks=callbacks,
        steps=9,
        batch_size=4,
        preferences_per_step=1 if kind == "dpo" else 2,
        checkpoint_every=2,
        keep_checkpoints=2,
    )
    torch.rand(trainer.accelerator.process_index)
    trainer.train(resume_from="latest" if mode == "resumed" else None)
result = trained(trainer)
result["told"] = [str(each.message) for each in told]
result["random"] = torch.rand(3).tolist()
result["objective"] = repr(trainer.objective.state_dict())
leave(folder, trainer.accelerator.process_index, result)
"""


def ends(tmp_path: Path, kind: str, mode: str, runs: str, count: int = 2, check: bool = True):
    """What the processes of a run came to, and the run."""
    script, folder = tmp_path / "train.py", tmp_path / f"{mode}-{runs}-{count}"
    script.write_text(SCRIPT)
    folder.mkdir()
    finished = launch(script, count, folder, kind, mode, tmp_path / runs, check=check)
    return results(folder, count) if check else finished


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dpo", "ppo", "online-dpo"])
def test_one_of_two_is_killed_and_the_run_goes_on(kind, tmp_path):
    """PPO's rollouts are used for two steps each: at a checkpoint those of both processes may wait."""
    whole = ends(tmp_path, kind, "whole", "whole")
    began = time.monotonic()
    killed = ends(tmp_path, kind, "killed", "killed", check=False)
    assert killed.returncode != 0
    assert time.monotonic() - began < 100, "both end within a minute of the kill"
    found = sorted(path.name for path in (tmp_path / "killed").glob("checkpoint-*"))
    assert found == ["checkpoint-2", "checkpoint-4"]
    files = sorted(path.name for path in (tmp_path / "killed" / "checkpoint-4").iterdir())
    assert files == ["manifest.json", "state.json", "state.safetensors"]
    resumed = ends(tmp_path, kind, "resumed", "killed")
    assert resumed == whole, "on both processes, their own generators and histories too"
    assert [run["told"] for run in resumed] == [[], []]
    assert resumed[0]["random"] != resumed[1]["random"]
    own, other = (load_file(tmp_path / runs / "checkpoint-9" / "state.safetensors") for runs in ("whole", "killed"))
    assert own.keys() == other.keys()
    assert all(own[name].equal(other[name]) for name in own)


@pytest.mark.slow
def test_another_number_of_processes_goes_on_and_says_so(tmp_path):
    ends(tmp_path, "ppo", "killed", "run", check=False)
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    for count, runs in ((1, "run"), (3, "again")):
        for run in ends(tmp_path, "ppo", "resumed", runs, count=count):
            assert [entry["step"] for entry in run["history"]] == list(range(1, 10))
            (told,) = run["told"]
            assert f"checkpoint-4 was written by 2 processes, and here are {count}: the run goes on" in told


FULL_DISK = """
import sys

from _processes import Tchebycheff, leave, trainer_of
from mopref.training import resumable

folder, runs = sys.argv[1:3]
trainer = trainer_of("toy", Tchebycheff(), output=runs, preferences_per_step=2, checkpoint_every=2)


def full(*arguments):
    raise OSError(28, "No space left on device")


if trainer.accelerator.process_index == 0:
    resumable.save_state = full
try:
    trainer.train()
    told = "no error"
except (OSError, RuntimeError) as error:
    told = f"{type(error).__name__}: {error}"
leave(folder, trainer.accelerator.process_index, [trainer.step, told])
"""


@pytest.mark.slow
def test_an_error_of_the_one_that_writes_ends_all(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(FULL_DISK)
    launch(script, 2, tmp_path, tmp_path / "runs")
    (step, first), (other_step, second) = results(tmp_path, 2)
    assert step == other_step == 2
    assert first.startswith("OSError: [Errno 28] step 2 could not be saved as")
    assert second.startswith("ElsewhereError: on another process, number 0: OSError: [Errno 28] No space left")
    assert list((tmp_path / "runs").glob("checkpoint-*")) == []
