"""Every example in the help of a command is run, as it stands there."""

import importlib.util
import re
import shlex
import shutil
from importlib import import_module

import pytest
from _tiny_runs import kind_sections

from mopref.cli import COMMANDS, main
from mopref.recipes import Upload


def examples(command: str) -> list[str]:
    """The lines of a command's help that are to be typed."""
    return re.findall(r"^  (mopref .+)$", import_module(f"mopref.cli.{command}").parser().description, re.MULTILINE)


LINES = [line for command in COMMANDS for line in examples(command)]


def _methods(tree):
    """The same recipe as a comparison of two methods, without what one does not heed."""
    training = {name: value for name, value in tree["training"].items() if name != "checkpoint_every"}
    evaluation = {**tree["evaluation"], "prompts": [], "sampled_prompts": 0}
    comparison = {"methods": ["ours", "fixed"], "resamples": 5}
    return {**tree, "training": {**training, "steps": 1}, "evaluation": evaluation, "comparison": comparison}


def _prompts(tree, folder):
    """The same model, with prompts and rewards that tell its answers apart."""
    sections = kind_sections("online-dpo", folder)
    return {**tree, **sections, "rewards": {name: "brevity" for name in tree["objectives"]}}


@pytest.fixture
def folder(trained, tree, write_recipe, tmp_path, monkeypatch):
    """A folder with the runs and the recipe that the examples speak of."""
    for name in ("latest", "first", "second", "third"):
        shutil.copytree(trained.folder, tmp_path / "runs" / name)
    write_recipe({**tree, "output": "runs/new"})
    write_recipe(_methods(tree), "methods.yaml")
    write_recipe(_prompts(tree, tmp_path), "prompts.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mopref.cli.push.push_to_hub", lambda *arguments, **options: Upload("hub/USER/NAME", ["x"]))
    if importlib.util.find_spec("uvicorn"):
        monkeypatch.setattr("mopref.serving.listening.run_server", lambda app, bound: None)
    return tmp_path


def test_every_command_has_some():
    assert {line.split()[1] for line in LINES} == set(COMMANDS)


@pytest.mark.parametrize("line", LINES)
def test_an_example_is_run(line, folder, capsys):
    if line.startswith("mopref init"):
        (folder / "recipe.yaml").unlink()
    if line.startswith("mopref serve"):
        pytest.importorskip("fastapi")
        pytest.importorskip("uvicorn")
    # What a shell does with the output is not ours, and a few steps are as good as a hundred.
    program, *arguments = shlex.split(line.partition(" > ")[0].replace("--training.steps 100", "--training.steps 2"))
    assert main(arguments) == 0, capsys.readouterr().err
    for place, argument in enumerate(arguments):
        if argument == "--output":
            assert (folder / arguments[place + 1]).exists()
    assert program == "mopref"
