import sys

import pytest
import torch

from mopref.cli import main
from mopref.llm.policy import Answer
from mopref.recipes.answers import answers_at


def test_answers_are_side_by_side(trained, capsys):
    given = ["--preference", "helpful=1,harmless=0", "--preference", "harmless=1,helpful=0", "--max-new-tokens", "3"]
    assert main(["generate", str(trained.folder), *given, "red cat", "blue dog"]) == 0
    answers = answers_at(trained, ["red cat", "blue dog"], torch.eye(2), 3)
    expected, labels = [], ("helpful 1.00, harmless 0.00", "helpful 0.00, harmless 1.00")
    for number, prompt in enumerate(["red cat", "blue dog"]):
        expected.append(prompt)
        for label, of_point in zip(labels, answers, strict=True):
            answer = of_point[number]
            expected += [f"  λ: {label} ({answer.num_tokens} tokens)", f"    {answer.text}"]
    assert capsys.readouterr().out.splitlines() == expected


def test_without_preferences_corners_and_middle_are_shown(trained, capsys):
    assert main(["generate", str(trained.folder), "red cat", "--max-new-tokens", "2"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "λ" in line]
    assert [line.partition(" (")[0].strip() for line in lines] == [
        "λ: helpful 0.00, harmless 1.00",
        "λ: helpful 1.00, harmless 0.00",
        "λ: helpful 0.50, harmless 0.50",
    ]


def test_a_terminal_gets_a_table(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["generate", str(trained.folder), "red cat", "--max-new-tokens", "2"]) == 0
    printed = capsys.readouterr().out
    assert "┃" in printed or "│" in printed
    assert "prompt" in printed


def test_what_is_missing_is_told(trained, capsys):
    assert main(["generate", str(trained.folder)]) == 2
    assert "required: PROMPT: see" in capsys.readouterr().err
    assert main(["generate", str(trained.folder), "--preference", "helpful", "red"]) == 2
    assert "--preference is 'helpful': 'helpful' is no name and number" in capsys.readouterr().err
    assert main(["generate", str(trained.folder), " "]) == 2
    assert "row 0: the prompt is empty" in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [False, True])
def test_answers_do_not_order_a_terminal_about(trained, capsys, monkeypatch, is_terminal):
    hostile = "one\n\x1b[2J\x9b1m\u202etwo\tend\x07"

    def answers(run, prompts, preferences, length):
        return [[Answer(hostile, 3)] * len(prompts) for _ in preferences]

    monkeypatch.setattr("mopref.cli.generate.answers_at", answers)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert main(["generate", str(trained.folder), "red \x1b]0;title\x07 cat"]) == 0
    printed = capsys.readouterr().out
    for own in ("\x1b[1m", "\x1b[0m"):  # of the heads of the table
        printed = printed.replace(own, "")
    assert not set("\x1b\x9b\u202e\x07") & set(printed)
    if not is_terminal:
        assert "red \\x1b]0;title\\x07 cat" in printed
        assert "    one\n    \\x1b[2J\\x9b1m\\u202etwo\tend\\x07\n" in printed
