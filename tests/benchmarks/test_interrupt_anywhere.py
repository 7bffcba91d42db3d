"""Signals end a run saved and whole; benchmarks/interrupt_anywhere.py has them all."""

from _trials import run_trial

CODE = """
from interrupt_anywhere import main
from mopref.training.stop_signals import StopSignals

print("CODE", main(["--kind", "toy", "--moments", "5", "--every", "60"]))
# Signals that are left as they are, as they were before.
StopSignals._wait = lambda signals: None
print("CODE", main(["--kind", "toy", "--moments", "0", "--every", "100"]))
"""


def test_a_run_that_is_sent_signals_is_saved_and_goes_on_to_the_same_end_and_the_trial_can_fail():
    trial = run_trial(CODE)
    assert trial.returncode == 0, trial.stderr
    assert [line for line in trial.stdout.splitlines() if line.startswith("CODE")] == ["CODE 0", "CODE 1"], trial.stdout
