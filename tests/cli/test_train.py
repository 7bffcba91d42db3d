import json

from _tiny_runs import pair_records, write_lines

from mopref import Front
from mopref.cli import main
from mopref.recipes import load_recipe
from mopref.recipes.model_card import is_own_card


def test_a_recipe_is_trained_and_evaluated(tree, write_recipe, tmp_path, capsys):
    output = tmp_path / "short"
    assert main(["train", str(write_recipe(tree)), "--training.steps", "4", "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert Front.load(output / "front.json").summary() in printed.out
    assert printed.err.splitlines()[-1] == f"Written to {output}."
    assert load_recipe(output / "recipe.yaml").training.steps == 4
    assert len((output / "log.jsonl").read_text().splitlines()) == 2
    assert f"Report: {output / 'report.html'}" in printed.err
    assert "4 steps of 4 rows" in (output / "report.html").read_text()
    card = (output / "adapter" / "README.md").read_text()
    assert is_own_card(card)

    # The same again is refused; it goes on with --resume, further than before, and the front is the new one.
    before = (output / "front.json").read_bytes()
    assert main(["train", str(write_recipe(tree)), "--output", str(output)]) == 2
    assert "holds a run already: choose another folder, or go on with that run (--resume)." in capsys.readouterr().err
    assert main(["train", str(write_recipe(tree)), "--output", str(output), "--resume"]) == 0
    assert [json.loads(line)["step"] for line in (output / "log.jsonl").read_text().splitlines()] == [2, 4, 6]
    assert (output / "front.json").read_bytes() != before
    assert "6 steps of 4 rows" in (output / "report.html").read_text()
    assert (output / "adapter" / "README.md").read_text() != card


def test_a_dry_run_writes_nothing(tree, write_recipe, tmp_path, capsys):
    assert main(["train", str(write_recipe(tree)), "--dry-run"]) == 0
    assert "Nothing was written." in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_resumes_nothing(tree, write_recipe, capsys):
    assert main(["train", str(write_recipe(tree)), "--dry-run", "--resume"]) == 2
    assert "--resume and --dry-run: a dry run begins nothing" in capsys.readouterr().err


def test_the_recipe_comes_first(capsys):
    assert main(["train", "--training.steps", "3", "recipe.yaml"]) == 2
    assert capsys.readouterr().err.startswith("mopref train: the recipe comes first: see `mopref train --help`")


def test_data_that_cannot_be_trained_on_are_told_in_a_sentence(tree, write_recipe, tmp_path, capsys):
    write_lines([{**pair_records(1)[0], "helpful": 5}], tmp_path / "bad.jsonl")
    tree["data"]["source"] = str(tmp_path / "bad.jsonl")
    assert main(["train", str(write_recipe(tree))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mopref train: data.source: row 0, column 'helpful'")
    assert not (tmp_path / "run").exists()
