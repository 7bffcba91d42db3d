"""A function in a forked process, which is sent a signal at a moment, before a file operation, or within a write."""

import json
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Death", "Outcome", "forked"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events of the audit hook whose arguments begin with a path, and say by which folder's descriptor it is meant.
_OPERATIONS = {
    "os.remove": 1,
    "os.rmdir": 1,
    "os.mkdir": 2,
    "os.rename": 3,
    "os.link": 3,
    "os.symlink": 2,
    "os.truncate": None,
    "os.chmod": 2,
}


class Death(NamedTuple):
    """When a process dies: all ``None`` for one that lives on.

    Attributes:
        seconds: so long after it said that it has begun.
        operation: before its file operation of this number, from 1.
        torn: with ``operation``: not before it, but when a file that is written from then on has so many bytes.
        signals: what it is sent, one after the other.
    """

    seconds: float | None = None
    operation: int | None = None
    torn: int | None = None
    signals: tuple[int, ...] = (signal.SIGKILL,)

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {self.seconds:.4f} s"
        if self.operation is None:
            return "never"
        return f"{'before' if self.torn is None else f'{self.torn} bytes into'} file operation {self.operation}"


_NEVER = Death()


class Outcome(NamedTuple):
    """What came of a process.

    Attributes:
        killed: whether it was.
        code: its exit status, or −signal.
        told: what it said, in order: dicts with ``at``, in seconds of one clock, whose ``event`` is "operation",
            "error" or the function's own; from "begun" on the seconds of a death count.
    """

    killed: bool
    code: int
    told: list[dict[str, Any]]

    def of(self, event: str) -> list[dict[str, Any]]:
        """What was told of one kind."""
        return [entry for entry in self.told if entry["event"] == event]


def forked(
    function: Callable[[Callable[..., None]], None],
    folder: Path,
    death: Death = _NEVER,
    on_begun: Callable[[int], None] | None = None,
) -> Outcome:
    """Run ``function(tell)`` in a fork of this process, with an eye on the file operations within ``folder``.

    ``tell(event, **details)`` reaches this process even from one that is killed right afterwards. ``on_begun`` is
    called with the process's number after its "begun", in a thread.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _live(function, folder, death, writer)
    os.close(writer)
    content = _listen(reader, child, death, on_begun)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = [json.loads(line) for line in content.decode().splitlines() if line.endswith("}")]
    killed = code in (-signal.SIGKILL, -signal.SIGXFSZ)
    return Outcome(killed, code, told)


def _listen(reader: int, child: int, death: Death, on_begun: Callable[[int], None] | None) -> bytes:
    """What the child says until its end; its signals come so many seconds after it has begun."""
    content, at, begun = b"", None, False
    while True:
        if not begun and b'"begun"' in content:
            begun = True
            at = None if death.seconds is None else time.perf_counter() + death.seconds
            if on_begun is not None:
                threading.Thread(target=on_begun, args=(child,), daemon=True).start()
        wait = None if at is None else max(0.0, at - time.perf_counter())
        if not select.select([reader], [], [], wait)[0]:
            for number in death.signals:
                os.kill(child, number)
                # Two at once would be one.
                time.sleep(0.001)
            at = None
            continue
        part = os.read(reader, 1 << 16)
        if not part:
            return content
        content += part


def _live(function: Callable[[Callable[..., None]], None], folder: Path, death: Death, writer: int) -> None:
    """The child's life; it never returns."""

    def tell(event: str, **details: Any) -> None:
        os.write(writer, (json.dumps({"event": event, "at": time.perf_counter(), **details}) + "\n").encode())

    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        # A shell may have started this process with it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _watch(folder, death, tell)
        function(tell)
        code = 0
    except BaseException:
        # A second one, which is on its way, must not break off what is told of the first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tell("error", text=traceback.format_exc()[-3000:])
    finally:
        os._exit(code)


def _watch(folder: Path, death: Death, tell: Callable[..., None]) -> None:
    """Count the file operations within the folder from now on, and die at the one that is meant."""
    count, within = 0, str(folder.resolve())

    def operation(name: str, path: str) -> None:
        nonlocal count
        if not path.startswith(within):
            return
        count += 1
        tell("operation", number=count, name=name, path=path[len(within) :])
        if count != death.operation:
            return
        if death.torn is None:
            for number in death.signals:
                signal.raise_signal(number)
            return
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (death.torn, resource.RLIM_INFINITY))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            if isinstance(arguments[0], str | bytes | os.PathLike):
                operation("open", os.path.abspath(os.fsdecode(arguments[0])))
        elif event in _OPERATIONS:
            place = _OPERATIONS[event]
            # Of a renaming, the folder that the new name stands in counts.
            path = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
            operation(event.removeprefix("os."), _whole(path, -1 if place is None else arguments[place]))

    synchronise = os.fsync

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        operation("fsync", os.readlink(f"/proc/self/fd/{number}"))
        synchronise(descriptor)

    os.fsync = fsync
    sys.addaudithook(hook)


def _whole(path: Any, descriptor: Any) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    text = os.fsdecode(path)
    if isinstance(descriptor, int) and descriptor >= 0:
        return os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), text)
    return os.path.abspath(text)
