"""What came of one case: taken, refused in our own words, or one of the outcomes that must not be."""

import dis
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

__all__ = ["BAD", "OUTCOMES", "Nonsense", "Refused", "UsersOwnError", "Verdict", "judge"]

# In the order of the table. "user's own" is an exception that the caller's own object raised and that passed through;
# "machine's limit" an array that no memory holds, or millions of points that take longer than a case may.
OUTCOMES = (
    "taken",
    "refused",
    "user's own",
    "machine's limit",
    "foreign",
    "nonsense",
    "half-written",
    "hang",
    "crash",
)
BAD = ("foreign", "nonsense", "half-written", "hang", "crash")
# What a refusal may be; each class derived from one of these, too.
_REFUSALS = (
    ValueError,
    TypeError,
    OSError,
    FloatingPointError,
    NotImplementedError,
    ImportError,
    RuntimeError,
)
_LIBRARY = ("mopref", "objectives", "scalarizers")


class UsersOwnError(Exception):
    """Raised by a hostile object of a case; a library lets it pass."""


class Refused(Exception):
    """Raised by a case whose refusal is no exception, such as the exit code of a command."""


class Nonsense(Exception):
    """Raised by a case's own check: input was taken that should not have been, or the result is wrong."""


class _TooLong(BaseException):
    """Raised by the alarm."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a case, and where it came from: an exception's type, message, file and line."""

    outcome: str
    detail: str = ""
    place: str = ""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(call: Callable[[], Any], seconds: float = 10.0) -> Verdict:
    """Run a case and say what came of it.

    A refusal is ours where the last frame of its traceback is in the library, stands at a ``raise`` statement there
    (and not at a built-in function that failed), and is of a type that callers are told of.
    """
    try:
        with _time_limit(seconds):
            call()
    except _TooLong as error:
        return Verdict("hang", f"longer than {seconds:g} s", _place(error))
    except UsersOwnError:
        return Verdict("user's own")
    except Refused as error:
        return Verdict("refused", str(error))
    except Nonsense as error:
        return Verdict("nonsense", str(error), _place(error))
    except MemoryError as error:
        return Verdict("machine's limit", _text(error), _place(error))
    except BaseException as error:
        return _judged(error)
    return Verdict("taken")


def _judged(error: BaseException) -> Verdict:
    if isinstance(error, KeyboardInterrupt):
        raise error
    own = isinstance(error, _REFUSALS) and _is_raise_of_ours(error.__traceback__)
    if not own and _is_out_of_memory(error):
        return Verdict("machine's limit", _text(error), _place(error))
    return Verdict("refused" if own else "foreign", _text(error), _place(error))


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _text(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception as other:
        message = f"(its text raises {type(other).__name__})"
    return f"{type(error).__name__}: {message[:300]}"


def _last(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _is_raise_of_ours(trace: TracebackType | None) -> bool:
    last = _last(trace)
    if last is None or not _is_ours(last.tb_frame.f_code.co_filename):
        return False
    instruction = last.tb_frame.f_code.co_code[last.tb_lasti]
    return dis.opname[instruction] in ("RAISE_VARARGS", "RERAISE")


def _is_ours(filename: str) -> bool:
    package = sys.modules.get("mopref")
    if package is None or package.__file__ is None:
        return False
    root = Path(package.__file__).parents[1]
    path = Path(filename)
    return any(root / part in path.parents for part in _LIBRARY)


def _place(error: BaseException) -> str:
    """The last frame of ours and the last frame of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _is_ours(frame.filename)]
    root = Path(__file__).parents[2]
    names = []
    for frame in (*ours[-1:], *frames[-1:]):
        path = Path(frame.filename)
        name = path.relative_to(root).as_posix() if root in path.parents else "/".join(path.parts[-2:])
        names.append(f"{name}:{frame.lineno}")
    return " < ".join(dict.fromkeys(names))
