"""Files are read whole only where they are files, and not too large."""

import os
from pathlib import Path

import pytest

from mopref._bounded_reading import read_bounded


def test_files_up_to_the_bound_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_bounded(tmp_path / "file", 4, "a front") == b"1234"
    assert read_bounded(tmp_path / "link", 4, "a front") == b"1234"
    with pytest.raises(ValueError, match=r"file has more than 2.861e-06 MiB, the most that a front may have"):
        read_bounded(tmp_path / "file", 3, "a front")
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "none", 4, "a front")


def test_a_larger_file_takes_no_more_memory_than_the_bound(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="more than 1 MiB"):
        read_bounded(tmp_path / "file", 1 << 20, "a front")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "pipe or a device"), (tmp_path, "folder"), (Path("/dev/zero"), "device")):
        with pytest.raises(ValueError, match=f"is a .*{kind}, and no file that could hold a front"):
            read_bounded(path, 1 << 30, "a front")


def test_a_file_that_cannot_be_read_says_so_and_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone \(looked for in .*give the path of a front"):
        read_bounded(tmp_path / "gone", 10, "a front")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"cannot be read \(Not a directory\): give the path of a front"):
        read_bounded(tmp_path / "file" / "inner", 10, "a front")
    with pytest.raises(ValueError, match="has a character that no name of a file can have"):
        read_bounded(Path("a\0b"), 10, "a front")
