"""Files that belong together count at once, at whatever operation a write ends; other files are not touched."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from _killed_saves import killed_saves

from mopref._write_ahead import PENDING, current_file, finish_pending, write_ahead, write_together

OLD = {"tensors.bin": b"old tensors", "description.json": b"old"}
NEW = {"tensors.bin": b"newer tensors", "description.json": b"new"}
posix_only = pytest.mark.skipif(os.name == "nt", reason="needs fork and modes")


def read(folder: Path) -> dict[str, bytes]:
    return {name: current_file(folder, name).read_bytes() for name in OLD}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_written_and_replaced_and_others_stay(tmp_path):
    folder = tmp_path / "deep" / "folder"
    write_together({folder: OLD})
    (folder / "notes.txt").write_text("mine")
    write_together({folder: NEW})
    assert read(folder) == NEW
    assert names(folder) == sorted([*NEW, "notes.txt"])
    assert (folder / "notes.txt").read_text() == "mine"


@posix_only
@pytest.mark.parametrize("folders", [1, 3])
def test_a_kill_before_any_file_operation_leaves_the_older_or_the_newer_files(folders, tmp_path):
    paths = [tmp_path / str(index) for index in range(folders)]
    write_together({path: OLD for path in paths})
    seen, kills = [], 0
    for at in killed_saves(lambda: write_together({path: NEW for path in paths})):
        kills = at
        for path in paths:
            assert read(path) in (OLD, NEW), at
            # Who does not know of the hidden folder sees one save, or no description.
            plain = {name: (path / name).read_bytes() for name in OLD if (path / name).exists()}
            assert plain in (OLD, NEW) or "description.json" not in plain, at
        seen.append([read(path) == NEW for path in paths])
        write_together({path: OLD for path in paths})
        assert [names(path) for path in paths] == [sorted(OLD)] * folders, at
    assert kills >= 20 * folders
    assert [False] * folders in seen
    assert [True] * folders in seen
    for path in paths:
        assert read(path) == NEW


@posix_only
def test_an_index_never_stands_beside_a_part_of_what_it_tells_of(tmp_path):
    paths = [tmp_path, tmp_path / "a"]

    def write(files):
        write_together({path: files for path in paths}, "description.json")

    write(OLD)
    found = []
    for at in killed_saves(lambda: write(NEW)):
        index = current_file(tmp_path, "description.json")
        if index.exists():
            files = read(tmp_path)
            assert all(read(path) == files for path in paths), at
            found.append(files)
        write(OLD)
    assert OLD in found
    assert NEW in found
    assert len(found) < at, "there was a moment without it"
    assert all(read(path) == NEW for path in paths)


@posix_only
def test_a_killed_first_write_leaves_nothing_that_counts_or_all_of_it(tmp_path):
    for at in killed_saves(lambda: write_together({tmp_path / "new": NEW})):
        folder = tmp_path / "new"
        there = {name for name in NEW if current_file(folder, name).exists()}
        assert there in (set(), set(NEW)), at
        if there:
            assert read(folder) == NEW
        write_together({folder: NEW})
        assert names(folder) == sorted(NEW)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_description_that_says_the_same_stays_at_its_place(tmp_path):
    """Whoever does not know of the hidden folder finds it throughout."""
    same = NEW | {"description.json": OLD["description.json"]}
    write_together({tmp_path: OLD})
    before = (tmp_path / "description.json").stat().st_ino
    write_together({tmp_path: same})
    assert (tmp_path / "description.json").stat().st_ino == before
    assert read(tmp_path) == same
    assert not (tmp_path / PENDING).exists()


def test_everything_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    synced, moved = [], []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: synced.append(os.path.realpath(f"/proc/self/fd/{d}")) or fsync(d))
    monkeypatch.setattr(os, "replace", lambda a, b: moved.append((Path(a).name, len(synced))) or replace(a, b))
    folder = tmp_path / "a" / "b"
    write_together({folder: NEW})
    commit = next(count for name, count in moved if name.startswith(".writing-"))
    before = synced[:commit]
    assert {Path(path).name for path in before} >= set(NEW)
    assert {str(tmp_path), str(tmp_path / "a")} <= set(before), "the names of new folders"
    assert synced[commit] == str(folder), "the commit itself"
    assert synced[-1] == str(folder), "the final names"


def test_what_a_block_wrote_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    synced, replace = [], os.replace
    monkeypatch.setattr("mopref._write_ahead.sync", lambda path: synced.append(path.name))
    monkeypatch.setattr(os, "replace", lambda a, b: synced.append(f"move {Path(b).name}") or replace(a, b))
    with write_ahead(tmp_path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x")
    assert {"inner", "file"} <= set(synced[: synced.index(f"move {PENDING}")])


@posix_only
@pytest.mark.parametrize(("mask", "modes"), [(0o077, (0o700, 0o600)), (0o022, (0o755, 0o644))])
def test_modes_are_the_umasks(mask, modes, tmp_path):
    before = os.umask(mask)
    try:
        write_together({tmp_path / "folder": NEW})
    finally:
        os.umask(before)
    found = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "folder", *(tmp_path / "folder").iterdir())]
    assert found == [modes[0], modes[1], modes[1]]


def test_a_full_disk_names_the_folder_and_leaves_what_was_there(tmp_path):
    """A limit on the size of files stands for it, in a process of its own."""
    write_together({tmp_path / "kept": OLD})
    code = f"""
