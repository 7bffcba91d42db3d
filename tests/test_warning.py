"""A warning points at the line of the caller's own code, whatever lies between."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mopref
from mopref._warning import warn
from mopref.argument_kinds import checks_arguments

PACKAGE = Path(mopref.__file__).parent

IN_THE_LIBRARY = """
def told():
    warn("look here")

def deeper(depth):
    told() if depth == 0 else deeper(depth - 1)

@checks_arguments
def checked(depth: int):
    deeper(depth)

class Layer(nn.Module):
    def forward(self, x):
        told()
        return x
"""


def library() -> dict[str, Any]:
    """Functions as if a module of the library held them."""
    names = {"__name__": "mopref.somewhere", "warn": warn, "checks_arguments": checks_arguments, "nn": nn}
    exec(IN_THE_LIBRARY, names)
    return names


CALLS = {
    "at once": lambda parts: parts["told"](),
    "three deep": lambda parts: parts["deeper"](3),
    "past the check of arguments": lambda parts: parts["checked"](depth=2),
    "past a layer's call": lambda parts: parts["Layer"]()(torch.ones(1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_line_that_called_into_the_library_is_shown(name):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        CALLS[name](library())
    (one,) = told
    assert one.filename == __file__
    assert f'"{name}": lambda' in Path(__file__).read_text().splitlines()[one.lineno - 1]
    assert one.category is UserWarning
    assert str(one.message) == "look here"


def test_the_library_warns_in_no_other_way():
    """A number of frames to go up is wrong as soon as a function is called from another one."""
    for folder in (PACKAGE, PACKAGE.parent / "objectives", PACKAGE.parent / "scalarizers"):
        for path in folder.rglob("*.py"):
            if path.name != "_warning.py":
                assert not re.search(r"warnings\.warn\(|stacklevel", path.read_text(encoding="utf-8")), path
