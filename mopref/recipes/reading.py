"""Recipes as files: strict YAML in, flags over it, and complete YAML out."""

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mopref._atomic_writes import write_atomically
from mopref._bounded_reading import read_bounded
from mopref.argument_kinds import checked_texts, checks_arguments
from mopref.recipes.mistakes import RecipeError, joined, nearest
from mopref.recipes.parts import make_parts
from mopref.recipes.recipe import PartSettings, Recipe
from mopref.recipes.typed import settings_of, typed, wanted

__all__ = ["add_recipe_flags", "load_recipe", "read_recipe", "recipe_text", "save_recipe"]

# A recipe has a few kilobytes; aliases could make billions of values of it.
_MOST_BYTES, _MOST_VALUES = 2**20, 100_000
# A number such as 1e-3, which YAML 1.1 takes for a text.
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$")


@checks_arguments
def load_recipe(
    path: str | Path, flags: Sequence[str] = (), for_training: bool = True, kind: type[Recipe] = Recipe
) -> Recipe:
    """The recipe in a file, with flags such as ``--training.steps 100`` over it.

    Every part is made once, so that what it refuses is refused here. No model and no data is loaded.

    Args:
        path: a YAML file. Of a part its name alone will do, as in ``scalarizer: linear``.
        flags: settings by their keys.
        for_training: whether its steps have to be those that as many processes as there are here can share.
        kind: a recipe with more sections, such as ``MethodRecipe``.

    Raises:
        RecipeError: a file that is missing or no YAML, an unknown or missing setting, a value of another type or out of
            its range, or a part or an option of it that does not exist: with the file and the key, or the flag.
    """
    name, flags = str(path), checked_texts(flags, "flags")
    with _placed(f"{name}, ", flags):
        tree = _part_names(_read_tree(Path(path)))
        if kind is Recipe and "comparison" in tree:
            raise RecipeError(
                "comparison", ": this section is of methods that `mopref compare` trains; call that, or leave it out."
            )
        typed(tree, kind, "")
        recipe: Recipe = typed(_with_flags(tree, flags, kind), kind, "")
        make_parts(recipe, for_training)
    return recipe.completed()


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a file by its settings alone: no part of it is made, so that devices and packages need not be here.

    Raises:
        RecipeError: a file that is missing or no YAML, or a setting that is unknown, missing or of another type.
    """
    with _placed(f"{path}, ", ()):
        recipe: Recipe = typed(_part_names(_read_tree(Path(path))), Recipe, "")
    return recipe.completed()


@contextmanager
def _placed(file: str, flags: Sequence[str]) -> Iterator[None]:
    """Within this block a mistake is named with its flag, where there is one, or its file."""
    try:
        yield
    except RecipeError as error:
        if error.place:
            raise
        keys = [flag.removeprefix("--").partition("=")[0] for flag in flags if flag.startswith("--")]
        if any(error.key == key or error.key.startswith((f"{key}.", f"{key}[")) for key in keys):
            raise RecipeError(error.key, error.problem, "--") from error.__cause__
        for key in keys:
            section, _, name = key.rpartition(".")
            # What does not go with a setting of the file's may be the flag's doing.
            if error.key.rpartition(".")[0] == section and re.search(rf"\b{re.escape(name)}\b", error.problem):
                problem = f": {error.key.rpartition('.')[2]} {error.problem}"
                raise RecipeError(key, problem, "--") from error.__cause__
        raise RecipeError(error.key, error.problem, file) from error.__cause__


def _read_tree(path: Path) -> Any:
    """The content of a YAML file, in which no key is written twice."""
    import yaml

    try:
        text = read_bounded(path, _MOST_BYTES, "a recipe").decode("utf-8")
    except FileNotFoundError:
        raise RecipeError("", ": there is no such file; write one with `mopref init`, or correct the path.") from None
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise RecipeError("", f": the file cannot be read ({reason}); give a text file of settings.") from error
    try:
        tree = yaml.load(text, _loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError("", f": it is no YAML{line} ({problem}); correct it, or put a text in quotes.") from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # What a tag makes of a text that is none of its kind, or a number of too many digits.
        problem = f"{type(error).__name__}: {error!s:.200}"
        raise RecipeError("", f": it holds a value that cannot be read ({problem}); write another.") from error
    if not isinstance(tree, dict):
        raise RecipeError("", ": a recipe is a mapping of settings, as in `objectives: [helpful, harmless]`.")
    return tree


@cache
def _loader() -> Any:
    """PyYAML's safe loader, with ``1e-3`` as a number, dates as text, and no key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def get_single_node(self) -> Any:
            node = super().get_single_node()
            try:
                values = _count_values(node, {})
            except _EndlessError:
                raise yaml.constructor.ConstructorError(None, None, "a value that holds itself", None) from None
            if values > _MOST_VALUES:
                problem = f"its aliases (*) stand for more than {_MOST_VALUES} values"
                raise yaml.constructor.ConstructorError(None, None, problem, None)
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                key = self.construct_object(key_node, deep=True)
                # One that cannot be a key is refused below.
                if isinstance(key, Hashable):
                    if key in seen:
                        problem = f"the key {key!r} is there twice"
                        raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                    seen.add(key)
            return super().construct_mapping(node, deep)

    others = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in others]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    return Loader


