"""A part by its name in a registry, with its options checked against the signature of its class."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, get_type_hints

from mopref.llm.engines import ENGINES
from mopref.llm.policy_gradient import ALGORITHMS
from mopref.recipes.mistakes import RecipeError, joined, nearest, settings_at
from mopref.recipes.recipe import PartSettings
from mopref.recipes.typed import is_plain, typed, wanted
from mopref.registry import SCALARIZERS, Registry

__all__ = ["checked_options", "find_part", "hints_of", "make_part", "parameters_of"]

# Types of options that are parts themselves, and where such parts are registered.
_INNER_PARTS: dict[str, Registry[Any]] = {
    "Scalarizer": SCALARIZERS,
    "PolicyGradient": ALGORITHMS,
    "RolloutEngine": ENGINES,
}


def make_part(
    registry: Registry[Any], settings: PartSettings, key: str, said: Mapping[str, str] | None = None, **given: Any
) -> Any:
    """A part by its name, with its options checked against its signature.

    Args:
        registry: where it is registered.
        settings: its name and options.
        key: where they stand in the recipe.
        said: options that another setting of the recipe says, by name.
        **given: options that the recipe gives.

    Raises:
        RecipeError: an unknown name or option, one that is missing, of another type or out of range.
    """
    function = find_part(registry, settings.name, joined(key, "name"))
    place = joined(key, "options")
    options = checked_options(function, settings.options, place, {**dict.fromkeys(given, ""), **(said or {})}, given)
    with settings_at(place, parameters_of(function)):
        return registry.make(settings.name, **given, **options)


def find_part(registry: Registry[Any], name: str, key: str) -> Callable[..., Any]:
    """The class or function of a name.

    Raises:
        RecipeError: there is none.
    """
    if name not in registry:
        raise RecipeError(key, f"is {name!r}: there is no such {registry.kind}; {nearest(name, registry)}")
    return registry[name]


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """What a class or function takes, by name."""
    return dict(signature(function).parameters)


def checked_options(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    key: str,
    said: Mapping[str, str],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The options by type.

    Args:
        function: what takes them.
        options: as the recipe says them.
        key: where they stand in the recipe.
        said: options that another setting of the recipe says, by name.
        given: options that the recipe gives.

    Raises:
        RecipeError: an option that is unknown, missing, said elsewhere or of another type.
    """
    parameters = parameters_of(function)
    own = {name: p for name, p in parameters.items() if p.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)}
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = hints_of(function)
    for name in options:
        place = joined(key, name)
        if name in said:
            whose = f"the setting {said[name]}" if said[name] else "another part"
            raise RecipeError(place, f": {whose} of the recipe says it, so leave it out.")
        if name not in own and not takes_any:
            free = [other for other in own if other not in said]
            hint = nearest(name, free, joined(key, "")) if free else "there are none."
            raise RecipeError(place, f": there is no such option; {hint}")
    for name, parameter in own.items():
        if parameter.default is Parameter.empty and name not in options and name not in said and name not in given:
            what = _wanted(hints.get(name, Any))
            raise RecipeError(joined(key, name), f": this option is missing; it must be {what}, so add it.")
    return {name: _option(value, hints.get(name, Any), joined(key, name)) for name, value in options.items()}


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of what a class or function takes, by name; none where one is imported for checkers only."""
    try:
        return get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except NameError:  # A type that is imported for checkers only.
        return {}


def _option(value: Any, hint: Any, key: str) -> Any:
    """An option's value: plain, or a part of its own, by name or as a mapping of name and options."""
    kinds = _part_kinds(hint)
    if kinds and (isinstance(value, Mapping) or not is_plain(hint)):
        inner = typed({"name": value} if isinstance(value, str) else value, PartSettings, key)
        return make_part(kinds[0], inner, key)
    return typed(value, hint, key)


def _part_kinds(hint: Any) -> list[Registry[Any]]:
    """The registries of the parts that an option may be."""
    kinds = (hint, *getattr(hint, "__args__", ()))
    return [_INNER_PARTS[name] for kind in kinds if (name := getattr(kind, "__name__", "")) in _INNER_PARTS]


def _wanted(hint: Any) -> str:
    """What an option is, in words."""
    kinds = _part_kinds(hint)
    return wanted(hint) if not kinds else f"the name of a {kinds[0].kind}, or a mapping of name and options"
