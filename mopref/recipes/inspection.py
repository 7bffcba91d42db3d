"""What the data of a recipe hold, before anything is trained on them."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from mopref.recipes.data_statistics import DataStatistics, data_statistics, statistics_lines
from mopref.recipes.models import load_tokenizer
from mopref.recipes.parts import make_parts
from mopref.recipes.recipe import Recipe
from mopref.recipes.rows import tokenized
from mopref.recipes.run import read_data
from mopref.recipes.sources import new_reports

__all__ = ["DataReport", "RenderedRow", "inspect_data"]

# More tokens than any text has.
_NO_LIMIT = 10**9


class RenderedRow(NamedTuple):
    """A row as the model sees it: what is given, and what is trained, each response by itself."""

    prompt: str
    responses: list[str]
    labels: str


class DataReport(NamedTuple):
    """What the data hold: lines of text, some rows, and the counts that the lines tell."""

    lines: list[str]
    rows: list[RenderedRow]
    statistics: DataStatistics


def inspect_data(recipe: Recipe, count: int = 10) -> DataReport:
    """Read and tokenise the data of a recipe, and count what is in them; no model is loaded.

    Args:
        recipe: the settings.
        count: so many rows of the training data are rendered.

    Raises:
        RecipeError: a setting that cannot be; it is named.
        FileNotFoundError, ValueError: data that are not there, or cannot be trained on; row and column are named.
    """
    recipe = recipe.completed()
    parts = make_parts(recipe, for_training=False)
    reports = new_reports(recipe)
    sides = dict(zip(("train", "held out"), read_data(recipe, parts, reports), strict=True))
    tokenizer = load_tokenizer(recipe.model)
    whole = replace(recipe.data, max_prompt_length=_NO_LIMIT, max_response_length=_NO_LIMIT)
    for records in sides.values():
        # As a training would, for its warnings; below, whatever is beyond the limits counts.
        tokenized(parts.kind, tokenizer, records, recipe.objectives, replace(recipe.data, on_long_prompt="drop"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = {
            side: tokenized(parts.kind, tokenizer, records, recipe.objectives, whole) for side, records in sides.items()
        }
    pairs = {side: (records, rows[side]) for side, records in sides.items()}
    statistics = data_statistics(parts.kind, pairs, recipe.objectives, recipe.data, reports, within_limits=False)
    shown = [_rendered(tokenizer, row, recipe.objectives) for row in rows["train"][:count]]
    return DataReport(list(statistics_lines(statistics)), shown, statistics)


def _rendered(tokenizer: Any, row: Any, names: Sequence[str]) -> RenderedRow:
    responses = [tokenizer.decode(ids) for name, ids in row.items() if name.startswith("response") and "ids" in name]
    values = row.get("labels") or row.get("dimensions") or []
    labels = ", ".join(f"{name} {int(value)}" for name, value in zip(names, values, strict=False))
    return RenderedRow(tokenizer.decode(row["prompt_ids"]), responses, labels)
