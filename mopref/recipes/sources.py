"""The records that a recipe names: whether their loader can read them, and the reading."""

from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

import mopref.llm.demo
import mopref.recipes.record_files  # noqa: F401 (its loaders register themselves)
from mopref.llm.data import LoadReport
from mopref.llm.data.loaders import LOADERS
from mopref.recipes.mistakes import RecipeError
from mopref.recipes.part_options import checked_options, find_part, parameters_of
from mopref.recipes.recipe import Recipe
from mopref.recipes.rows import LOADER_RECORDS, RowKind

__all__ = ["check_loader", "load_records", "new_reports"]


def check_loader(recipe: Recipe, kind: RowKind) -> None:
    """Refuse a loader of other records than the objective learns from, and options or sources that it has not.

    Raises:
        RecipeError: the setting is named.
    """
    data = recipe.data
    function = find_part(LOADERS, data.loader, "data.loader")
    records = LOADER_RECORDS.get(data.loader, "pairs")
    if records != kind.records and not (kind.records == "prompts" and records == "pairs"):
        raise RecipeError(
            "data.loader",
            f"is {data.loader!r}, which reads {records}: the objective {recipe.objective.name!r} learns from "
            f"{kind.records}, so choose another loader.",
        )
    source = _source_option(function)
    # What a loader leaves out is counted for data.json.
    said = {"objectives": "objectives", "report": ""} | ({} if source is None else {source: "data.source"})
    checked_options(function, data.options, "data.options", said, {})
    checked_options(function, data.test_options, "data.test_options", said, {})
    required = source is not None and parameters_of(function)[source].default is Parameter.empty
    if required and data.source is None:
        problem = f": this setting is missing; the loader {data.loader!r} needs a file, folder or hub id, so give one."
        raise RecipeError("data.source", problem)
    for name in ("source", "test_source"):
        value = getattr(data, name)
        if value is None:
            continue
        if source is None:
            raise RecipeError(f"data.{name}", f"is {value!r}: the loader {data.loader!r} takes none, so leave it out.")
        if isinstance(value, Mapping) and not _takes_mapping(function, source):
            raise RecipeError(f"data.{name}", f"is {value!r}: the loader {data.loader!r} takes a file or hub id only.")


def _source_option(loader: Callable[..., Any]) -> str | None:
    return next((name for name in parameters_of(loader) if name in ("source", "sources", "path")), None)


def _takes_mapping(loader: Callable[..., Any], source: str) -> bool:
    return "Mapping" in str(parameters_of(loader)[source].annotation)


def new_reports(recipe: Recipe) -> dict[str, LoadReport]:
    """An empty report for each source of the recipe's data: "train" and "held out", or "all" where one is split."""
    sources = ("train", "held out") if recipe.data.has_test_data else ("all",)
    return {source: LoadReport() for source in sources}


def load_records(recipe: Recipe, test: bool = False, report: LoadReport | None = None) -> list[dict[str, Any]]:
    """The records that the recipe's data settings name; those to evaluate on where ``test``.

    A report is filled with counts by the loaders that count what they leave out.

    Raises:
        FileNotFoundError, ValueError: as the loader does.
    """
    data, loader = recipe.data, LOADERS[recipe.data.loader]
    origin = data.test_source if test and data.test_source is not None else data.source
    options: dict[str, Any] = {**data.options, **(data.test_options if test else {})}
    source = _source_option(loader)
    if source is not None and origin is not None:
        options[source] = origin
    if "objectives" in parameters_of(loader):
        options["objectives"] = recipe.objectives
    if "report" in parameters_of(loader) and report is not None:
        options["report"] = report
    try:
        return list(LOADERS.make(data.loader, **options))
    except FileNotFoundError as error:
        key = "data.test_source" if test and data.test_source is not None else "data.source"
        raise RecipeError(key, f": {error}") from error
