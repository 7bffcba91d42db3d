"""Which checkpoints of a run are kept, which is the newest, and that an older run's are not taken for its own."""

import json

import pytest
from _checkpoints import empty_checkpoint

from mopref import TrainerConfig
from mopref.training.checkpoints import Checkpoints, check_places, checkpoints_in


def checkpoints_of(folder, **settings):
    return Checkpoints(TrainerConfig(output_dir=folder, **{"checkpoint_every": 2, **settings}))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_is_that_of_the_most_steps_in_the_last_attempt(tmp_path):
    for step, attempt in ((9, 1), (100, 1), (20, 2), (30, 2)):
        empty_checkpoint(tmp_path, step, attempt)
    found = [(each.attempt, each.step, each.folder.name) for each in checkpoints_in(tmp_path)]
    assert [each[:2] for each in found] == [(2, 30), (2, 20), (1, 100), (1, 9)]
    assert found[0][2] == "checkpoint-30"
    assert checkpoints_of(tmp_path).newest() == tmp_path / "checkpoint-30"


def test_what_is_no_whole_checkpoint_is_passed_over(tmp_path):
    empty_checkpoint(tmp_path, 4)
    for name in ("checkpoint-x", "checkpoint-8", ".checkpoint-9.ab12.unfinished", ".checkpoint-7.ab.removed"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-10").write_text("a file")
    torn = empty_checkpoint(tmp_path, 6)
    (torn / "manifest.json").unlink()
    newer = empty_checkpoint(tmp_path, 12)
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    assert [each.step for each in checkpoints_in(tmp_path)] == [4]
    with pytest.warns(UserWarning, match="passed over a checkpoint: .*checkpoint-(6|12)") as told:
        assert checkpoints_of(tmp_path).candidates() == [tmp_path / "checkpoint-4"]
    assert len(told) == 2


def test_nothing_whole_is_no_beginning(tmp_path):
    assert checkpoints_of(tmp_path / "new").candidates() == []
    assert checkpoints_of(tmp_path).candidates() == []
    torn = empty_checkpoint(tmp_path, 6)
    (torn / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="checkpoint-6 is a damaged checkpoint"):
        checkpoints_of(tmp_path).candidates()
    with pytest.raises(ValueError, match="resume_from is 'latest', which looks into output_dir, and that is None"):
        Checkpoints(TrainerConfig()).candidates()


def test_a_checkpoint_between_two_names_is_put_back(tmp_path):
    empty_checkpoint(tmp_path, 4).rename(tmp_path / ".checkpoint-4.replaced")
    assert [each.folder for each in checkpoints_in(tmp_path)] == [tmp_path / "checkpoint-4"]
    assert names(tmp_path) == ["checkpoint-4"]


def test_a_new_run_does_not_begin_among_older_checkpoints(tmp_path):
    empty_checkpoint(tmp_path, 4)
    with pytest.raises(
        ValueError, match=r"which holds checkpoint-4 of an earlier run: go on .*\(resume_from='latest'\)"
    ):
        checkpoints_of(tmp_path).begin()
    # It writes none, so none can be mistaken.
    checkpoints_of(tmp_path, checkpoint_every=None).begin()
    (tmp_path / "checkpoint-4" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="which holds checkpoint-4 of an earlier run"):
        checkpoints_of(tmp_path).begin()


def test_the_last_one_of_an_earlier_run_is_named(tmp_path):
    for step in (4, 10, 9):
        empty_checkpoint(tmp_path, step)
    with pytest.raises(ValueError, match="which holds checkpoint-10 of an earlier run"):
        checkpoints_of(tmp_path).begin()


def test_a_torn_one_hides_none_that_comes_after_it(tmp_path):
    for step in (2, 4, 6):
        empty_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-2" / "manifest.json").unlink()
    assert [each.step for each in checkpoints_in(tmp_path)] == [6, 4]


def test_there_is_no_newest_before_the_first(tmp_path):
    assert checkpoints_of(tmp_path).newest() is None
    assert checkpoints_of(tmp_path / "new").newest() is None
    assert Checkpoints(TrainerConfig()).newest() is None


def test_without_an_output_dir_there_is_nothing_to_note(tmp_path):
    checkpoints = Checkpoints(TrainerConfig())
    checkpoints.begin()
    checkpoints.went_on(tmp_path, 4, went_back=True)
    assert (checkpoints.attempt, checkpoints.saved) == (1, None)
    checkpoints.wrote(5, [])
    assert checkpoints.saved == 5


@pytest.mark.parametrize("every", [None, 2])
def test_left_overs_go_when_a_run_goes_on_and_writes(every, tmp_path):
    (tmp_path / ".checkpoint-9.ab12.unfinished").mkdir()
    checkpoints_of(tmp_path, checkpoint_every=every).went_on(empty_checkpoint(tmp_path, 2), 2, went_back=False)
    assert (tmp_path / ".checkpoint-9.ab12.unfinished").exists() == (every is None)


def test_left_overs_of_killed_writes_go_when_a_run_begins(tmp_path):
    for name in (".checkpoint-9.ab12.unfinished", ".checkpoint-7.ab.removed", ".other.ab.unfinished", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / ".checkpoint-8.cd.unfinished").write_text("a file")
    checkpoints_of(tmp_path).begin()
    assert names(tmp_path) == [".other.ab.unfinished", "mine"]


@pytest.mark.parametrize(("kept", "left"), [(None, [2, 4, 6, 8]), (1, [4, 8]), (2, [4, 6, 8]), (9, [2, 4, 6, 8])])
def test_the_last_ones_and_the_best_are_kept(kept, left, tmp_path):
    checkpoints = checkpoints_of(tmp_path, keep_checkpoints=kept)
    for step in (2, 4, 6, 8):
        empty_checkpoint(tmp_path, step)
        checkpoints.wrote(step, [4])
    assert [int(name.split("-")[1]) for name in names(tmp_path)] == left


def test_one_with_a_users_files_in_it_is_not_removed(tmp_path):
    checkpoints = checkpoints_of(tmp_path, keep_checkpoints=1)
    (empty_checkpoint(tmp_path, 2) / "adapter").mkdir()
    empty_checkpoint(tmp_path, 4)
    checkpoints.wrote(4, [])
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]


