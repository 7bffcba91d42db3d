"""Runs that are stopped, broken off and started again: latest, last saves, signals, callbacks, full disks."""

import errno
import os
import re
import signal
import warnings

import pytest
import torch
from _checkpoints import about_run, seal

from mopref import (
    EvaluationCallback,
    HypervolumeCallback,
    ParetoSetModel,
    ParetoTrainer,
    TrainerCallback,
    TrainerConfig,
)
from mopref.objectives import Quadratic
from mopref.training.checkpoint import load_state
from mopref.training.checkpoints import checkpoints_in

PROBLEM = Quadratic([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])


def trainer_of(folder, callbacks=(), **settings):
    config = {"steps": 6, "checkpoint_every": 2, "log_every": 1, "progress": False, "cpu": True, **settings}
    model = ParetoSetModel.for_problem(PROBLEM, hidden=(4,), seed=settings.get("seed", 0))
    config = TrainerConfig(output_dir=folder, **config)
    return ParetoTrainer(model, PROBLEM, "tchebycheff", config=config, callbacks=list(callbacks))


class At(TrainerCallback):
    """Do something after a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            self.action()


def stop():
    raise RuntimeError("broken off")


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts():
    """Also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def whole(tmp_path):
    trainer = trainer_of(tmp_path / "whole")
    trainer.train()
    return trainer


@pytest.mark.parametrize("steps", [(1,), (3,), (2, 3), (5, 5, 6), (1, 1, 4)])
def test_a_job_that_is_started_again_and_again_ends_as_one_that_was_not(steps, whole, tmp_path):
    for step in steps:
        with pytest.raises(RuntimeError, match="broken off"):
            trainer_of(tmp_path / "run", [At(step, stop)]).train(resume_from="latest")
    again = trainer_of(tmp_path / "run")
    assert again.train(resume_from="latest") == whole.history
    assert torch.equal(weights(again), weights(whole))
    assert names(tmp_path / "run") == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert load_state(tmp_path / "run" / "checkpoint-6")["optimizer"]["state"][0]["step"] == 6


def test_the_last_step_is_saved_in_any_case(tmp_path):
    trainer_of(tmp_path / "five", steps=5).train()
    assert names(tmp_path / "five") == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    trainer = trainer_of(tmp_path / "stopped", [At(3, lambda: setattr(trainer, "should_stop", True))])
    trainer.train()
    assert names(tmp_path / "stopped") == ["checkpoint-2", "checkpoint-3"]
    # Nothing is left to do, and nothing is written again.
    before = (tmp_path / "five" / "checkpoint-5" / "manifest.json").stat().st_mtime_ns
    done = trainer_of(tmp_path / "five", steps=5)
    done.train(resume_from="latest")
    assert done.step == 5
    assert (tmp_path / "five" / "checkpoint-5" / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_that_is_at_work(number, whole, tmp_path):
    send = At(3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt):
        trainer_of(tmp_path / "run", [send]).train()
    assert names(tmp_path / "run") == ["checkpoint-2", "checkpoint-3"]
    again = trainer_of(tmp_path / "run")
    assert again.train(resume_from="latest") == whole.history
    assert torch.equal(weights(again), weights(whole))


def test_without_checkpoints_ctrl_c_acts_at_once(tmp_path):
    trainer = trainer_of(None, [At(3, lambda: os.kill(os.getpid(), signal.SIGINT))], checkpoint_every=None)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.step == 3


def test_a_new_run_is_not_begun_in_an_older_ones_folder(whole, tmp_path):
    other = trainer_of(tmp_path / "whole", seed=3)
    before = weights(other)
    with pytest.raises(ValueError, match="which holds checkpoint-6 of an earlier run"):
        other.train()
    with pytest.raises(ValueError, match=r"checkpoint-6 was trained with seed = 0, not 3"):
        other.train(resume_from="latest")
    assert torch.equal(weights(other), before)


def test_a_newest_checkpoint_of_another_run_is_not_passed_over(whole, tmp_path):
    """Only damage is: an older one of this run's would be somebody else's past."""
    shorter = trainer_of(tmp_path / "whole", steps=4)
    with pytest.raises(ValueError, match=r"checkpoint-6 has 6 steps behind it, but config\.steps is 4"):
        shorter.train(resume_from="latest")


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_newest_one_is_passed_over_and_told(name, whole, tmp_path):
    path = tmp_path / "whole" / "checkpoint-6" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)
    again = trainer_of(tmp_path / "whole")
    with pytest.warns(UserWarning, match="passed over a checkpoint: .*checkpoint-6 is a damaged checkpoint") as told:
        assert again.train(resume_from="latest") == whole.history
    assert {each.filename for each in told} == {__file__}, "it points at the call of train"
    assert "Resume from an earlier" not in str(told[0].message), "that is done already"
    newest = "(went on from|The newest one with a whole manifest is) .*checkpoint-4"
    assert re.search(newest, str(told[-1].message))
    # The step is saved again, in its place.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer_of(tmp_path / "whole").train(resume_from="latest")


