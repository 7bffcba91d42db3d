"""SIGTERM and Ctrl-C while a training runs: the first one waits until a step is done and saved."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from mopref._agreement import is_first_process

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Within this block the first SIGTERM or SIGINT is noted instead of obeyed; a second one acts at once.

    Nothing is changed outside the main thread, where Python has no say in signals, nor for one that is ignored or
    handled by other than Python code.

    Args:
        enabled: whether anything is done at all.

    Attributes:
        received: the signal's number, ``None`` as long as there was none.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.received: int | None = None
        self._enabled = enabled
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def obey(self, number: int, told: str) -> None:
        """Let the signal do now what it would have done, after a line on the standard error stream.

        Where a handler of the user's own returns, the next signal is waited for.

        Raises:
            KeyboardInterrupt: for SIGINT, unless it is handled otherwise.
            SystemExit: for SIGTERM, with 143 (128 + 15), unless it is handled otherwise.
        """
        self.received = None
        self._restore()
        if is_first_process():
            print(f"{signal.Signals(number).name}: {told}", file=sys.stderr, flush=True)
        if number == signal.SIGTERM and signal.getsignal(number) is signal.SIG_DFL:
            # The same end as by default, but for what is to be done at it: files closed, temporary ones removed.
            raise SystemExit(128 + number)
        signal.raise_signal(number)
        self._wait()

    def _wait(self) -> None:
        if not self._enabled or threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            if previous is not None and previous is not signal.SIG_IGN:
                self._previous[number] = previous
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, previous = self._previous.popitem()
            signal.signal(number, previous)
