"""The command line itself: what it loads, its exit codes, and every broken recipe told in one sentence."""

import subprocess
import sys
import warnings

import pytest
from _broken_recipes import broken_files, broken_flags

from mopref.cli import COMMANDS, main


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from mopref.cli import main; codes = [main(['--help']), main(['--version']), main(['trian'])]; "
        "print(codes, {'torch', 'transformers', 'numpy', 'jsonargparse', 'yaml'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[0, 0, 2] set()"
    assert run.stderr == "mopref: there is no command 'trian'; did you mean `mopref train`?\n"


def test_the_overview_names_every_command(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(f"\n  {name} " in overview for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example_and_says_what_it_reads_and_writes(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: mopref {command} ")
    assert f"\n  mopref {command} " in text
    assert "Reads" in text
    assert "rite" in text


def test_help_of_training_tells_every_setting(capsys):
    main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--training.warmup_ratio" in text
    assert "fraction of the steps over which the learning rate rises from 0." in text


def test_every_broken_recipe_ends_in_one_sentence_and_writes_nothing(tree, write_recipe, tmp_path, capsys):
    count = 0
    for broken in broken_files(tree):
        path = write_recipe(broken.tree)
        assert main(["train", str(path)]) == 2
        check_sentence(broken, capsys.readouterr(), f"{path}, ")
        count += 1
    path = write_recipe(tree)
    for broken in broken_flags():
        assert main(["train", str(path), *broken.flags]) == 2
        check_sentence(broken, capsys.readouterr(), "--")
        count += 1
    assert count >= 200
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.yaml"]


def check_sentence(broken, printed, place):
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("mopref train: ")
    broken.check(line.removeprefix("mopref train: "), place)


def test_a_mistake_is_a_sentence_and_debug_shows_where_it_comes_from(tree, write_recipe, capsys):
    tree["training"]["stepz"] = 3
    path = write_recipe(tree)
    assert main(["train", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"mopref train: {path}, training.stepz: there is no such setting; did you mean training.steps?\n"
    )
    assert main(["train", str(path), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_ours_shows_its_traceback(tree, write_recipe, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise RuntimeError("broken")

    monkeypatch.setattr("mopref.cli.train.train", fail)
    assert main(["train", str(write_recipe(tree))]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "RuntimeError: broken" in printed


def test_an_interruption_is_told_without_a_traceback(tree, write_recipe, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mopref.cli.train.train", stop)
    assert main(["train", str(write_recipe(tree))]) == 1
    assert capsys.readouterr().err == "mopref train: interrupted.\n"


def test_a_missing_package_is_told_with_its_remedy(monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError("No module named 'jsonargparse'", name="jsonargparse")

    monkeypatch.setattr("mopref.cli.import_module", missing)
    assert main(["train", "x"]) == 2
    expected = "mopref train: the package jsonargparse is missing; run pip install 'mopref[llm]'.\n"
    assert capsys.readouterr().err == expected


def test_the_console_script_is_this_main():
    import tomllib
    from pathlib import Path

    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert settings["project"]["scripts"] == {"mopref": "mopref.cli:main"}


def test_an_interruption_while_modules_are_imported_is_told_alike(monkeypatch, capsys):
    def stop(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("mopref.cli.import_module", stop)
    assert main(["train", "x"]) == 1
    assert capsys.readouterr().err == "mopref train: interrupted.\n"


def test_a_training_that_diverges_says_so_in_a_sentence(tree, write_recipe, capsys):
    tree["training"] |= {"learning_rate": 1e30, "max_grad_norm": None, "warmup_ratio": 0.0}
    assert main(["train", str(write_recipe(tree))]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mopref train: the loss")
    assert "Traceback" not in error


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, FloatingPointError])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_what_went_wrong_does_not_order_a_terminal_about(tree, write_recipe, monkeypatch, capsys, kind, debug):
    def fail(*arguments, **options):
        warnings.warn("the column \x1b[2J", stacklevel=1)
        raise kind("the column \x1b]0;title\x07 is none")

    monkeypatch.setattr("mopref.cli.train.train", fail)
    assert main(["train", str(write_recipe(tree)), *debug]) in (1, 2)
    printed = capsys.readouterr().err
    assert "the column \\x1b]0;title\\x07 is none" in printed
    assert "warning: the column \\x1b[2J\n" in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize("place", ["0", "1"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "run"], "mopref report: it is the work of one process, and here are 2: call it alone."),
        (["train", "recipe.yaml", "--dry-run"], "mopref train: --dry-run: it tries what one process does, and here"),
    ],
)
def test_what_one_process_does_is_refused_of_several_once(words, told, place, monkeypatch, capsys):
    for name, value in (("RANK", place), ("LOCAL_RANK", place), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mopref._agreement._has_word", None)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(told) if place == "0" else said == ""
