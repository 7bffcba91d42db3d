"""Files that appear whole or not at all."""

import os

import pytest

from mopref._atomic_writes import remove_folder, remove_leftovers, replace_folder, settle_folder, write_atomically


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    write_atomically(path, b"one")
    assert path.read_bytes() == b"one"
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_an_error_leaves_the_older_file_and_no_trace(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomically(path, b"one")

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_interrupted_write_keeps_the_old_folder(tmp_path):
    target = tmp_path / "checkpoint-1"
    with replace_folder(target) as folder:
        (folder / "file").write_text("old")

    def interrupted():
        with replace_folder(target) as folder:
            (folder / "file").write_text("new")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_finished_write_replaces_the_old_folder(tmp_path):
    target = tmp_path / "deep" / "checkpoint-1"
    for text in ("old", "new"):
        with replace_folder(target) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["checkpoint-1"]


def test_a_kill_between_the_two_moves_loses_neither(tmp_path, monkeypatch):
    target = tmp_path / "checkpoint-1"
    for text in ("old", "new"):
        with replace_folder(target) as folder:
            (folder / "file").write_text(text)
    target.rename(tmp_path / ".checkpoint-1.replaced")
    settle_folder(target)
    assert (target / "file").read_text() == "new"
    # Where the newer one is in its place, the older goes.
    (tmp_path / ".checkpoint-1.replaced").mkdir()
    settle_folder(target)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, names = [], {}
    synchronise, move = os.fsync, os.replace

    def fsync(descriptor):
        order.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        synchronise(descriptor)

    def replace(source, target):
        order.append(("move", str(source)))
        names[str(source)] = str(target)
        move(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    with replace_folder(tmp_path / "new" / "folder") as folder:
        (folder / "one").write_text("1")
        (folder / "two").write_text("2")
    place = str(tmp_path / "new")
    moved = order.index(("move", str(folder)))
    assert {("sync", str(folder / "one")), ("sync", str(folder / "two")), ("sync", str(folder))} <= set(order[:moved])
    assert ("sync", str(tmp_path)) in order[:moved]
    assert ("sync", place) in order[moved:]
    order.clear()
    write_atomically(tmp_path / "new" / "file", b"x")
    kinds = [(kind, names.get(path, path)) for kind, path in order]
    assert kinds[-2:] == [("move", str(tmp_path / "new" / "file")), ("sync", place)]
    assert order[0][0] == "sync"


def test_files_and_folders_are_as_private_as_the_umask_says(tmp_path):
    before = os.umask(0o077)
    try:
        with replace_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text("x")
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("folder", "folder/file", "file")]
    assert modes == [0o700, 0o600, 0o600]


def test_a_folder_is_never_half_removed_under_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (folder / "file").write_text("x")
    monkeypatch.setattr("mopref._atomic_writes.shutil.rmtree", lambda *_, **__: None)
    remove_folder(folder)
    assert not folder.exists()
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1
    remove_leftovers(tmp_path, "checkpoint-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 300])
def test_paths_that_no_file_can_have_are_refused_by_name(path, tmp_path):
    with pytest.raises(ValueError, match="path is "):
        write_atomically(tmp_path / path, b"")
    with pytest.raises(ValueError, match="folder is "), replace_folder(tmp_path / path):
        pass
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_says_so_and_what_to_do(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"could not be written \(it is a folder\).*choose another path"):
        write_atomically(tmp_path / "folder", b"")
    (tmp_path / "file").write_bytes(b"older")
    for write in (lambda path: write_atomically(path, b""), lambda path: replace_folder(path).__enter__()):
        with pytest.raises((NotADirectoryError, FileExistsError), match=r"could not be written .*choose another path"):
            write(tmp_path / "file" / "inner")
    assert (tmp_path / "file").read_bytes() == b"older"
    for path in (".", "..", "../..", "/"):
        with pytest.raises(ValueError, match="can be replaced by no other"), replace_folder(path):
            pass


def test_the_working_folder_can_be_settled_from_within(tmp_path, monkeypatch):
    """It is what `train(resume_from=".")` asks for in a checkpoint's folder."""
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / ".checkpoint-1.replaced").mkdir()
    monkeypatch.chdir(tmp_path / "checkpoint-1")
    for path in (".", "", "/"):
        settle_folder(path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_in_the_place_of_an_older_folder_is_not_followed(is_there, tmp_path):
    """It brought a folder from elsewhere under the name, or kept every later write from it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("elsewhere")
    target = tmp_path / "target"
    if is_there:
        target.mkdir()
    (tmp_path / ".target.replaced").symlink_to(tmp_path / "elsewhere")
    settle_folder(target)
    assert target.exists() == is_there
    with replace_folder(target) as unfinished:
        (unfinished / "file").write_text("own")
    assert (target / "file").read_text() == "own"
    assert not target.is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "elsewhere"
