"""Progress of long work: a bar on a terminal, and a line at least every half minute where the output is no terminal."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from tqdm import tqdm as terminal_bar
from tqdm.auto import tqdm

from mopref._terminal import visible_line
from mopref.setting_types import python_value

__all__ = ["SECONDS_BETWEEN_LINES", "progress_bar", "time_left"]

SECONDS_BETWEEN_LINES = 30.0


def progress_bar(
    iterable: Iterable[Any] | None = None,
    description: str = "",
    *,
    enabled: bool = True,
    stream: TextIO | None = None,
    **options: Any,
) -> Any:
    """A tqdm bar; where its stream is no terminal, whole lines with the same text, the first after half a minute.

    A log file then says what runs, how far it is and how long it will take, and short work leaves no line in it.

    Args:
        iterable: what is gone through; ``None`` with ``total`` to call ``update()`` by hand.
        description: what runs.
        enabled: whether anything is shown.
        stream: where to; standard error by default.
        **options: for tqdm, such as ``total``, ``initial``, ``unit`` and ``leave``.

    Raises:
        TypeError: ``enabled`` is no flag; it is called progress, as callers hand that on.
    """
    enabled = python_value(enabled, bool, "progress")
    output = sys.stderr if stream is None else stream
    description = visible_line(description)
    if not enabled or output.isatty() or _in_notebook():
        return tqdm(iterable, desc=description, disable=not enabled, file=stream, **{"leave": False, **options})
    lines = {
        "file": _Lines(output),
        # A drawn bar has no use in a file.
        "bar_format": "{desc}: {n_fmt}/{total_fmt} [{elapsed}, {left}{postfix}]",
        "mininterval": SECONDS_BETWEEN_LINES,
        "maxinterval": SECONDS_BETWEEN_LINES,
        "delay": SECONDS_BETWEEN_LINES,
        # Every update looks at the clock.
        "miniters": 1,
    }
    return _LineBar(iterable, desc=description, **{"leave": False, **options, **lines})


def time_left(seconds: float | None) -> str:
    """How long work will still take, as it is said: to the second, the minute or the hour, whichever is enough.

    Example:
        >>> time_left(40.2), time_left(192), time_left(4_800), time_left(3 * 86_400), time_left(None)
        ('40 s left', '3 min left', '1 h 20 min left', '3 d left', 'time left unknown')
    """
    if seconds is None:
        return "time left unknown"
    if round(seconds) < 60:
        return f"{round(seconds)} s left"
    minutes = round(seconds / 60)
    hours = round(seconds / 3_600)
    if minutes < 60:
        return f"{minutes} min left"
    # From a day on, minutes say nothing more.
    (large, small), units = (divmod(minutes, 60), "h min") if minutes < 1_440 else (divmod(hours, 24), "d h")
    first, second = units.split()
    return f"{large} {first} {small} {second} left" if small else f"{large} {first} left"


def _in_notebook() -> bool:
    return any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


class _LineBar(terminal_bar):
    """A bar that also writes a line where one step alone takes longer than the time between two lines."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._line_time, self._closed = time.monotonic(), threading.Event()
        super().__init__(*arguments, **options)
        threading.Thread(target=self._write_overdue_lines, daemon=True).start()

    def __iter__(self) -> Iterator[Any]:
        # tqdm's own counts in private, and the other thread would write an old number.
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    @property
    def format_dict(self) -> dict[str, Any]:
        """What a line can say, with the time left in words."""
        known: dict[str, Any] = super().format_dict
        n, total, rate, elapsed = known["n"], known["total"], known["rate"], known["elapsed"]
        if rate is None and elapsed:
            rate = (n - known["initial"]) / elapsed
        return known | {"left": time_left((total - n) / rate if total is not None and rate else None)}

    def display(self, *arguments: Any, **options: Any) -> None:
        """Write a line; whichever thread does, the next one is due so much later."""
        self._line_time = time.monotonic()
        self.last_print_n, self.last_print_t = self.n, self._time()
        super().display(*arguments, **options)

    def close(self) -> None:
        """Write no more."""
        self._closed.set()
        super().close()

    def _write_overdue_lines(self) -> None:
        while not self._closed.wait(max(0.0, self._seconds_left())):
            if self._seconds_left() <= 0:
                self.refresh()

    def _seconds_left(self) -> float:
        return self._line_time + SECONDS_BETWEEN_LINES - time.monotonic()


class _Lines:
    """What tqdm writes over one line of a terminal, as lines of their own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            self._stream.write(line + "\n")
            self._stream.flush()

    def flush(self) -> None:
        self._stream.flush()
