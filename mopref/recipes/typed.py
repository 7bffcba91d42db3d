"""Values of a file as the types of settings: lists become tuples, mappings sections, and what does not fit is named."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from inspect import isclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mopref._repr import short_repr
from mopref.recipes.mistakes import RecipeError, joined, nearest, settings_at

__all__ = ["is_plain", "settings_of", "typed", "wanted"]

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def settings_of(section: type[Any]) -> dict[str, Any]:
    """The names of a section's settings, and the type of each.

    Example:
        >>> from mopref.recipes.recipe import PartSettings
        >>> list(settings_of(PartSettings))
        ['name', 'options']
    """
    hints = get_type_hints(section)
    return {setting.name: hints[setting.name] for setting in fields(section)}


def wanted(annotation: Any) -> str:
    """What a value of a type is, in words.

    Example:
        >>> wanted(int | None), wanted(tuple[str, ...]), wanted(Literal["bf16", "fp16"])
        ('a whole number or null', 'a list, each entry a text', "'bf16' or 'fp16'")
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _is_union(origin):
        return " or ".join(wanted(part) for part in arguments if is_plain(part)) or "a value"
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if _is_list(origin):
        return f"a list, each entry {wanted(arguments[0])}" if arguments[0] is not Any else "a list"
    if _is_mapping(origin):
        return f"a mapping, each value {wanted(arguments[1])}" if arguments[1] is not Any else "a mapping"
    if is_dataclass(annotation):
        return f"a mapping of {', '.join(settings_of(annotation))}"  # type: ignore[arg-type]
    return _WORDS.get(annotation, "a value")


def is_plain(annotation: Any) -> bool:
    """Whether a file can hold a value of a type.

    Example:
        >>> is_plain(tuple[int, ...] | None), is_plain(range)
        (True, False)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (Any, *_WORDS) or origin is Literal or is_dataclass(annotation):
        return True
    is_known = _is_union(origin) or _is_list(origin) or _is_mapping(origin)
    return is_known and all(is_plain(part) for part in arguments if part is not Ellipsis)


def typed(value: Any, annotation: Any, key: str) -> Any:
    """The value as a setting of a type.

    Args:
        value: plain values, lists and mappings.
        annotation: the type; what is none of a file's (a tensor, a model) is not looked at.
        key: the setting, for messages.

    Raises:
        RecipeError: a value of another type, an unknown or missing setting, or what a section refuses.

    Example:
        >>> typed([1, 2], tuple[float, ...], "evaluation.reference_point")
        (1.0, 2.0)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_dataclass(annotation) and isclass(annotation):
        return _section(value, annotation, key)
    if _is_union(origin):
        return _one_of(value, annotation, key)
    if origin is Literal:
        fits = any(type(value) is type(choice) and value == choice for choice in arguments)
        return value if fits else _refuse(value, annotation, key)
    if _is_list(origin):
        return _entries(value, annotation, key)
    if _is_mapping(origin):
        if not isinstance(value, Mapping):
            _refuse(value, annotation, key)
        return {_text_key(name, key): typed(entry, arguments[1], joined(key, name)) for name, entry in value.items()}
    if annotation is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            _refuse(value, annotation, key)
    if annotation in _WORDS and type(value) is not annotation:
        _refuse(value, annotation, key)
    return value


def _refuse(value: Any, annotation: Any, key: str) -> None:
    raise RecipeError(key, f"is {short_repr(value)}: it must be {wanted(annotation)}.")


def _section(value: Any, section: type[Any], key: str) -> Any:
    settings = settings_of(section)
    if not isinstance(value, Mapping):
        raise RecipeError(key, f"is {short_repr(value)}: it is a section, so it must be {wanted(section)}.")
    for name in value:
        if _text_key(name, key) not in settings:
            problem = f": there is no such setting; {nearest(name, settings, joined(key, ''))}"
            raise RecipeError(joined(key, name), problem)
    for setting in fields(section):
        if setting.name not in value and setting.default is MISSING and setting.default_factory is MISSING:
            problem = f": this setting is missing; it must be {wanted(settings[setting.name])}, so add it."
            raise RecipeError(joined(key, setting.name), problem)
    content = {name: typed(entry, settings[name], joined(key, name)) for name, entry in value.items()}
    with settings_at(key, settings):
        return section(**content)


def _one_of(value: Any, annotation: Any, key: str) -> Any:
    """The value as the first of a union's types that it fits; what fails within a list or mapping is named there."""
    parts, inner = [part for part in get_args(annotation) if is_plain(part)], None
    for part in parts or get_args(annotation):
        try:
            return typed(value, part, key)
        except RecipeError as error:
            inner = inner if inner is not None or error.key == key else error
    if inner is not None:
        raise inner
    return _refuse(value, annotation, key)


def _entries(value: Any, annotation: Any, key: str) -> Any:
    if not isinstance(value, list | tuple):
        _refuse(value, annotation, key)
    entries = [typed(entry, get_args(annotation)[0], f"{key}[{place}]") for place, entry in enumerate(value)]
    return tuple(entries) if get_origin(annotation) is tuple else entries


def _text_key(name: Any, key: str) -> str:
    if not isinstance(name, str):
        raise RecipeError(joined(key, name), ": the name of a setting is a text, so put it in quotes.")
    return name


def _is_union(origin: Any) -> bool:
    return origin in (Union, types.UnionType)


def _is_list(origin: Any) -> bool:
    return origin in (list, tuple, Sequence)


def _is_mapping(origin: Any) -> bool:
    return origin in (dict, Mapping)
