"""Arguments of the kind that a function's annotations promise, or a refusal that names the argument.

One decorator for every public function and class: what an annotation says is checked before the function's own code
runs, so that a list where a model is meant is told as such, and not as an attribute that a list has not. What lies
inside of a value (the entries of a list, the numbers of a tensor) is the function's own to check.
"""

import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import fields
from functools import lru_cache, partial, wraps
from inspect import Parameter, isclass, signature
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints, overload

import torch
from torch import Tensor

from mopref._arrays import refuse_tensor_without_numbers
from mopref._paths import checked_path
from mopref._repr import short_repr
from mopref.setting_types import python_value

__all__ = ["checked_fields", "checked_kind", "checked_path", "checked_texts", "checks_arguments"]

P = ParamSpec("P")
R = TypeVar("R")
_NUMBERS = {int: "a whole number", float: "a number", bool: "True or False"}
_PATHS = (Path, os.PathLike)


@overload
def checks_arguments(function: Callable[P, R]) -> Callable[P, R]: ...


@overload
def checks_arguments(*, but: Sequence[str]) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def checks_arguments(function: Any = None, *, but: Sequence[str] = ()) -> Any:
    """Decorate a function or a method: an argument of another kind than its annotation says is refused.

    Numbers and flags come as Python's own, whichever library they are from (see ``python_value``). Lists, arrays, data
    sets and whatever else has a length and an order are sequences; a text, a dict and a set are none. An annotation
    that says ``Any``, or an array-like, promises nothing and is not checked.

    Args:
        function: what is decorated.
        but: parameters that the function checks itself, in words that say more.

    Raises:
        TypeError: by the decorated function, for an argument of another kind; it is named.
        ValueError: by the decorated function, for a tensor without real numbers (complex, sparse, on the meta device)
            or a text that no path can be.

    Example:
        >>> @checks_arguments
        ... def mean(values: Sequence[float], digits: int = 2) -> float:
        ...     return round(sum(values) / len(values), digits)
        >>> mean([1.0, 2.0])
        1.5
        >>> mean(3.0)
        Traceback (most recent call last):
        TypeError: values is 3.0, of type float: give a list.
    """
    if function is None:
        return partial(_checking, but=but)
    return _checking(function, but)


