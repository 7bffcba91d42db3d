"""What a comparison refuses before it trains; with models, in test_method_comparison.py."""

import json

import pytest

pytest.importorskip("transformers")

from mopref.recipes import RecipeError, RunFolderError
from mopref.recipes.method_beginning import check_beginning, write_beginning

BEGINNING = {"records": "r", "weights": "w", "tokens": "t"}


@pytest.fixture(params=["cells/ours-seed-0", "runs/seed-0/ours-1234", "first/fold-0/cells/ours-seed-0"])
def begun(tmp_path, request):
    """A folder in which something was made already."""
    (tmp_path / request.param).mkdir(parents=True)
    write_beginning(tmp_path, BEGINNING)
    return tmp_path


def test_the_same_beginning_is_gone_on_from(begun):
    check_beginning(begun, "own", BEGINNING)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"records": "x"}, RunFolderError, "was made with other data"),
        ({"weights": "x"}, RecipeError, r"model\.name is 'own', which has other weights than when"),
        ({"weights": None}, RecipeError, "which has other weights"),
        ({"tokens": "x"}, RecipeError, "which makes other tokens of the data"),
    ],
)
def test_another_beginning_is_refused(begun, change, error, message):
    with pytest.raises(error, match=message):
        check_beginning(begun, "own", {**BEGINNING, **change})
    assert json.loads((begun / "beginning.json").read_text()) == BEGINNING


def test_a_part_is_compared_alone(begun):
    check_beginning(begun, "own", {"records": "r"})
    with pytest.raises(RunFolderError, match="was made with other data"):
        check_beginning(begun, "own", {"records": "x"})


@pytest.mark.parametrize("content", ["", "[]", "{}", "3"])
def test_a_damaged_beginning_is_told(begun, content):
    (begun / "beginning.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"beginning\.json cannot be read.*delete it"):
        check_beginning(begun, "own", BEGINNING)


def test_where_nothing_was_made_anything_may_begin(tmp_path):
    check_beginning(tmp_path, "own", BEGINNING)
    write_beginning(tmp_path, BEGINNING)
    (tmp_path / "cells").mkdir()
    check_beginning(tmp_path, "own", {**BEGINNING, "weights": "x", "records": "y"})
