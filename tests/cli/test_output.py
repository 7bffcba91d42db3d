import logging
import sys
import warnings

from mopref.cli.output import quiet_libraries, show, tell, terminal_width


def test_lines_go_to_standard_error(capsys):
    tell("working …")
    assert capsys.readouterr() == ("", "working …\n")


def test_warnings_are_sentences(capsys):
    with warnings.catch_warnings():
        quiet_libraries()
        warnings.simplefilter("always")
        warnings.warn("left out 3 rows.", stacklevel=1)
    assert capsys.readouterr().err == "warning: left out 3 rows.\n"
    assert logging.getLogger("torchao").level == logging.getLogger("bitsandbytes").level == logging.ERROR


def test_other_libraries_draw_bars_on_a_terminal_only(monkeypatch):
    from transformers.utils import logging as transformers_logging

    calls = []
    monkeypatch.setattr(transformers_logging, "disable_progress_bar", lambda: calls.append(1))
    with warnings.catch_warnings():
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        quiet_libraries()
        assert calls == []
        monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
        quiet_libraries()
        assert calls == [1]


def test_only_a_terminal_has_a_width(monkeypatch, capsys):
    assert terminal_width() is None
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "72")
    assert terminal_width() == 72


def test_one_of_several_processes_prints(monkeypatch, capsys):
    monkeypatch.setattr("mopref.cli.output.is_first_process", lambda: False)
    show("a table")
    tell("what is being done")
    assert capsys.readouterr() == ("", "")
