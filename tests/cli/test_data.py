import json
import sys

import pytest
from _tiny_runs import kind_sections

from mopref.cli import main
from mopref.llm.data import label_counts
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
        ([], "the action `inspect` or `sample` comes first"),
        (["look", path], "there is no action 'look': write `mopref data inspect recipe.yaml`, or `sample`."),
        (["inspect"], "after `inspect` the recipe comes first"),
        (["inspect", path, "--rows", "-1"], "--rows is '-1': it is a number of rows"),
        (["inspect", path, "--data.sourc", "x"], "did you mean --data.source?"),
        (["sample"], "after `sample` the recipe comes first"),
        (["sample", path], "--output is missing: say which file the pairs go into"),
        (["sample", path, "--output", "x.jsonl", "--gaps", "helpful"], "--gaps is 'helpful': 'helpful' is no name and"),
        (["sample", path, "--output", "x.txt"], "--output is 'x.txt': pairs are JSON lines"),
        (["sample", path, "--output", "x.jsonl"], "objective.name is 'dpo', which has no rewards"),
    ):
        assert main(["data", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*rows made:UserWarning")
def test_the_model_writes_pairs_that_a_training_reads(tree, write_recipe, tmp_path, capsys):
    prompts = {**tree, **kind_sections("online-dpo", tmp_path)}
    prompts["rewards"] = {name: "brevity" for name in ("helpful", "harmless")}
    output = tmp_path / "pairs.jsonl"
    command = ["data", "sample", str(write_recipe(prompts)), "--output", str(output), "--gaps", "helpful=1"]
    assert main([*command, "--seed=3"]) == 0
    printed = capsys.readouterr()
    counts = label_counts([json.loads(line) for line in output.read_text().splitlines()], ("helpful", "harmless"))
    both = counts.labelled_on_all
    assert printed.out.splitlines() == [
        f"{counts.records} pairs on {counts.prompts} prompts",
        f"labelled on helpful: {counts.labelled['helpful']} ({counts.labelled['helpful'] / counts.records:.0%})",
        f"labelled on harmless: {counts.labelled['harmless']} ({counts.labelled['harmless'] / counts.records:.0%})",
        f"labelled on all objectives: {both} ({both / counts.records:.0%})",
        f"with opposite labels: {counts.in_conflict} ({counts.in_conflict / counts.records:.0%})",
    ]
    assert "Answering" in printed.err
    assert f"Written to {output}." in printed.err
    assert main(command) == 2
    assert "which is there already: choose another file." in capsys.readouterr().err
    path = write_recipe({**tree, "data": {"source": str(output)}})
    assert main(["data", "inspect", str(path), "--rows", "1"]) == 0


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
