"""``python -m mopref`` is the command ``mopref``, also for a launcher of several processes."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["trian"], 2)])
def test_the_module_is_the_command(arguments, code):
    run = subprocess.run([sys.executable, "-m", "mopref", *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert (run.stdout.startswith("mopref "), "did you mean `mopref train`?" in run.stderr) == (code == 0, code == 2)
