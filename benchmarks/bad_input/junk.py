"""Values that no caller should give: of every type, and near to a value that is right."""

import datetime
import enum
import math
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from torch import nn

from benchmarks.bad_input.outcomes import UsersOwnError

__all__ = ["any_junk", "spoilt"]

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**63), 10**30, -(10**30), 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1.5, -1.0, 2.0, 1e-9, 1e-320, 1e30, 1e308, math.nan, math.inf, -math.inf),
    *(True, False, 1 + 1j, Decimal("0.5"), Decimal("NaN"), Fraction(1, 3)),
    *(np.float32(0.5), np.int64(2), np.int8(-1), np.bool_(True), np.float64("nan"), np.complex64(1)),
)
TEXTS: tuple[str, ...] = (
    *("", " ", "a", "0", "1", "0.5", "nan", "True", "none", "auto", "all", "../x", "/", ".", "a/b", "~"),
    *("\x00", "a\x00b", "\ud800", "\x1b[2J", "\u202e", "é", "😀", "λ", "\n", "x" * 300, "%s {0} $x", "a,b;c"),
)


class _Hostile:
    """Whatever is asked of it, it raises an error of its own."""

    def __len__(self) -> int:
        raise UsersOwnError

    def __iter__(self) -> Any:
        raise UsersOwnError

    def __array__(self, *options: Any, **more: Any) -> Any:
        raise UsersOwnError

    def __getitem__(self, key: Any) -> Any:
        raise UsersOwnError


class _Colour(enum.Enum):
    RED = 1


class _Text(str):
    pass


_Pair = namedtuple("_Pair", "a b")


def _own_list() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


def _deep(depth: int) -> list[Any]:
    values: list[Any] = []
    for _ in range(depth):
        values = [values]
    return values


# Made anew for each case: some can be changed, or read only once.
OBJECTS: tuple[Callable[[], Any], ...] = (
    *(lambda: None, list, tuple, dict, set, frozenset, bytes, object, deque, OrderedDict, bytearray),
    *(lambda: b"ab", lambda: {1, 2}, lambda: [None], lambda: [[]], lambda: ((),), lambda: {"a": 1}, lambda: {1: 2}),
    *(lambda: {None: None}, lambda: {"a": {"b": []}}, lambda: range(3), lambda: iter([1, 2]), lambda: (i for i in [])),
    *(lambda: ["a", "b"], lambda: "ab", lambda: ("a", "a"), lambda: [1, "a"], lambda: [[1, 2], [3]], lambda: [True]),
    *(lambda: [math.nan, 1.0], lambda: [math.inf], lambda: [10**400], lambda: ["0.5", "0.5"], lambda: [b"a"]),
    *(lambda: np.zeros(0), lambda: np.zeros((0, 2)), lambda: np.zeros((2, 0)), lambda: np.zeros((1, 2, 3))),
    *(lambda: np.array(["a"]), lambda: np.array([None]), lambda: np.array([1j]), lambda: np.array([True, False])),
    *(lambda: np.array(["2020"], "datetime64[D]"), lambda: np.array([1, 2], "m8[s]"), lambda: np.array(1.0)),
    *(lambda: np.array([(1, 2.0)], [("a", int), ("b", float)]), lambda: np.ma.masked_array([1.0, 2.0], [0, 1])),
    *(lambda: torch.zeros(0), lambda: torch.tensor(1.0), lambda: torch.tensor([math.nan, 1.0]), lambda: torch.ones(2)),
    *(
        lambda: torch.ones(2, 2),
        lambda: torch.ones(1, 2, 3),
        lambda: torch.tensor([1, 2]),
        lambda: torch.tensor([True]),
    ),
    *(lambda: torch.ones(2, dtype=torch.complex64), lambda: torch.ones(2, device="meta"), lambda: torch.ones(2).half()),
    *(lambda: torch.eye(2).to_sparse(), lambda: torch.ones(2, requires_grad=True), lambda: torch.ones(2, 0)),
    *(lambda: pd.Series([0.5, 0.5]), lambda: pd.Series([1.0], ["a"]), lambda: pd.DataFrame({"a": [1.0], "b": [0.0]})),
    *(lambda: pd.DataFrame(), lambda: _Pair(1, 0), lambda: int, lambda: len, lambda: lambda *values: None),
    *(lambda: Path("missing"), lambda: Path("/"), lambda: datetime.date(2020, 1, 1), lambda: _Colour.RED),
    *(lambda: _Text("a"), _Hostile, _own_list, lambda: _deep(50), lambda: _deep(3000), lambda: memoryview(b"ab")),
    *(
        lambda: nn.Linear(2, 2),
        lambda: nn.Parameter(torch.ones(2)),
        lambda: NotImplemented,
        lambda: ...,
        lambda: slice(1),
    ),
    *(lambda: [{"a": 1}, {"b": 2}], lambda: [{"a": 1}, [1]], lambda: [torch.ones(2)], lambda: [np.ones(2), [1.0]]),
)


def any_junk() -> st.SearchStrategy[Any]:
    """A value of any type."""
    return st.one_of(
        st.sampled_from(OBJECTS).map(lambda make: make()),
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS),
        st.floats(),
        st.integers(-(2**66), 2**66),
        st.text(max_size=8),
        st.binary(max_size=8),
    )


