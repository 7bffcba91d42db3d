"""Files that appear whole or not at all."""

import os

import pytest

from mopref._atomic_writes import replace_folder, write_atomically


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
