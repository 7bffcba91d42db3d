"""The user's names are loaded when the first is asked for, and not before."""

import subprocess
import sys

import pytest

import mopref
from mopref import _names


def printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_mopref_alone_loads_nothing():
    assert printed("import mopref, sys; print({'torch', 'numpy', 'accelerate'} & set(sys.modules))") == "set()"


def test_the_first_name_loads_all_of_them():
    code = "import mopref; mopref.Front; print(sorted(name for name in vars(mopref) if name[0].isupper()))"
    names = [name for name in printed(code).strip("[]").replace("'", "").split(", ") if name != "TYPE_CHECKING"]
    assert names == sorted(name for name in vars(_names) if name[0].isupper())


def test_rooms_are_attributes_without_an_import_of_their_own():
    assert printed("import mopref; print(mopref.training.ParetoTrainer.__name__)") == "ParetoTrainer"


def test_a_star_brings_the_names_and_no_modules():
    code = "from mopref import *; print(ParetoTrainer.__name__, 'training' in globals(), 'TYPE_CHECKING' in globals())"
    assert printed(code) == "ParetoTrainer False False"


def test_dir_knows_names_that_are_not_loaded():
    assert "ParetoTrainer" in printed("import mopref; print(dir(mopref))")


def test_unknown_names_are_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'mopref' has no attribute 'Nonsense'"):
        _ = mopref.Nonsense
    with pytest.raises(AttributeError, match="no attribute '__wrapped__'"):
        _ = mopref.__wrapped__