import resource, signal
from pathlib import Path
from mopref._write_ahead import write_together
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for name in ("kept", "new/deep"):
    folder = Path({str(tmp_path)!r}) / name
    try:
        write_together({{folder: {{"tensors.bin": b"x" * 5000, "description.json": b"new"}}}})
    except OSError as error:
        print(error)
"""
    if os.name == "nt":
        pytest.skip("has no such limit")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for line, name in zip(lines, ("kept", "new/deep"), strict=True):
        assert f"[Errno {errno.EFBIG}] {tmp_path / name} could not be written (" in line
        assert "what was there before is as it was. Free some space there" in line
    assert names(tmp_path) == ["kept"], "no folder is left that was made for nothing"
    assert names(tmp_path / "kept") == sorted(OLD)
    assert read(tmp_path / "kept") == OLD


def test_an_error_of_one_folder_keeps_all_of_them(tmp_path):
    write_together({tmp_path / "a": OLD})
    (tmp_path / "b").write_text("a file")
    with pytest.raises(OSError, match=r"b could not be written \(") as error:
        write_together({tmp_path / "a": NEW, tmp_path / "b": NEW})
    assert str(error.value).count("could not be written") == 1
    assert read(tmp_path / "a") == OLD
    assert names(tmp_path / "a") == sorted(OLD)


def test_an_error_in_the_block_is_the_callers(tmp_path):
    def fail():
        with write_ahead(tmp_path / "new") as folder:
            (folder / "file").write_text("x")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert names(tmp_path) == []


def test_what_others_call_alike_is_left(tmp_path):
    (tmp_path / ".writing-notes").write_text("a file")
    (tmp_path / ".writing-link").symlink_to(tmp_path.parent, target_is_directory=True)
    (tmp_path / ".writing-0000").mkdir()
    write_together({tmp_path: NEW})
    assert names(tmp_path) == [".writing-link", ".writing-notes", *sorted(NEW)]


def test_a_hidden_folder_that_is_a_link_is_refused(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    write_together({outside: NEW, folder: OLD})
    (folder / PENDING).symlink_to(outside, target_is_directory=True)
    for call in (
        lambda: current_file(folder, "tensors.bin"),
        lambda: finish_pending(folder),
        lambda: write_together({folder: NEW}),
    ):
        with pytest.raises(ValueError, match=r"\.pending is a link, so that files from elsewhere would be read"):
            call()
    assert names(outside) == sorted(NEW)


@posix_only
def test_writers_take_turns(tmp_path):
    """One does not take the folder of the other, who is still writing, for a killed one's."""
    started, order = threading.Event(), []

    def second():
        started.set()
        write_together({tmp_path: NEW})
        order.append("second")

    thread = threading.Thread(target=second)
    with write_ahead(tmp_path) as folder:
        thread.start()
        started.wait()
        thread.join(0.2)
        for name, content in OLD.items():
            (folder / name).write_bytes(content)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
    assert read(tmp_path) == NEW


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 300])
def test_folders_that_no_folder_can_be_are_refused_by_name(path, tmp_path):
    with pytest.raises(ValueError, match="folder is "), write_ahead(tmp_path / path):
        pass
    assert not list(tmp_path.iterdir())
