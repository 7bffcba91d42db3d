"""What the data of a recipe hold, before anything is trained on them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from mopref.llm.data import label_counts
from mopref.llm.data.records import prompt_key, record_dimensions
from mopref.recipes.models import load_tokenizer
from mopref.recipes.parts import make_parts
from mopref.recipes.recipe import DataSettings, Recipe
from mopref.recipes.rows import RowKind, summary, tokenized
from mopref.recipes.run import read_data

__all__ = ["DataReport", "RenderedRow", "inspect_data"]

# More tokens than any text has.
_NO_LIMIT = 10**9


class RenderedRow(NamedTuple):
    """A row as the model sees it: what is given, and what is trained, each response by itself."""

    prompt: str
    responses: list[str]
    labels: str


class DataReport(NamedTuple):
    """What the data hold: lines of text, and some rows."""

    lines: list[str]
    rows: list[RenderedRow]


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
    parts = make_parts(recipe)
    sides = dict(zip(("train", "held out"), read_data(recipe, parts), strict=True))
    tokenizer = load_tokenizer(recipe.model)
    whole = replace(recipe.data, max_prompt_length=_NO_LIMIT, max_response_length=_NO_LIMIT)
    rows = {
        side: tokenized(parts.kind, tokenizer, records, recipe.objectives, whole) for side, records in sides.items()
    }
    lines = []
    for side, records in sides.items():
        lines += [f"{side}: {line}" for line in _content(parts.kind, records, recipe.objectives)]
        lines += [f"{side}: {line}" for line in _lengths(rows[side], recipe.data)]
    lines.append(_leaks(sides["train"], sides["held out"]))
    return DataReport(lines, [_rendered(tokenizer, row, recipe.objectives) for row in rows["train"][:count]])


def _content(kind: RowKind, records: list[dict[str, Any]], names: Sequence[str]) -> Iterator[str]:
    yield summary(kind, records, names)
    if kind.records == "responses":
        counts = {name: sum(name in record_dimensions(record) for record in records) for name in names}
        yield "responses of " + ", ".join(f"{name} {number}" for name, number in counts.items())
    if kind.records in ("pairs", "unpaired answers"):
        counts = label_counts(records, names).labelled
        labels = {name: [record[name] for record in records] for name in names}
        for name in names:
            zeros, ones, open_ = (labels[name].count(label) for label in (0, 1, -1))
            if kind.records == "pairs":
                what, none = f"{zeros} prefer response_0, {ones} response_1", "tied or not labelled"
            else:
                what, none = f"{ones} good, {zeros} bad", "not labelled"
            yield f"{name}: {counts[name]} labelled ({what}), {open_} {none}"
        for one, other in combinations(names, 2):
            both = [pair for pair in zip(labels[one], labels[other], strict=True) if min(pair) >= 0]
            agree = sum(a == b for a, b in both)
            yield f"{one} and {other}: {len(both)} labelled on both, {agree} agree, {len(both) - agree} conflict"


def _lengths(rows: Sequence[Any], data: DataSettings) -> Iterator[str]:
    """Tokens of prompts and responses, and how many are beyond the limits."""
    columns = [name for name in rows[0] if name.endswith("_ids")]
    for part, limit in (("prompt", data.max_prompt_length), ("response", data.max_response_length)):
        lengths = sorted(len(row[name]) for row in rows for name in columns if name.startswith(part))
        if lengths:
            middle, most = lengths[len(lengths) // 2], lengths[-1]
            beyond = sum(length > limit for length in lengths)
            yield f"{part} tokens: median {middle}, most {most}; {beyond} of {len(lengths)} beyond the limit of {limit}"


def _leaks(train: Sequence[Any], test: Sequence[Any]) -> str:
    known = {prompt_key(record["prompt"]) for record in train}
    leaks = sum(prompt_key(record["prompt"]) in known for record in test)
    return f"leaks: {leaks} of {len(test)} held-out records have a prompt of the training data"


def _rendered(tokenizer: Any, row: Any, names: Sequence[str]) -> RenderedRow:
    responses = [tokenizer.decode(ids) for name, ids in row.items() if name.startswith("response") and "ids" in name]
    values = row.get("labels") or row.get("dimensions") or []
    labels = ", ".join(f"{name} {int(value)}" for name, value in zip(names, values, strict=False))
    return RenderedRow(tokenizer.decode(row["prompt_ids"]), responses, labels)
