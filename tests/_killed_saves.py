"""A save in a child process that is killed just before its n-th file operation, for each n."""

import os
import signal
import sys
from collections.abc import Callable, Iterator

__all__ = ["killed_saves"]

_OPERATIONS = {"rename", "replace", "unlink", "remove", "rmdir", "mkdir", "open", "fsync", "write", "flock", "close"}


def killed_saves(save: Callable[[], object], most: int = 500) -> Iterator[int]:
    """Yield after each kill; the end is reached when a child has fewer operations than the next number."""
    for at in range(1, most):
        child = os.fork()
        if child == 0:
            _save_and_die(save, at)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            return
        yield at
    raise AssertionError(f"more than {most} file operations")


def _save_and_die(save: Callable[[], object], at: int) -> None:
    count = 0

    def watch(frame, event, function):
        nonlocal count
        if event == "c_call" and getattr(function, "__name__", "") in _OPERATIONS:
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.setprofile(watch)
        save()
    finally:
        sys.setprofile(None)
        os._exit(0)
