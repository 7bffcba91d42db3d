"""SIGTERM and Ctrl-C wait for the step that is at work; a second one does not."""

import os
import signal
import threading

import pytest

from mopref.training.stop_signals import StopSignals

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers():
    """A signal that gets through is an exception here, not the end of the tests."""
    # A shell has Ctrl-C ignored in what runs in its background.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    signal.signal(signal.SIGINT, ignored)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_one_is_noted_and_then_obeyed(number, capsys):
    with StopSignals() as signals:
        assert signals.received is None
        send(number)
        assert signals.received == number
        with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt) as end:
            signals.obey(number, "stopped after step 3")
    assert getattr(end.value, "code", 143) == 143
    assert capsys.readouterr().err == f"{number.name}: stopped after step 3\n"


def test_a_second_one_acts_at_once():
    with StopSignals() as signals:
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert signals.received == signal.SIGTERM
        # By default it would have ended the process here.
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_users_own_decides_what_follows():
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with StopSignals() as signals:
            for round_ in (1, 2):
                send(signal.SIGTERM)
                assert len(calls) == round_ - 1
                signals.obey(signal.SIGTERM, "saved")
                assert calls == [signal.SIGTERM] * round_
                assert signals.received is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_one_that_is_ignored_stays_ignored():
    """As Ctrl-C is in a job that a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send(signal.SIGINT)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_nothing_is_done_where_it_is_not_enabled_or_not_in_the_main_thread():
    with StopSignals(enabled=False) as signals, pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    assert signals.received is None
    seen = []

    def work():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_one_of_several_processes_says_it(monkeypatch, capsys):
    monkeypatch.setattr("mopref.training.stop_signals.is_first_process", lambda: False)
    with StopSignals() as signals, pytest.raises(KeyboardInterrupt):
        signals.obey(signal.SIGINT, "stopped after step 3")
    assert capsys.readouterr().err == ""
