import sys

from mopref.cli import main
from mopref.recipes import load_recipe
from mopref.recipes.inspection import DataReport, RenderedRow, inspect_data


def test_data_are_shown_with_what_is_trained_in_brackets(tree, write_recipe, capsys):
    path = write_recipe(tree)
    assert main(["data", "inspect", str(path), "--rows", "2"]) == 0
    report = inspect_data(load_recipe(path), 2)
    printed = capsys.readouterr().out
    assert printed.startswith("\n".join(report.lines))
    row = report.rows[1]
    assert f"row 1: {row.labels}\n{row.prompt}\n⟦{row.responses[0]}⟧\n⟦{row.responses[1]}⟧\n" in printed
    assert "row 2" not in printed


def test_a_terminal_gets_colours(tree, write_recipe, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["data", "inspect", str(write_recipe(tree)), "--rows=1"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b[32m" in printed
    assert "⟦" not in printed


def test_ten_rows_without_a_number(tree, write_recipe, capsys):
    assert main(["data", "inspect", str(write_recipe(tree))]) == 0
    assert capsys.readouterr().out.count("\nrow ") == 10


def test_what_cannot_be_is_told(tree, write_recipe, capsys):
    path = str(write_recipe(tree))
    for arguments, message in (
        ([], "the action `inspect` comes first"),
        (["look", path], "there is no action 'look': write `mopref data inspect recipe.yaml`."),
        (["inspect"], "after `inspect` the recipe comes first"),
        (["inspect", path, "--rows", "-1"], "--rows is '-1': it is a number of rows"),
        (["inspect", path, "--data.sourc", "x"], "did you mean --data.source?"),
    ):
        assert main(["data", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_rows_do_not_order_a_terminal_about(tree, write_recipe, capsys, monkeypatch):
    row = RenderedRow("a \x1b[2J prompt\n", ["an \x1b[0m answer\x07", "\u202eother"], "helpful 1")
    report = DataReport(["the column \x9b1m"], [row], None)
    monkeypatch.setattr("mopref.cli.data.inspect_data", lambda recipe, count: report)
    assert main(["data", "inspect", str(write_recipe(tree))]) == 0
    printed = capsys.readouterr().out
    assert printed == (
        "the column \\x9b1m\n\nrow 0: helpful 1\na \\x1b[2J prompt\n\n⟦an \\x1b[0m answer\\x07⟧\n⟦\\u202eother⟧\n"
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["data", "inspect", str(write_recipe(tree))]) == 0
    assert capsys.readouterr().out.count("\x1b") == 4  # the colours of two answers
