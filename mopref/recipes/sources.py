"""The records that a recipe names: whether their loader can read them, and the reading."""

import os
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, get_args, get_origin

import mopref.llm.demo
import mopref.recipes.record_files  # noqa: F401 (its loaders register themselves)
from mopref.llm.data import DataSource, LoadReport
from mopref.llm.data.loaders import LOADERS
from mopref.recipes.mistakes import RecipeError, nearest
from mopref.recipes.part_options import checked_options, find_part, hints_of, parameters_of
from mopref.recipes.recipe import Recipe
from mopref.recipes.rows import LOADER_RECORDS, RowKind, takes_records
from mopref.recipes.typed import typed

__all__ = ["check_loader", "load_records", "new_reports"]

# What a loader calls the data that it reads, or the data sets of all objectives.
_SOURCE_OPTIONS = ("source", "sources", "path")


def check_loader(recipe: Recipe, kind: RowKind) -> None:
    """Refuse a loader of other records than the objective learns from, and options or sources that it has not.

    Raises:
        RecipeError: the setting is named.
    """
    data = recipe.data
    function = find_part(LOADERS, data.loader, "data.loader")
    if not takes_records(kind, data.loader):
        others = ", ".join(sorted(name for name in LOADERS if takes_records(kind, name)))
        raise RecipeError(
            "data.loader",
            f"is {data.loader!r}, which reads {LOADER_RECORDS.get(data.loader, 'pairs')}: the objective "
            f"{recipe.objective.name!r} learns from {kind.records}, so choose one of {others}.",
        )
    for test in (False, True):
        _options(recipe, test)
    source = _source_option(function)
    required = source is not None and parameters_of(function)[source].default is Parameter.empty
    if required and data.source is None:
        what = "a data set for each objective" if _takes_one_each(function, source) else "a file, folder or hub id"
        problem = f": this setting is missing; the loader {data.loader!r} needs {what}, so give one."
        raise RecipeError("data.source", problem)
    for name in ("source", "test_source"):
        value = getattr(data, name)
        if isinstance(value, str) and not value.strip():
            raise RecipeError(f"data.{name}", f"is {value!r}, which names nothing: give a file, a folder or a hub id.")
        if value is None:
            continue
        if source is None:
            raise RecipeError(f"data.{name}", f"is {value!r}: the loader {data.loader!r} takes none, so leave it out.")
        _check_source(recipe, function, f"data.{name}", value)


def _check_source(recipe: Recipe, loader: Callable[..., Any], key: str, value: str | Mapping[str, Any]) -> None:
    """Refuse a single data set where each objective has one, one for each where there is a single one, and others."""
    name, names = recipe.data.loader, recipe.without_pull
    takes_one_each = _takes_one_each(loader, _source_option(loader))
    if isinstance(value, str):
        if takes_one_each:
            example = f"{{{names[0]}: {value}, …}}"
            raise RecipeError(key, f"is {value!r}: the loader {name!r} reads a data set for each, so give {example}.")
        return
    if not takes_one_each:
        raise RecipeError(key, f"is {value!r}: the loader {name!r} takes a file or hub id only, so give one.")
    for objective in value:
        if objective not in names:
            raise RecipeError(f"{key}.{objective}", f": there is no such objective; {nearest(objective, names)}")
    for objective in names:
        if objective not in value:
            raise RecipeError(f"{key}.{objective}", ": the data set of this objective is missing, so give one.")
    _data_sets(value, key)


def _data_sets(value: Mapping[str, Any], key: str) -> dict[str, str | DataSource]:
    """The data set of each objective: a file, folder or hub id, or such with options of its own."""
    return {
        name: _data_set(own, f"{key}.{name}") if isinstance(own, Mapping) else typed(own, str, f"{key}.{name}")
        for name, own in value.items()
    }


def _data_set(settings: Mapping[str, Any], key: str) -> DataSource:
    made: DataSource = typed(settings, DataSource, key)
    # Rows themselves have no place in a recipe.
    typed(made.source, str, f"{key}.source")
    return made


def _options(recipe: Recipe, test: bool) -> dict[str, Any]:
    """The loader's options, by type.

    Raises:
        RecipeError: an option that is unknown, missing, said elsewhere or of another type.
    """
    data, function = recipe.data, LOADERS[recipe.data.loader]
    source = _source_option(function)
    # A report is filled for the caller, whom a recipe has not.
    said = {"objectives": "objectives", "report": ""} | ({} if source is None else {source: "data.source"})
    options = checked_options(function, data.options, "data.options", said, {})
    if test:
        options |= checked_options(function, data.test_options, "data.test_options", said, data.options)
    return options


def _source_option(loader: Callable[..., Any]) -> str | None:
    return next((name for name in parameters_of(loader) if name in _SOURCE_OPTIONS), None)


def _takes_one_each(loader: Callable[..., Any], source: str | None) -> bool:
    """Whether a loader takes a data set for each objective."""
    hint = hints_of(loader).get(source) if source is not None else None
    return any(get_origin(part) is Mapping for part in (hint, *get_args(hint)))


def new_reports(recipe: Recipe) -> dict[str, LoadReport]:
    """An empty report for each source of the recipe's data: "train" and "held out", or "all" where one is split."""
    sources = ("train", "held out") if recipe.data.has_test_data else ("all",)
    return {source: LoadReport() for source in sources}


def load_records(recipe: Recipe, test: bool = False, report: LoadReport | None = None) -> list[dict[str, Any]]:
    """The records that the recipe's data settings name; those to evaluate on where ``test``.

    A report is filled with counts by the loaders that count what they leave out.

    Raises:
        RecipeError: nothing at the source, or an option that the loader refuses; the setting is named.
        ValueError: as the loader does; the row is named.
    """
    data, loader = recipe.data, LOADERS[recipe.data.loader]
    key = "data.test_source" if test and data.test_source is not None else "data.source"
    origin = data.test_source if test and data.test_source is not None else data.source
    options = _options(recipe, test)
    source = _source_option(loader)
    if source is not None and origin is not None:
        options[source] = origin if isinstance(origin, str | os.PathLike) else _data_sets(origin, key)
    if "objectives" in parameters_of(loader):
        options["objectives"] = recipe.without_pull
    if "report" in parameters_of(loader) and report is not None:
        options["report"] = report
    try:
        return list(LOADERS.make(data.loader, **options))
    except FileNotFoundError as error:
        raise RecipeError(key, f": {error}") from error
    except ValueError as error:
        first, _, rest = str(error).partition(" ")
        if first not in options or first in (source, "objectives"):
            other = next((name for name in LOADERS if f"{LOADERS[name].__name__}(" in str(error)), None)
            hint = "" if other in (None, data.loader) else f" In a recipe: data: {{loader: {other}, …}}."
            raise RecipeError(key, f": {error}{hint}") from error
        section = "test_options" if test and first in data.test_options else "options"
        raise RecipeError(f"data.{section}.{first}", rest) from error
