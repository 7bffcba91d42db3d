"""What the examples print."""

import re
import time

from mopref.llm.demo.reporting import cost, preference_text, print_answer, say
from mopref.llm.policy import Answer


def test_a_preference_in_words():
    assert preference_text(("helpful", "harmless"), [0.25, 0.75]) == "helpful 0.25, harmless 0.75"


def test_an_answer_is_indented_and_its_markup_is_text(capsys):
    print_answer(Answer("[bold]not bold[/bold] " + "word " * 40 + "\nnext line", 50), "base model")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  base model (50 tokens)"
    assert lines[1].startswith("    [bold]not bold[/bold] word")
    assert all(line.startswith("    ") and len(line) <= 104 for line in lines[1:])
    assert lines[-1] == "    next line"


def test_say_reads_markup_and_adds_no_colours(capsys):
    say("[bold]loud[/bold] 1.5")
    assert capsys.readouterr().out == "loud 1.5\n"


def test_cost_tells_minutes_and_memory():
    text = cost(time.monotonic() - 90)
    assert re.fullmatch(r"1\.5 min(; peak memory \d+\.\d GiB)?", text)


def test_an_answer_does_not_order_a_terminal_about(capsys):
    print_answer(Answer("one\x1b[2J\u202e\n\x9b1m", 5), "λ\x1b[0m")
    say("label \x07")
    assert capsys.readouterr().out == "  λ\\x1b[0m (5 tokens)\n    one\\x1b[2J\\u202e\n    \\x9b1m\nlabel \\x07\n"