@pytest.mark.parametrize(
    ("name", "reader"), [("state.safetensors", "file_digest"), ("manifest.json", "parsed_description")]
)
def test_a_newest_one_that_the_disk_does_not_read_is_passed_over_and_told(name, reader, whole, tmp_path, monkeypatch):
    from mopref.training import manifest

    newest, read = tmp_path / "whole" / "checkpoint-6", getattr(manifest, reader)

    def failing(path, *rest):
        if path == newest / name:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path, *rest)

    monkeypatch.setattr(manifest, reader, failing)
    told = rf"checkpoint-6 cannot be read: {name}: Input/output error\. Nothing of it was loaded: .* earlier checkpoint"
    trainer = trainer_of(tmp_path / "whole")
    with pytest.raises(OSError, match=told) as refusal:
        trainer.train(resume_from=newest)
    assert refusal.value.errno == errno.EIO
    assert trainer.step == 0
    with pytest.warns(UserWarning, match=rf"passed over a checkpoint: .*{told}"):
        assert trainer.train(resume_from="latest") == whole.history


def test_where_all_are_damaged_nothing_begins(whole, tmp_path):
    for path in (tmp_path / "whole").glob("*/state.json"):
        path.write_text("{}")
    with (
        pytest.raises(ValueError, match=r"checkpoint-2 is a damaged .*None of the checkpoints in .* choose another"),
        pytest.warns(UserWarning, match="passed"),
    ):
        trainer_of(tmp_path / "whole").train(resume_from="latest")


def test_two_runs_at_once_do_not_write_into_one_folder(whole, tmp_path):
    """The second one would remove what the first is just writing."""

    class Second(TrainerCallback):
        def on_checkpoint(self, trainer, folder):
            for resume_from in (None, "latest", folder):
                with pytest.raises(BlockingIOError, match=r"run is being written into by another run \(process \d+"):
                    trainer_of(tmp_path / "run").train(resume_from=resume_from)
            if trainer.step == 2:
                assert trainer_of(None, checkpoint_every=None).train() == whole.history

    assert trainer_of(tmp_path / "run", callbacks=[Second()]).train() == whole.history
    assert not (tmp_path / "run" / ".running").exists()


