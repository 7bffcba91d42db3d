"""One of two processes dies without a word: the other ends within a minute, by itself too, and the run goes on."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from _processes import launch, results
from safetensors.torch import load_file

SCRIPT = """
import os
import signal
import sys
import time
from pathlib import Path

from _processes import DPO, Tchebycheff, leave, trained, trainer_of
from mopref.training import resumable

folder, runs, when, victim = sys.argv[1:5]


def die():
    if int(os.environ["RANK"]) == int(victim):
        Path(folder, "died").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)


losses, whole_state, save_state = DPO.training_losses, resumable.whole_state, resumable.save_state


def dying_in_a_step(self, model, batch, preferences):
    # The fourth step's; the other one goes on to the exchange of losses or gradients.
    self.calls = getattr(self, "calls", 0) + 1
    if self.calls == 4:
        die()
    return losses(self, model, batch, preferences)


def dying_before_the_gather(state):
    # The second checkpoint's; the other one waits for this one's part of it.
    if state["step"] == 4:
        die()
    return whole_state(state)


def dying_while_it_writes(state, place, *others):
    # The other one waits for the end of it; only the first one writes.
    save_state(state, place, *others)
    if state["step"] == 4:
        die()


if when == "in a step":
    DPO.training_losses = dying_in_a_step
elif when == "before the gather":
    resumable.whole_state = dying_before_the_gather
elif when == "while it writes":
    resumable.save_state = dying_while_it_writes
trainer = trainer_of(
    "dpo", Tchebycheff(ideal=[-9.0, -9.0]), output=runs, steps=8, batch_size=4, preferences_per_step=2,
    checkpoint_every=2,
)
trainer.train(resume_from="latest")
leave(folder, trainer.accelerator.process_index, trained(trainer))
"""
DEATHS = [("in a step", 1), ("in a step", 0), ("before the gather", 1), ("while it writes", 0)]


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("killed") / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def whole(script):
    """What the run comes to where nobody dies."""
    launch(script, 2, script.parent, script.parent / "whole", "never", -1)
    return results(script.parent, 2)


def by_hand(script: Path, *arguments) -> list[int]:
    """Two processes that no launcher looks after, and their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": path}
    common |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            env={**os.environ, **common, "RANK": str(place), "LOCAL_RANK": str(place)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for place in range(2)
    ]
    try:
        return [process.wait(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()


def seconds_since_the_death(folder: Path) -> float:
    return time.time() - float((folder / "died").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("when", "victim"), DEATHS)
def test_a_process_that_dies_ends_all_within_a_minute_and_the_run_goes_on(when, victim, script, whole, tmp_path):
    killed = launch(script, 2, tmp_path, tmp_path / "runs", when, victim, check=False)
    # The launcher has ended, and with it whoever could write into its output.
    waited = seconds_since_the_death(tmp_path)
    print(f"{when}, process {victim}: all had ended {waited:.1f} s after")
    assert killed.returncode != 0
    assert waited < 60
    # Nothing of the step that was at work is there.
    assert [path.name for path in (tmp_path / "runs").glob("checkpoint-*")] == ["checkpoint-2"]
    launch(script, 2, tmp_path, tmp_path / "runs", "never", -1)
    assert results(tmp_path, 2) == whole
    ours, theirs = (
        load_file(runs / "checkpoint-8" / "state.safetensors") for runs in (tmp_path / "runs", script.parent / "whole")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize(("when", "victim"), DEATHS)
def test_without_a_launcher_the_other_notices_by_itself(when, victim, script, tmp_path):
    codes = by_hand(script, tmp_path, tmp_path / "runs", when, victim)
    waited = seconds_since_the_death(tmp_path)
    print(f"{when}, process {victim}, by hand: the other had ended {waited:.1f} s after")
    assert waited < 60
    assert codes[victim] == -9
    assert codes[1 - victim] not in (0, -9)
