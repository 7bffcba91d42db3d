"""Progress: a bar on a terminal, whole lines at least every half minute elsewhere, and nothing where it is off."""

import io
import time
from itertools import pairwise

import hypothesis
import numpy as np
import pytest
from _clock import Clock
from hypothesis import strategies as st
from tqdm.std import tqdm as terminal_bar

from mopref import _progress
from mopref._progress import SECONDS_BETWEEN_LINES, progress_bar, time_left


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(clock: Clock, stream: io.StringIO, steps: int, seconds: float, **options) -> list[tuple[float, str]]:
    """Steps of so many seconds each; the lines written, each with the time since the start at which it came."""
    start, lines = clock.seconds, []
    with progress_bar(None, "work", stream=stream, total=steps, **options) as bar:
        for _ in range(steps):
            clock.seconds += seconds
            bar.update()
            count = len(stream.getvalue().splitlines())
            lines += [(clock.seconds - start, line) for line in stream.getvalue().splitlines()[len(lines) : count]]
    return lines


def test_half_a_minute():
    assert SECONDS_BETWEEN_LINES == 30.0


def test_where_there_is_no_terminal_a_line_comes_every_half_minute(clock):
    """The first after 30 s; none is more than 30 s and a step after the one before."""
    stream = io.StringIO()
    lines = work(clock, stream, steps=100, seconds=1.0)
    times = [time for time, _ in lines]
    assert times == [30.0, 60.0, 90.0]
    assert lines[0][1] == "work: 30/100 [00:30, 1 min left]"
    assert lines[1][1] == "work: 60/100 [01:00, 40 s left]"
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_steps_longer_than_half_a_minute_get_a_line_each(clock):
    lines = work(clock, io.StringIO(), steps=4, seconds=50.0)
    assert [time for time, _ in lines] == [50.0, 100.0, 150.0, 200.0]
    assert lines[1][1].startswith("work: 2/4 [01:40, 2 min left]")


def test_a_fast_beginning_does_not_make_later_lines_rarer(clock):
    """tqdm would learn to look at the clock only every so many updates: here every update looks."""
    stream = io.StringIO()
    with progress_bar(None, "work", stream=stream, total=10_010) as bar:
        for _ in range(10_000):
            clock.seconds += 0.01
            bar.update()
        count = len(stream.getvalue().splitlines())
        for _ in range(10):
            clock.seconds += 31.0
            bar.update()
            count += 1
            assert len(stream.getvalue().splitlines()) == count


def test_short_work_leaves_no_line(clock):
    for leave in (False, True):
        stream = io.StringIO()
        assert work(clock, stream, steps=29, seconds=1.0, leave=leave) == []
        assert stream.getvalue() == ""


@pytest.mark.parametrize("leave", [False, True])
def test_long_work_ends_with_a_last_line_where_it_is_left(leave, clock):
    stream = io.StringIO()
    work(clock, stream, steps=70, seconds=1.0, leave=leave)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["work: 30/70 [00:30, 40 s left]", "work: 60/70 [01:00, 10 s left]"]
    assert lines[2:] == (["work: 70/70 [01:10, 0 s left]"] if leave else [])


def test_what_is_set_beside_it_is_in_the_line(clock):
    stream = io.StringIO()
    with progress_bar(None, "training", stream=stream, total=5, initial=2) as bar:
        clock.seconds += 40.0
        bar.set_postfix_str("helpful=0.5000", refresh=False)
        bar.update()
    # One of three steps in 40 s, so that two more take 80 s.
    assert stream.getvalue() == "training: 3/5 [00:40, 1 min left, helpful=0.5000]\n"


def test_an_iterable(clock):
    stream, seen = io.StringIO(), []
    for item in progress_bar("abc", "letters", stream=stream):
        seen.append(item)
        clock.seconds += 40.0
    assert seen == ["a", "b", "c"]
    assert [line.split(" [")[0] for line in stream.getvalue().splitlines()] == [
        "letters: 1/3",
        "letters: 2/3",
        "letters: 3/3",
    ]


def test_lines_are_written_at_once(clock):
    """A log file that is looked at while the work runs has them."""

    class Counting(io.StringIO):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    stream = Counting()
    work(clock, stream, steps=1, seconds=40.0)
    assert stream.flushes >= 1


def test_on_a_terminal_it_is_a_bar(clock):
    stream = Terminal()
    with progress_bar(None, "work", stream=stream, total=4) as bar:
        for _ in range(4):
            clock.seconds += 1.0
            bar.update()
    text = stream.getvalue()
    assert "\rwork:   0%|" in text
    assert "| 4/4 [" in text
    assert "it/s" in text or "s/it" in text


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_where_it_is_off_nothing_is_written(stream, clock):
    seen = []
    for item in progress_bar([1, 2], "work", enabled=False, stream=stream):
        clock.seconds += 100.0
        seen.append(item)
    with progress_bar(None, "work", enabled=False, stream=stream, total=3) as bar:
        clock.seconds += 100.0
        bar.update()
    assert seen == [1, 2]
    assert stream.getvalue() == ""


