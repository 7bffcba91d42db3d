"""A folder that one process at a time writes into: a second one is refused, and no killed one leaves it locked.

The lock is the operating system's, which takes it back when its process ends, however it ends. It is advisory: it keeps
only those apart that ask for it.
"""

import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["LOCK", "only_writer"]

LOCK = ".running"
_MOST_BYTES = 400
# POSIX locks keep processes apart, not the threads of one, and end when their process closes any handle of the file.
_own_folders: set[tuple[int, Path]] = set()
_own_folders_guard = threading.Lock()


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Within this block no other process, nor other thread of this one, gets into such a block for the folder.

    Where nothing can be locked, nothing is: on Windows, in a folder that cannot be written into, and on file systems
    without locks.

    Raises:
        BlockingIOError: another one is within it; its process is named where that is known.
    """
    own = (os.getpid(), folder.resolve())
    with _own_folders_guard:
        if own in _own_folders:
            raise _refusal(folder, f"process {os.getpid()}, which is this one")
        _own_folders.add(own)
    descriptor = None
    try:
        descriptor = _locked(folder)
        yield
    finally:
        if descriptor is not None:
            # Before the lock is given back: afterwards it might be another's.
            with suppress(OSError):
                (folder / LOCK).unlink()
            os.close(descriptor)
        with _own_folders_guard:
            _own_folders.discard(own)


def _locked(folder: Path) -> int | None:
    """The open file that holds the lock; ``None`` where nothing can be locked."""
    if sys.platform == "win32":
        return None
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError:
            return None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, _MOST_BYTES, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return None
            raise _refusal(folder, holder if holder.isprintable() and holder else "another process") from None
        if _is_at(descriptor, path):
            break
        # Its owner ended, and removed it, between the two calls.
        os.close(descriptor)
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that a path names."""
    try:
        there = path.lstat()
    except OSError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _refusal(folder: Path, holder: str) -> BlockingIOError:
    return BlockingIOError(
        errno.EAGAIN,
        f"{folder} is being written into by another run ({holder}): two would remove each other's files. Wait for "
        "it, end it, or give this one another folder (output_dir, or a recipe's output)",
    )