@st.composite
def spoilt(draw: st.DrawFn, value: Any, depth: int = 3) -> Any:
    """A value near to the right one: another number or text, an entry that is gone, added or spoilt, another shape."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(any_junk())
    if isinstance(value, bool | int | float):
        return draw(st.one_of(st.sampled_from(NUMBERS), st.floats(), st.integers(-3, 12), st.just(str(value))))
    if isinstance(value, str):
        return draw(st.one_of(st.sampled_from(TEXTS), st.text(max_size=12), _changed_text(value)))
    if isinstance(value, Path):
        return draw(
            st.sampled_from([value / "missing", value.parent, str(value), str(value) + "x", str(value) + "\x00"])
        )
    if isinstance(value, torch.Tensor):
        return draw(_spoilt_tensor(value))
    if isinstance(value, np.ndarray):
        return draw(_spoilt_array(value))
    if isinstance(value, Mapping):
        return draw(_spoilt_mapping(dict(value), depth))
    if isinstance(value, list | tuple):
        return draw(_spoilt_list(value, depth))
    if is_dataclass(value) and not isinstance(value, type):
        return draw(_spoilt_fields(value, depth))
    return draw(any_junk())


@st.composite
def _changed_text(draw: st.DrawFn, text: str) -> str:
    place = draw(st.integers(0, len(text)))
    return draw(
        st.sampled_from([text[:place], text[place:], text[:place] + "\x00" + text[place:], text.upper(), f" {text}"])
    )


@st.composite
def _spoilt_array(draw: st.DrawFn, array: np.ndarray[Any, Any]) -> Any:
    kind = draw(st.sampled_from(("entry", "dtype", "shape", "list", "flat", "more", "few", "nested", "scale")))
    if kind == "entry" and array.size and array.dtype.kind == "f":
        array = array.copy()
        array.flat[draw(st.integers(0, array.size - 1))] = draw(
            st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e308, -1e308, 1e-320, 0.0, 1e16])
        )
        return array
    if kind == "dtype":
        return array.astype(
            draw(st.sampled_from(["float16", "int64", "bool", "complex128", "object", "U8", "float32"]))
        )
    if kind == "list":
        return array.tolist()
    if kind == "flat":
        return array.reshape(-1)
    if kind == "more":
        return np.concatenate([array, array], axis=draw(st.sampled_from([0, -1]))) if array.ndim else array[None]
    if kind == "few":
        return array[..., : draw(st.integers(0, 1))] if array.ndim else array
    if kind == "nested":
        return array[None]
    if kind == "scale":
        return array * draw(st.sampled_from([0.0, -1.0, 1e300, 1e-300, 2.0])) if array.dtype.kind == "f" else array
    return array.T if array.ndim > 1 else array.reshape(-1, 1)


@st.composite
def _spoilt_tensor(draw: st.DrawFn, tensor: torch.Tensor) -> Any:
    kind = draw(st.sampled_from(("array", "array", "dtype", "meta", "sparse", "grad", "numpy")))
    if kind == "dtype":
        kinds = [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.float64, torch.uint8]
        return tensor.detach().to(draw(st.sampled_from(kinds)))
    if kind == "meta":
        return tensor.to("meta")
    if kind == "sparse":
        return tensor.detach().to_sparse()
    if kind == "grad":
        return tensor.detach().double().clone().requires_grad_()
    if kind == "numpy":
        return tensor.detach().numpy()
    changed = draw(_spoilt_array(tensor.detach().numpy()))
    is_tensor = isinstance(changed, np.ndarray) and changed.dtype.kind in "biufc"
    return torch.from_numpy(np.ascontiguousarray(changed)) if is_tensor else changed


@st.composite
def _spoilt_list(draw: st.DrawFn, values: list[Any] | tuple[Any, ...], depth: int) -> Any:
    entries = list(values)
    kind = draw(st.sampled_from(("entry", "entry", "entry", "gone", "more", "junk", "nested", "type", "reversed")))
    if kind == "entry" and entries:
        place = draw(st.integers(0, len(entries) - 1))
        entries[place] = draw(spoilt(entries[place], depth - 1))
    elif kind == "gone" and entries:
        del entries[draw(st.integers(0, len(entries) - 1))]
    elif kind == "more":
        entries = entries + entries[-1:]
    elif kind == "junk":
        entries.insert(draw(st.integers(0, len(entries))), draw(any_junk()))
    elif kind == "nested":
        entries = [entries]
    elif kind == "reversed":
        entries.reverse()
    elif kind == "type":
        return draw(st.sampled_from([iter, str, deque, lambda v: dict(enumerate(v)), lambda v: (e for e in v)]))(
            entries
        )
    return type(values)(entries) if type(values) in (list, tuple) else entries


@st.composite
def _spoilt_mapping(draw: st.DrawFn, values: dict[Any, Any], depth: int) -> Any:
    kind = draw(st.sampled_from(("value", "value", "value", "gone", "renamed", "more", "key", "items", "reversed")))
    if kind == "value" and values:
        key = draw(st.sampled_from(list(values)))
        return {**values, key: draw(spoilt(values[key], depth - 1))}
    if kind == "gone" and values:
        key = draw(st.sampled_from(list(values)))
        return {name: value for name, value in values.items() if name != key}
    if kind == "renamed" and values:
        key = draw(st.sampled_from(list(values)))
        return {draw(st.sampled_from(TEXTS)) if name == key else name: value for name, value in values.items()}
    if kind == "key":
        return {**values, draw(st.sampled_from([None, 1, b"a", ("a",), 0.5])): 0}
    if kind == "items":
        return list(values.items())
    if kind == "reversed":
        return dict(reversed(values.items()))
    return {**values, draw(st.sampled_from(TEXTS)): draw(any_junk())}


@st.composite
def _spoilt_fields(draw: st.DrawFn, value: Any, depth: int) -> Any:
    names = [field.name for field in fields(value) if field.init]
    name = draw(st.sampled_from(names))
    junk = draw(spoilt(getattr(value, name), depth - 1))
    try:
        return replace(value, **{name: junk})
    except Exception:
        # Refused where it is made, which is another target.
        return draw(any_junk())