def test_standard_error_is_the_default(clock, capsys):
    with progress_bar(None, "work", total=2) as bar:
        clock.seconds += 31.0
        bar.update()
    captured = capsys.readouterr()
    assert captured.err == "work: 1/2 [00:31, 31 s left]\n"
    assert captured.out == ""


def test_in_a_notebook_it_is_the_notebooks_bar(clock, monkeypatch):
    """Where standard error is no terminal, but a bar can be drawn all the same."""
    made = []

    class Widget(terminal_bar):
        def __init__(self, *arguments, **options):
            made.append(options)
            super().__init__(*arguments, **{**options, "disable": True})

    Widget.__module__ = "tqdm.notebook"
    monkeypatch.setattr(_progress, "tqdm", Widget)
    progress_bar([1], "work", stream=io.StringIO())
    assert made
    assert "bar_format" not in made[0]


def test_one_long_step_gets_lines_too(monkeypatch):
    """Nothing is updated meanwhile: the lines come from another thread, and end with the bar."""
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", 0.1)
    stream = io.StringIO()
    for number in progress_bar([1, 2], "long", stream=stream):
        if number == 2:
            time.sleep(0.55)
    lines = stream.getvalue().splitlines()
    assert 3 <= sum(line.startswith("long: 1/2") for line in lines) <= 6
    time.sleep(0.25)
    assert stream.getvalue().splitlines() == lines


class Dated(io.StringIO):
    """Keeps when each line was written."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def write(self, text: str) -> int:
        self.times.append(time.monotonic())
        return super().write(text)


@pytest.mark.parametrize("seconds", [0.03, 0.5], ids=["short steps", "long steps"])
def test_lines_keep_their_distance_whoever_writes_them(seconds, monkeypatch):
    """None is written twice, and none comes late because another one has just been written."""
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", 0.4)
    stream = Dated()
    with progress_bar(None, "work", stream=stream, total=100) as bar:
        time.sleep(0.42)
        bar.update()
        start = time.monotonic()
        while time.monotonic() - start < 1.5:
            time.sleep(seconds)
            bar.update()
    gaps = [later - earlier for earlier, later in pairwise(stream.times)]
    assert 3 <= len(gaps) <= 5
    assert min(gaps) > 0.3
    assert max(gaps) < 0.7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s left"),
        (59.4, "59 s left"),
        (59.6, "1 min left"),
        (192.0, "3 min left"),
        (3_569.0, "59 min left"),
        (3_571.0, "1 h left"),
        (4_800.0, "1 h 20 min left"),
        (86_369.0, "23 h 59 min left"),
        (86_371.0, "1 d left"),
        (200_000.0, "2 d 8 h left"),
        (None, "time left unknown"),
    ],
)
def test_the_time_left_in_words(seconds, text):
    assert time_left(seconds) == text


@hypothesis.given(st.floats(0, 1e7))
def test_the_words_say_the_time(seconds):
    """Rounded to what they say: a second, a minute or an hour, the smallest unit of each range."""
    words = time_left(seconds).removesuffix(" left").split()
    units = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
    said = sum(int(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    step = 1 if seconds < 59.5 else 60 if seconds < 86_370 else 3_600
    assert abs(said - seconds) <= step / 2


@pytest.mark.parametrize("total", [None, 5], ids=["without an end", "before the first step"])
def test_where_nobody_knows_the_time_left_the_line_says_so(total, clock):
    stream = io.StringIO()
    with progress_bar(None, "work", stream=stream, total=total, initial=2) as bar:
        clock.seconds += 40.0
        bar.update(0 if total else 3)
        bar.refresh()
    assert "[00:40, time left unknown]" in stream.getvalue().splitlines()[-1]


def test_a_description_does_not_order_a_terminal_about():
    stream = Terminal()
    with progress_bar(None, "fetching \x1b]0;title\x07", stream=stream, total=2) as bar:
        bar.refresh()
    assert "fetching \\x1b]0;title\\x07" in stream.getvalue()


@pytest.mark.parametrize("progress", [np.zeros((2, 0)), "no", None, 2])
def test_what_is_no_flag_is_refused_by_the_name_that_callers_give_it(progress):
    with pytest.raises(TypeError, match=r"^progress is .*: give True or False"):
        progress_bar([1], enabled=progress)
