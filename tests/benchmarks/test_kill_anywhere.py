"""Runs survive kills, and the trial would say so if they did not; benchmarks/kill_anywhere.py has them all."""

import pytest
from _trials import run_trial

CODE = """
from kill_anywhere import main
from mopref import EvaluationCallback
from mopref.training.resumable import Resumable

def tell(name, *arguments):
    print(f"BEGIN {name}", flush=True)
    print(f"CODE {main([*arguments])}", flush=True)

tell("as it is", "--kills", "2", "--every", "60")

kept = EvaluationCallback.state_dict
EvaluationCallback.state_dict = lambda callback: {}
tell("callbacks forget", "--kind", "toy", "--kills", "0", "--every", "60")
EvaluationCallback.state_dict = kept

save = Resumable._save_due
Resumable._save_due = lambda run: save(run) if run.step % 4 else run._checkpoints.folder_of(run.step)
tell("reported, not written", "--kind", "toy", "--kills", "0", "--every", "20")
"""


@pytest.fixture(scope="module")
def told():
    """What each trial printed, by its name: one as everything is, and two of what would be wrong."""
    trial = run_trial(CODE)
    assert trial.returncode == 0, trial.stdout + trial.stderr
    parts = [part.partition("\n") for part in trial.stdout.split("BEGIN ")[1:]]
    return {name: text for name, _, text in parts}


def test_killed_runs_end_as_the_uninterrupted_one(told):
    text = told["as it is"]
    assert text.endswith("CODE 0\n"), text
    assert int(text.split(" kills, 0 runs not as whole")[0].split()[-1]) >= 9


@pytest.mark.parametrize("fault", ["callbacks forget", "reported, not written"])
def test_the_trial_can_fail(told, fault):
    assert told[fault].endswith("CODE 1\n")
    assert "again: --kind toy" in told[fault]
