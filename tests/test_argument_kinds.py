import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from mopref.argument_kinds import checked_kind, checked_path, checks_arguments
from mopref.scalarizers import Linear


@pytest.mark.parametrize(
    ("annotation", "right", "wrong", "words"),
    [
        (Tensor, torch.ones(2), [1.0, 2.0], "a Tensor"),
        (nn.Module, nn.Linear(1, 1), nn.Linear, "a Module"),
        (Callable[[int], int] | None, len, 3, "a function or None"),
        (Mapping[str, int], {"a": 1}, [("a", 1)], "a dict"),
        (dict[str, int], {"a": 1}, "a", "a dict"),
        (Sequence[float], [1.0], {1.0}, "a list"),
        (Sequence[float], np.ones(2), {"a": 1.0}, "a list"),
        (Sequence[float], torch.ones(2), torch.tensor(1.0), "a list"),
        (tuple[int, ...], (1,), 1, "a list"),
        (Iterable[str], iter(["a"]), "a", "a list"),
        (str, "a", b"a", "a text"),
        (str | Path, Path("a"), b"a", "a path"),
        (Literal["a", "b"], "c", ["a"], "'a' or 'b'"),
        (int | None, None, "3", "a whole number or None"),
        (float | Sequence[float], [1.0], "1", "a number or a list"),
        (int | Sequence[str], ("a",), 1.5, "a whole number or a list"),
        (Linear, Linear(), Linear, "a Linear"),
        (type[Linear], Linear, Linear(), "a class"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(annotation, right, wrong, words):
    assert checked_kind(right, annotation, "setting") is right
    with pytest.raises(TypeError, match=r"setting is .*: give ") as refusal:
        checked_kind(wrong, annotation, "setting")
    assert str(refusal.value).endswith(f"give {words}.")


@pytest.mark.parametrize("annotation", [Any, ArrayLike, ArrayLike | None, Sequence[float] | Any])
def test_what_promises_nothing_is_not_checked(annotation):
    values = object()
    assert checked_kind(values, annotation, "values") is values


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, np.int64(3), 3),
        (int | None, torch.tensor(3), 3),
        (float, 2, 2.0),
        (float | None, np.float32(0.5), 0.5),
        (bool, np.bool_(True), True),
        (float | Sequence[float], np.float64(2), 2.0),
    ],
)
def test_numbers_come_as_pythons_own(annotation, value, expected):
    number = checked_kind(value, annotation, "setting")
    assert (type(number), number) == (type(expected), expected)


@pytest.mark.parametrize("value", [True, 1.0, math.nan, "1", None])
def test_what_is_no_whole_number_is_none(value):
    with pytest.raises(TypeError, match="count is"):
        checked_kind(value, int, "count")


@pytest.mark.parametrize(
    "tensor", [torch.ones(2, device="meta"), torch.ones(2, dtype=torch.complex64), torch.eye(2).to_sparse()]
)
def test_tensors_without_real_numbers_are_refused(tensor):
    with pytest.raises(ValueError, match="losses is"):
        checked_kind(tensor, Tensor, "losses")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_no_path_can_be_is_refused(text):
    with pytest.raises(ValueError, match="no name of a file"):
        checked_kind(text, str | Path, "folder")
    with pytest.raises(ValueError, match="no name of a file"):
        checked_path(text, "folder")


@pytest.mark.parametrize("path", [None, 3, b"a", ["a"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(TypeError, match="folder is"):
        checked_path(path, "folder")


def test_functions_and_methods_are_checked_by_position_and_by_name():
    class Part:
        @checks_arguments
        def __init__(self, names: Sequence[str], *values: float, count: int = 1, **options: int) -> None:
            self.given = (names, values, count, options)

    assert Part(["a"], 1, 2, count=np.int32(3), more="x").given == (["a"], (1, 2), 3, {"more": "x"})
    with pytest.raises(TypeError, match="names is 3"):
        Part(3)
    with pytest.raises(TypeError, match="names is 3"):
        Part(names=3)
    with pytest.raises(TypeError, match="count is '1'"):
        Part([], count="1")


def test_a_text_becomes_a_path_where_only_a_path_is_meant():
    assert checked_kind("a", Path, "folder") == Path("a")
    assert checked_kind("a", Path | None, "folder") == Path("a")
    assert checked_kind(None, Path | None, "folder") is None
    assert checked_kind("a", str | Path, "folder") == "a"


@pytest.mark.parametrize("annotation", [Sequence[str], list[str] | None, tuple[str, ...], Sequence[str] | str])
def test_a_list_of_texts_holds_texts_alone(annotation):
    right = ("a", "b") if annotation == tuple[str, ...] else ["a", "b"]
    assert checked_kind(right, annotation, "names") is right
    with pytest.raises(TypeError, match=r"names\[1\] is of type dict: give a text"):
        checked_kind(type(right)(["a", {}]), annotation, "names")
    assert checked_kind(None, list[str] | None, "names") is None