def test_going_back_by_name_begins_another_attempt(tmp_path):
    for step in (2, 4):
        empty_checkpoint(tmp_path, step)
    checkpoints = checkpoints_of(tmp_path, keep_checkpoints=1)
    checkpoints.went_on(tmp_path / "checkpoint-2", 2, went_back=True)
    assert (checkpoints.attempt, checkpoints.saved) == (2, 2)
    empty_checkpoint(tmp_path, 3, checkpoints.attempt)
    checkpoints.wrote(3, [])
    # The later one of the attempt before went, not the newer one of this.
    assert names(tmp_path) == ["checkpoint-3"]
    again = checkpoints_of(tmp_path)
    again.attempt = 2
    again.went_on(tmp_path / "checkpoint-3", 3, went_back=False)
    assert (again.attempt, again.saved) == (2, 3)


@pytest.mark.parametrize("name", ["before", "the-others"])
def test_one_from_elsewhere_is_not_this_folders(name, tmp_path):
    (tmp_path / name).mkdir()
    other = empty_checkpoint(tmp_path / name, 4)
    checkpoints = checkpoints_of(tmp_path / "run")
    checkpoints.went_on(other, 4, went_back=True)
    assert (checkpoints.attempt, checkpoints.saved) == (1, None)
    assert checkpoints.is_due(4, is_last=False)


@pytest.mark.parametrize(
    ("step", "last", "due"),
    [(4, False, True), (5, False, False), (5, True, True), (3, True, True), (100_000, False, True)],
)
def test_which_steps_are_saved(step, last, due, tmp_path):
    checkpoints = checkpoints_of(tmp_path)
    assert checkpoints.is_due(step, last) is due
    checkpoints.saved = int(str(step))
    assert not checkpoints.is_due(step, last)
    assert not checkpoints_of(tmp_path, checkpoint_every=None).is_due(step, last)


def test_checkpoints_of_another_run_neither_count_nor_go(tmp_path):
    """Copied in to be compared, or planted: they made a run remove its own."""
    others = [empty_checkpoint(tmp_path, step, attempt=9) for step in (1, 100, 102)]
    checkpoints = Checkpoints(
        TrainerConfig(output_dir=tmp_path, checkpoint_every=2, keep_checkpoints=1),
        lambda manifest: manifest["attempt"] < 9,
    )
    own = [empty_checkpoint(tmp_path, step) for step in (2, 4)]
    checkpoints.wrote(4, ())
    assert [folder.is_dir() for folder in (*others, *own)] == [True, True, True, False, True]
    assert checkpoints.newest() == own[1]


def test_the_places_of_checkpoints_to_come(tmp_path):
    """Those at multiples of checkpoint_every beyond the steps done, and the last step's."""
    config = TrainerConfig(output_dir=tmp_path, checkpoint_every=4, steps=14)
    for step, is_a_place in ((3, False), (4, True), (8, True), (12, True), (14, True), (16, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "notes.md").write_text("mine")
        for done in range(18):
            if is_a_place and done < step:
                with pytest.raises(FileExistsError, match=rf"checkpoint-{step} holds something other than"):
                    check_places(config, done)
            else:
                check_places(config, done)
        (folder / "notes.md").unlink()
        folder.rmdir()
    check_places(TrainerConfig(steps=14))
