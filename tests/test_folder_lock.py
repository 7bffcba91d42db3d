"""One process at a time writes into a folder, and none that was killed keeps others out."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from mopref import _folder_lock
from mopref._folder_lock import LOCK, only_writer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")

HOLDER = """
import sys
from pathlib import Path

from mopref._folder_lock import only_writer

with only_writer(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder_of(folder):
    """Another process that is within the block, until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        yield process


def test_a_second_process_is_refused_by_name_until_the_first_has_ended(tmp_path):
    folder = tmp_path / "new" / "run"
    with holder_of(folder) as process:
        for _ in range(2):
            told = (
                rf"run is being written into by another run \(process {process.pid} on .+\): "
                r".* another folder \(output_dir, or a recipe's output\)"
            )
            with pytest.raises(BlockingIOError, match=told), only_writer(folder):
                pytest.fail("it got in")
    with only_writer(folder):
        assert (folder / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert list(folder.iterdir()) == []


def test_a_killed_process_keeps_nobody_out(tmp_path):
    with holder_of(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / LOCK).exists()
        with only_writer(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_forked_off_keeps_nobody_out(tmp_path):
    """A loader of data outlives a killed trainer by seconds."""
    code = HOLDER.replace(
        '    print("in", flush=True)',
        '    if os.fork():\n        print("in", flush=True)\n    else:\n        sys.stdin.read()',
    )
    command = [sys.executable, "-c", "import os" + code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.kill()
        process.wait()
        with only_writer(tmp_path):
            pass


def test_a_second_thread_or_run_of_one_process_is_refused(tmp_path):
    refused = []

    def enter():
        try:
            with only_writer(tmp_path / "." / "run"):
                pass
        except BlockingIOError as error:
            refused.append(str(error))

    with only_writer(tmp_path / "run"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}, which is this one" in refused[0]
    enter()
    assert len(refused) == 1


def test_an_error_within_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path):
        raise KeyError
    with only_writer(tmp_path):
        pass


@pytest.mark.parametrize("obstacle", ["file", "link", "folder"])
def test_where_nothing_can_be_locked_nothing_is(obstacle, tmp_path):
    """Whatever cannot be written there is told by the write itself."""
    if obstacle == "file":
        tmp_path = tmp_path / "file"
        tmp_path.write_text("")
    elif obstacle == "link":
        (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / LOCK).mkdir()
    with only_writer(tmp_path):
        assert not (tmp_path.parent / "elsewhere").exists()
        assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_its_owner_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    lock, calls = _folder_lock.fcntl.lockf, []

    def late(descriptor, how):
        lock(descriptor, how)
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr(_folder_lock.fcntl, "lockf", late)
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert len(calls) == 2


def test_a_file_system_without_locks_is_written_into_all_the_same(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(_folder_lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_folder_lock.fcntl, "lockf", refuse)
    with only_writer(tmp_path):
        pass