class _EndlessError(Exception):
    """A node that holds itself."""


def _count_values(node: Any, known: dict[int, int | None]) -> int:
    """How many values a node stands for, when each alias is written out."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise _EndlessError
        return count
    known[id(node)] = None
    content = getattr(node, "value", "")
    parts = [] if isinstance(content, str) else content
    inner = [part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,))]
    known[id(node)] = count = 1 + sum(_count_values(part, known) for part in inner)
    return count


def _part_names(tree: dict[str, Any]) -> dict[str, Any]:
    """The settings with a part that is named only as a section."""
    parts = [name for name, kind in settings_of(Recipe).items() if kind is PartSettings]
    tree = {key: {"name": value} if key in parts and isinstance(value, str) else value for key, value in tree.items()}
    if "rewards" in tree:
        tree = {**tree, "rewards": _named_parts(tree["rewards"])}
    evaluation = tree.get("evaluation")
    if isinstance(evaluation, dict) and "judges" in evaluation:
        tree = {**tree, "evaluation": {**evaluation, "judges": _named_parts(evaluation["judges"])}}
    return tree


def _named_parts(parts: Any) -> Any:
    if not isinstance(parts, dict):
        return parts
    return {name: {"name": value} if isinstance(value, str) else value for name, value in parts.items()}


def add_recipe_flags(parser: Any, kind: type[Recipe] = Recipe) -> None:
    """Give a parser of jsonargparse a flag for every setting of a recipe."""
    parser.add_class_arguments(kind, None)


def _with_flags(tree: dict[str, Any], flags: Sequence[str], kind: type[Recipe]) -> dict[str, Any]:
    """The settings with what flags say in place of the file's."""
    if not flags:
        return tree
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False)
    parser.add_argument("--recipe", action="config")
    add_recipe_flags(parser, kind)
    try:
        text = json.dumps(tree)
    except (TypeError, ValueError) as error:
        raise RecipeError("", f"it holds a value that is no text, number or list ({error}): write another.") from error
    try:
        merged = parser.parse_args(["--recipe", text, *flags])
    except ArgumentError as error:
        raise _flag_mistake(str(error), flags, kind) from error
    content: dict[str, Any] = merged.as_dict()
    del content["recipe"]
    return content


