from collections.abc import Sequence
from typing import Any, Literal

import pytest
from torch import Tensor

from mopref.recipes.mistakes import RecipeError
from mopref.recipes.recipe import DataSettings, PartSettings, TrainingSettings
from mopref.recipes.typed import is_plain, settings_of, typed, wanted


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        ("x", str, "x"),
        (True, bool, True),
        (None, int | None, None),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2], list[float], [1.0, 2.0]),
        ([0, 1], Sequence[float] | Tensor, [0.0, 1.0]),
        ("all-linear", tuple[str, ...] | Literal["all-linear"] | None, "all-linear"),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ({"a": 1}, str | dict[str, Any] | None, {"a": 1}),
        ({"name": "dpo"}, PartSettings, PartSettings("dpo")),
        ({"h": {"name": "x"}}, dict[str, PartSettings], {"h": PartSettings("x")}),
        ("anything", Any, "anything"),
    ],
)
def test_a_files_values_become_those_of_settings(value, annotation, expected):
    result = typed(value, annotation, "key")
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (True, int, "^key is True: it must be a whole number.$"),
        (1.5, int, "^key is 1.5: it must be a whole number.$"),
        (False, float, "^key is False: it must be a number.$"),
        (3, str, "^key is 3: it must be a text.$"),
        (1, bool, "^key is 1: it must be true or false.$"),
        ("x", int | None, "^key is 'x': it must be a whole number or null.$"),
        ("x", Literal["a", "b"], "^key is 'x': it must be 'a' or 'b'.$"),
        (1, Literal[True], "^key is 1: it must be True.$"),
        ("ab", tuple[str, ...], "^key is 'ab': it must be a list, each entry a text.$"),
        ([1, "x"], tuple[int, ...] | None, r"^key\[1\] is 'x': it must be a whole number.$"),
        ([{"a": "x"}], list[dict[str, float]], r"^key\[0\].a is 'x': it must be a number.$"),
        ("x", Sequence[float] | Tensor | None, "^key is 'x': it must be a list, each entry a number or null.$"),
        ({3: "x"}, dict[str, str], "^key.3: the name of a setting is a text, so put it in quotes.$"),
        (3, PartSettings, "^key is 3: it is a section, so it must be a mapping of name, options.$"),
        (None, TrainingSettings, "^key is None: it is a section"),
        ({}, PartSettings, "^key.name: this setting is missing; it must be a text, so add it.$"),
        ({"nam": "x"}, PartSettings, r"^key.nam: there is no such setting; did you mean key.name\?$"),
        ({"steps": 1, "epochs": 2}, TrainingSettings, "^key.steps is 1, and epochs is 2"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place_and_what_fits(value, annotation, message):
    with pytest.raises(RecipeError, match=message):
        typed(value, annotation, "key")


def test_types_that_no_file_holds_are_not_looked_at():
    assert typed("x", Tensor, "key") == "x"
    assert not is_plain(Tensor)
    assert not is_plain(tuple[range, ...])
    assert is_plain(dict[str, Any])
    assert wanted(Tensor) == "a value"


def test_settings_of_a_section_have_their_types():
    assert settings_of(DataSettings)["max_prompt_length"] is int
