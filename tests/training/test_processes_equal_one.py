"""Two processes are one: the same losses and the same model, given the same rows and preferences."""

import pytest
import torch
from _processes import SCALARIZERS, launch, results

SCRIPT = """
import sys

from _processes import SCALARIZERS, leave, trained, trainer_of

result, processes = {}, int(sys.argv[2])
for kind in ("toy", "dpo", "sft", "rlhf"):
    for name, scalarizer in SCALARIZERS.items():
        # Preferences that the processes share, and one for each of them; without rows there are only the latter.
        for preferences in (1, 2) if kind != "toy" else (4,):
            trainer = trainer_of(kind, scalarizer(), batch_size=8 // processes, preferences_per_step=preferences)
            trainer.train()
            result[f"{kind}, {name}, {preferences}"] = trained(trainer)
leave(sys.argv[1], trainer.accelerator.process_index, result)
"""
FORWARDS = """
import sys

from _processes import SCALARIZERS, leave, trained, trainer_of

result = {}
for name, scalarizer in SCALARIZERS.items():
    for preferences in (1, 2, 4):
        trainer = trainer_of(
            "dpo", scalarizer(), batch_size=2, gradient_accumulation_steps=2, preferences_per_step=preferences
        )
        # One draw of all four, as one forward has them.
        trainer.train()
        result[f"{name}, {preferences}"] = trained(trainer)
leave(sys.argv[1], trainer.accelerator.process_index, result)
"""


def assert_same(run, expected, exactly=False):
    ours, theirs = (torch.tensor(each["parameters"], dtype=torch.float64) for each in (run, expected))
    torch.testing.assert_close(ours, theirs, atol=0 if exactly else 1e-6, rtol=0 if exactly else 1e-6)
    assert (run["point"] is None) == (expected["point"] is None)
    if run["point"] is not None:
        assert run["point"] == pytest.approx(expected["point"], rel=1e-6)
    for entry, other in zip(run["history"], expected["history"], strict=True):
        for key in ("loss", "loss/a", "loss/b", "loss/f1", "loss/f2", "gradient_norm"):
            if key in other:
                assert entry[key] == pytest.approx(other[key], rel=1e-6, abs=1e-9)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    runs = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        launch(script, count, folder, count)
        runs[count] = results(folder, count)
    (one,), (first, second) = runs[1], runs[2]
    assert len(one) == 3 * 7
    for name, expected in one.items():
        assert first[name]["processes"] == 2
        assert_same(first[name], second[name], exactly=True)
        assert_same(first[name], expected)


@pytest.mark.slow
def test_processes_and_forwards_together_are_one_too(tmp_path):
    """With one and two preferences, which all four shares have a part of; with four each has one."""
    script, single = tmp_path / "train.py", tmp_path / "one.py"
    script.write_text(FORWARDS)
    single.write_text(FORWARDS.replace("batch_size=2, gradient_accumulation_steps=2", "batch_size=8"))
    launch(script, 2, tmp_path)
    first, second = results(tmp_path, 2)
    launch(single, 1, tmp_path)
    (one,) = results(tmp_path, 1)
    for name in first:
        assert_same(first[name], second[name], exactly=True)
        if not name.endswith("4"):
            assert_same(first[name], one[name])
    assert len(SCALARIZERS) * 3 == len(first)