def _checking(function: Callable[P, R], but: Sequence[str]) -> Callable[P, R]:
    parameters = list(signature(function).parameters.values())
    positional = [p.name for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    places = {name: place for place, name in enumerate(positional)}

    @lru_cache(maxsize=1)
    def kinds() -> dict[str, _Kind]:
        hints = get_type_hints(function)
        # What is collected by * and ** has the annotation of each entry.
        plain = [p.name for p in parameters if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
        known = {name: _kind_of(hints[name]) for name in plain if name in hints and name not in but}
        return {name: kind for name, kind in known.items() if kind is not None}

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        wanted, values = kinds(), list(args)
        for name, kind in wanted.items():
            place = places.get(name, len(args))
            if place < len(args):
                values[place] = _of_kind(values[place], kind, name)
            elif name in kwargs:
                kwargs[name] = _of_kind(kwargs[name], kind, name)
        return function(*values, **kwargs)  # type: ignore[arg-type]

    return checked


def checked_fields(settings: Any) -> None:
    """Check the fields of a dataclass that is just being made, as :func:`checks_arguments` checks arguments.

    Numbers and flags become Python's own, also where the dataclass is frozen.

    Raises:
        TypeError: a field of another kind; it is named.
        ValueError: as ``checked_kind`` does.
    """
    hints = _hints(type(settings))  # type: ignore[arg-type]
    for field in fields(settings):
        value = getattr(settings, field.name)
        checked = checked_kind(value, hints[field.name], field.name)
        if checked is not value:
            object.__setattr__(settings, field.name, checked)


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


class _Kind(NamedTuple):
    """What an annotation promises: the numbers that are converted, a test for others, and words for a message.

    ``of_texts`` says that all lists are of texts, so that each entry must be one; ``path_alone`` that a text becomes a
    path, since the annotation has no text.
    """

    numbers: tuple[type, ...]
    is_right: Callable[[Any], bool]
    words: str
    is_path: bool
    of_texts: bool
    path_alone: bool


def checked_kind(value: Any, annotation: Any, name: str) -> Any:
    """The value, if it is of the kind that the annotation says; numbers and flags as Python's own.

    Raises:
        TypeError: a value of another kind; ``name`` names it.
        ValueError: a tensor without real numbers, or a text that no path can be.

    Example:
        >>> checked_kind(["a"], Sequence[str] | None, "names")
        ['a']
    """
    kind = _kind_of(annotation)
    return value if kind is None else _of_kind(value, kind, name)


def _of_kind(value: Any, kind: _Kind, name: str) -> Any:
    if kind.is_path and isinstance(value, str | os.PathLike):
        path = checked_path(value, name)
        return path if kind.path_alone else value
    if kind.is_right(value):
        if isinstance(value, Tensor):
            refuse_tensor_without_numbers(value, name)
        if kind.of_texts and _is_sequence(value):
            checked_texts(value, name)
        return value
    for number in kind.numbers:
        if len(kind.numbers) == 1 and not kind.words.count(" or "):
            return python_value(value, number, name)
        try:
            return python_value(value, number, name)
        except TypeError:
            continue
    raise TypeError(f"{name} is {short_repr(value)}, of type {type(value).__name__}: give {kind.words}.")


def checked_texts(texts: Sequence[Any], what: str) -> list[str]:
    """Texts as a list; none of them is shown in a message, since they may be private.

    Raises:
        TypeError: one text in place of a list, or an entry that is none; its place is named.
    """
    if not _is_sequence(texts):
        raise TypeError(f"{what} are of type {type(texts).__name__}: give a list of texts.")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{what}[{place}] is of type {type(text).__name__}: give a text.")
    return list(texts)


@lru_cache(maxsize=4096)
def _cached_kind(annotation: Any) -> _Kind | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    # An array-like of NumPy's is a union of its own protocols: arrays are checked where they are read.
    if any(option is Any or isinstance(option, TypeVar) or _is_numpys(option) for option in options):
        return None
    is_path = any(
        isclass(get_origin(option) or option) and (get_origin(option) or option) in _PATHS for option in options
    )
    numbers = tuple(option for option in (bool, int, float) if option in options)
    tests = [_test_of(option) for option in options if option not in numbers]
    if any(test is None for test in tests):
        return None
    words = [_words_of(option) for option in options if not (is_path and option is str)]
    distinct = list(dict.fromkeys(words))
    lists = [option for option in options if isclass(get_origin(option)) and issubclass(get_origin(option), Sequence)]
    of_texts = bool(lists) and all(get_args(option) in ((str,), (str, ...)) for option in lists)
    # Bound now, since mypy takes a test for one that may be missing.
    known = [test for test in tests if test is not None]
    return _Kind(
        numbers,
        known[0] if len(known) == 1 else lambda value: any(test(value) for test in known),
        " or ".join(distinct),
        is_path,
        of_texts,
        Path in options and str not in options,
    )


def _kind_of(annotation: Any) -> _Kind | None:
    try:
        return _cached_kind(annotation)
    except TypeError:  # An annotation that cannot be hashed.
        return None


def _is_numpys(option: Any) -> bool:
    origin = get_origin(option) or option
    return str(getattr(origin, "__module__", "")).startswith("numpy._typing")


def _test_of(option: Any) -> Callable[[Any], bool] | None:
    """Whether a value is of one annotation; ``None`` where that cannot be said."""
    origin = get_origin(option) or option
    if option is None or option is type(None):
        return lambda value: value is None
    if origin is Literal:
        kinds = tuple({type(word) for word in get_args(option)})
        return lambda value: isinstance(value, kinds)
    if not isclass(origin):
        return None
    if origin is type:
        return lambda value: isclass(value)
    if getattr(origin, "_is_protocol", False) and origin.__module__.startswith("mopref"):
        members = [name for name in {**origin.__dict__, **origin.__annotations__} if not name.startswith("_")]
        return lambda value: not isclass(value) and all(hasattr(value, name) for name in members)
    if (
        issubclass(origin, str | bytes | Mapping)
        or not issubclass(origin, Iterable)
        or isinstance(origin, type(Tensor))
    ):
        return lambda value: isinstance(value, origin)
    if not origin.__module__.startswith(("collections", "builtins", "typing")):
        return lambda value: isinstance(value, origin)
    if issubclass(origin, Sequence):
        return _is_sequence
    return lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | memoryview)


def _is_sequence(value: Any) -> bool:
    """Whether a value has a length and an order."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping | Set | torch.nn.Module) or isclass(value):
        return False
    has_order = hasattr(value, "__len__") and (hasattr(value, "__getitem__") or isinstance(value, Sequence))
    return has_order and getattr(value, "ndim", 1) != 0


def _words_of(option: Any) -> str:
    """What to give, for a message."""
    origin = get_origin(option) or option
    if option is None or option is type(None):
        return "None"
    if option in _NUMBERS:
        return _NUMBERS[option]
    if origin is Literal:
        return " or ".join(repr(word) for word in get_args(option))
    if origin in _PATHS:
        return "a path"
    if origin is str:
        return "a text"
    if origin is type:
        return "a class"
    if origin is Callable or getattr(origin, "__name__", "") == "Callable":
        return "a function"
    if isclass(origin) and issubclass(origin, Mapping):
        return "a dict"
    if isclass(origin) and origin.__module__.startswith(("collections", "builtins", "typing")):
        return "a list"
    name = str(getattr(origin, "__name__", origin)).lstrip("_")
    return f"a{'n' if name[0] in 'AEIO' else ''} {name}"