def _flag_mistake(message: str, flags: Sequence[str], recipe: type[Recipe]) -> RecipeError:
    """What jsonargparse says of flags, in our words."""
    if message.startswith("unrecognized arguments: "):
        # One of blanks alone is shown whole.
        words = message.partition(": ")[2]
        return _unknown_flag(next(iter(words.split()), words), recipe)
    key = _key_of(message)
    kind = _kind_of(key, recipe)
    if "expected one argument" in message:
        return RecipeError(key, f": the flag has no value; it must be {wanted(kind)}, so write it behind.", "--")
    value = _flag_value(key, flags)
    if is_dataclass(kind):
        return RecipeError(key, f"is {value!r}: it is a section; write --{key}.{_first(kind)} for example.", "--")
    inner = re.search(r"(?s)Parser key \"\w+\":.*?(?:Parser key|Option) [\"'](\w+)[\"']", message)
    if inner is not None:
        return RecipeError(
            key,
            f": {inner[1]!r} in it does not fit; it must be {wanted(kind)}, so write it in the recipe's file.",
            "--",
        )
    return RecipeError(key, f"is {value!r}: it must be {wanted(kind)}.", "--")


def _unknown_flag(flag: str, recipe: type[Recipe]) -> RecipeError:
    if not flag.startswith("--"):
        return RecipeError(
            "", f": {flag!r} is given beside it; a recipe is one file, and flags begin with --, as in --seed 1."
        )
    key = flag.removeprefix("--").partition("=")[0]
    known = list(_keys(recipe, ""))
    return RecipeError(key, f": there is no such setting; {nearest(key, known, '--')}", "--")


def _keys(section: type[Any], key: str) -> Iterator[str]:
    for name, kind in settings_of(section).items():
        if is_dataclass(kind):
            yield from _keys(kind, joined(key, name))  # type: ignore[arg-type]
        else:
            yield joined(key, name)


def _key_of(message: str) -> str:
    match = re.search(r"Parser key \"([\w.]+)\"", message) or re.search(r"argument --([\w.]+)", message)
    return match[1] if match else ""


def _kind_of(key: str, recipe: type[Recipe]) -> Any:
    kind: Any = recipe
    for name in key.split("."):
        kind = settings_of(kind).get(name, Any) if is_dataclass(kind) else Any  # type: ignore[arg-type]
    return kind


def _first(section: Any) -> str:
    return next(iter(settings_of(section)))


def _flag_value(key: str, flags: Sequence[str]) -> str:
    for place, flag in enumerate(flags):
        name, is_joined, value = flag.partition("=")
        if name == f"--{key}":
            return value if is_joined else next(iter(flags[place + 1 :]), "")
    return ""


@checks_arguments
def recipe_text(recipe: Recipe, with_help: bool = False) -> str:
    """A recipe as YAML, complete; with what each setting is, from its docstring, as a comment above it."""
    import yaml

    def lines(section: Any, indent: str) -> Iterator[str]:
        help_texts = _help_texts(type(section)) if with_help else {}
        for setting in fields(section):
            value = getattr(section, setting.name)
            if setting.name in help_texts:
                yield f"{indent}# {help_texts[setting.name]}"
            if is_dataclass(value) and not isinstance(value, PartSettings):
                yield f"{indent}{setting.name}:"
                yield from lines(value, f"{indent}  ")
            else:
                try:
                    written = json.dumps(asdict(value) if isinstance(value, PartSettings) else _plain(value))
                except (TypeError, ValueError, RecursionError) as error:
                    raise RecipeError(
                        setting.name, f"cannot be written into a file ({error}): take numbers and texts."
                    ) from error
                plain = json.loads(written)
                text = yaml.safe_dump({setting.name: plain}, sort_keys=False, allow_unicode=True, width=110)
                yield from (f"{indent}{line}" for line in text.splitlines())

    return "\n".join(lines(recipe, "")) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: asdict(entry) if isinstance(entry, PartSettings) else entry for name, entry in value.items()}
    return value


def _help_texts(section: type[Any]) -> dict[str, str]:
    from docstring_parser import parse

    entries = parse(section.__doc__ or "").params
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in entries}


@checks_arguments
def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe, complete, so that the file runs it again.

    Raises:
        TypeError: no recipe, or no path.
        OSError: it cannot be written there.
    """
    write_atomically(path, recipe_text(recipe.completed()).encode())