def test_a_folder_that_is_no_checkpoint_says_which_is(whole, tmp_path):
    for place, message in (
        ("lastest", "there is no lastest: give the folder of a checkpoint, or 'latest' for the newest"),
        (tmp_path / "whole", "is no checkpoint: it has no manifest.json, but holds some: name one, or 'latest'"),
        (tmp_path, r"is no checkpoint: it has no manifest.json\.$"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            trainer_of(tmp_path / "whole").train(resume_from=place)


def test_resume_from_is_a_path(tmp_path):
    for value in (True, 3, b"x", ["checkpoint-2"]):
        with pytest.raises(TypeError, match=r"resume_from is .+: give the folder of a checkpoint, .* or 'latest'"):
            trainer_of(tmp_path).train(resume_from=value)


@pytest.mark.parametrize("folder", [None, 1.0, b"x", "a\0b", ["x"]])
def test_a_checkpoint_is_written_at_a_path(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = trainer_of(tmp_path)
    with pytest.raises((TypeError, ValueError), match="folder is"):
        trainer.save_checkpoint(folder)
    assert not list(tmp_path.iterdir())


def test_the_last_ones_are_kept_and_that_of_the_best_evaluation(tmp_path):
    class Scripted(EvaluationCallback):
        volumes = iter([0.1, 0.5, 0.2, 0.3])

        def measure(self, trainer):
            return trainer.front(3)

        def _hypervolume(self, front):
            return next(self.volumes)

    trainer = trainer_of(tmp_path, [Scripted(2, reference_point=[9.0, 9.0])], keep_checkpoints=1)
    trainer.train()
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-6"]


def test_those_that_a_kill_left_too_many_go_at_the_next_resume(whole, tmp_path):
    """Also where the run is finished, and saves nothing any more."""
    folder = tmp_path / "whole"
    assert names(folder) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    trainer_of(folder, keep_checkpoints=2).train(resume_from="latest")
    assert names(folder) == ["checkpoint-4", "checkpoint-6"]


def test_the_one_that_was_gone_on_from_stays(whole, tmp_path):
    """Of the newest only the manifest is whole."""
    folder = tmp_path / "whole"
    (folder / "checkpoint-6" / "state.json").write_text("{}")
    trainer = trainer_of(folder, [At(5, stop)], keep_checkpoints=1)
    with pytest.raises(RuntimeError, match="broken off"), pytest.warns(UserWarning, match="passed over"):
        trainer.train(resume_from="latest")
    assert names(folder) == ["checkpoint-4", "checkpoint-6"]


def test_a_damaged_one_is_not_counted_among_those_that_are_kept(whole, tmp_path):
    """It is later than those that the run writes now: a run that kept it would have nothing whole."""
    folder = tmp_path / "whole"
    (folder / "checkpoint-6" / "state.json").write_text("{}")
    trainer = trainer_of(folder, [At(6, stop)], keep_checkpoints=1, checkpoint_every=1)
    with pytest.raises(RuntimeError, match="broken off"), pytest.warns(UserWarning, match="passed over"):
        trainer.train(resume_from="latest")
    assert names(folder) == ["checkpoint-5"]
    again = trainer_of(folder, keep_checkpoints=1, checkpoint_every=1)
    again.train(resume_from="latest")
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize("every", [1, 2, 3])
def test_what_callbacks_measured_goes_on_with_the_run(every, tmp_path):
    def watch():
        return HypervolumeCallback(5, [9.0, 9.0], every=every), HypervolumeCallback(3, [7.0, 7.0], every=2)

    def measured(callbacks):
        return [[{**record, "seconds": 0} for record in callback.records] for callback in callbacks]

    whole, first, second = watch(), watch(), watch()
    trainer_of(None, whole, checkpoint_every=None).train()
    with pytest.raises(RuntimeError, match="broken off"):
        trainer_of(tmp_path, [*first, At(5, stop)]).train()
    trainer_of(tmp_path, second).train(resume_from="latest")
    assert measured(second) == measured(whole)


def test_a_callback_that_is_new_begins_with_nothing(whole, tmp_path):
    new = HypervolumeCallback(5, [9.0, 9.0], every=2)
    trainer_of(tmp_path / "whole", [new]).train(resume_from=tmp_path / "whole" / "checkpoint-4")
    assert [record["step"] for record in new.records] == [4, 6]


def test_another_number_of_threads_is_told(whole, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match=rf"written with {threads} threads, and here are {threads + 1}: "):
            trainer_of(tmp_path / "whole").train(resume_from="latest")
    finally:
        torch.set_num_threads(threads)


def test_a_full_disk_names_step_folder_and_the_last_good_one(monkeypatch, tmp_path):
    from mopref.training import resumable

    save = resumable.save_state

    def full(state, folder, *rest):
        save(state, folder, *rest)
        if state["step"] == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(resumable, "save_state", full)
    message = (
        r"step 4 could not be saved as .*checkpoint-4 \(No space left on device\): .*checkpoint-2 is whole, and resu"
    )
    with pytest.raises(OSError, match=message) as error:
        trainer_of(tmp_path).train()
    assert error.value.errno == 28
    assert names(tmp_path) == ["checkpoint-2"]
    trainer = trainer_of(None, checkpoint_every=None, steps=4)
    trainer.train()
    with pytest.raises(OSError, match="no checkpoint is there"):
        trainer.save_checkpoint(tmp_path / "other" / "one")


def test_a_signal_while_the_last_step_is_saved_is_obeyed_too(monkeypatch, tmp_path):
    save = ParetoTrainer.save_checkpoint

    def interrupted(trainer, folder):
        save(trainer, folder)
        if trainer.step == 6:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ParetoTrainer, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tmp_path).train()
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_a_full_disk_in_a_callback_names_the_step_too(tmp_path):
    def full():
        raise OSError(28, "No space left on device")

    message = (
        r"At\.on_step_end failed at step 3 \(No space left on device\): .*checkpoint-2 is whole, and resumes the run"
    )
    with pytest.raises(OSError, match=message):
        trainer_of(tmp_path, [At(3, full)]).train()


def test_a_file_that_exists_is_still_a_file_that_exists(tmp_path):
    def exists():
        raise FileExistsError(17, "is there", "path")

    with pytest.raises(FileExistsError, match=r"At\.on_step_end failed at step 3 \(is there\)"):
        trainer_of(tmp_path, [At(3, exists)]).train()
    with pytest.raises(FileNotFoundError, match="own words"):
        trainer_of(tmp_path / "new", [At(3, lambda: open_nothing())]).train()


def open_nothing():
    raise FileNotFoundError("own words")


def test_a_checkpoint_is_this_runs_own_where_a_resume_takes_it(tmp_path):
    """Also one of a version that did not have some setting yet, whose default did what was done then."""
    trainer = trainer_of(tmp_path, keep_checkpoints=2)
    trainer.train()
    older = tmp_path / "checkpoint-4"
    settings = about_run(older)["settings"]
    del settings["optimizer"]
    seal(older, settings=settings)
    assert [each.step for each in checkpoints_in(tmp_path, trainer._is_own)] == [6, 4]
    seal(older, settings={**settings, "seed": 9})
    assert [each.step for each in checkpoints_in(tmp_path, trainer._is_own)] == [6]
    seal(older, settings=settings, identity={})
    assert [each.step for each in checkpoints_in(tmp_path, trainer._is_own)] == [6]
