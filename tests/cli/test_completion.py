import subprocess

import pytest

from mopref.cli import COMMANDS, main


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_scripts_know_commands_and_settings(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    # What shtab writes for tcsh goes no deeper than the commands.
    assert "--training.steps" in script or shell == "tcsh"


def test_the_bash_script_is_one(capsys):
    main(["completion", "bash"])
    subprocess.run(["bash", "-n"], input=capsys.readouterr().out, text=True, check=True)


def test_another_shell_is_refused(capsys):
    assert main(["completion", "fish2"]) == 2
    assert "fish2" in capsys.readouterr().err
