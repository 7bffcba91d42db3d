"""Pairs of responses that visitors are asked about, with what the model says of them at every λ."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mopref._bounded_reading import read_bounded
from mopref._repr import short_repr
from mopref.conditioning import PreferenceModel
from mopref.llm.data import tokenize_records, validate_records
from mopref.llm.data.records import TEXT_COLUMNS, prompt_key
from mopref.llm.policy.positions import position_limits
from mopref.personal import PairMargins, pair_margins
from mopref.recipes.parts import make_parts
from mopref.recipes.reading import load_recipe
from mopref.recipes.rows import LOADER_RECORDS
from mopref.recipes.run import read_data
from mopref.recipes.run_folder import RECIPE
from mopref.serving.page.texts import said_text

__all__ = ["Pair", "Pairs", "RunRecords", "known_pairs", "read_pairs", "run_records"]

_MOST_BYTES = 64 << 20
# Of a prompt and of a response in tokens: what is longer nobody reads twice.
_LONGEST = 512
_NONE = "Give pairs to ask about by --pairs FILE: one JSON object a line, with prompt, response_0 and response_1."


class Pair(NamedTuple):
    """A pair as a visitor sees it.

    Attributes:
        prompt: as text.
        responses: both, as texts.
    """

    prompt: str
    responses: tuple[str, str]


class Pairs(NamedTuple):
    """What may be asked about.

    Attributes:
        shown: the pairs.
        margins: by how much the model prefers the one response, at every λ; a row for each pair.
    """

    shown: list[Pair]
    margins: PairMargins


class RunRecords(NamedTuple):
    """The records of a run.

    Attributes:
        records: preference records, held-out ones first; none where there is a problem.
        beta: of the objective they were learnt by.
        problem: why there are none, in a sentence for visitors.
    """

    records: list[dict[str, Any]]
    beta: float
    problem: str | None = None


def read_pairs(path: str | Path, objectives: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs in a file of JSON lines: objects with ``prompt``, ``response_0`` and ``response_1``.

    Labels do not count, and need not be there.

    Args:
        path: the file.
        objectives: the names of the m objectives.

    Returns:
        Preference records, with the label −1 on every objective.

    Raises:
        FileNotFoundError, OSError: no such file, or one that cannot be read.
        ValueError: a line that is no such object, or texts that ``validate_records`` refuses; the row is named.
    """
    lines = read_bounded(Path(path), _MOST_BYTES, "pairs").decode("utf-8", "replace").splitlines()
    records = []
    for row, line in enumerate(filter(str.strip, lines)):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not set(TEXT_COLUMNS) <= record.keys():
            raise ValueError(
                f"row {row} of {path} is no JSON object with {', '.join(TEXT_COLUMNS)}: write one object a line."
            )
        texts = {name: record[name] for name in TEXT_COLUMNS}
        records.append({**dict.fromkeys(objectives, -1), **texts})
    if not records:
        raise ValueError(f"{path} holds no pairs: write one JSON object a line, with {', '.join(TEXT_COLUMNS)}.")
    validate_records(records, objectives)
    return records


def run_records(folder: str | Path) -> RunRecords:
    """The pairs of a run's own data, those that were held out first; nothing is fetched that is not there already.

    A folder without them is no mistake: the problem is told on the page.
    """
    path = Path(folder)
    if not (path / RECIPE).is_file():
        return RunRecords([], 0.1, f"This model's folder has no records. {_NONE}")
    recipe = load_recipe(path / RECIPE, for_training=False)
    beta = recipe.objective.options.get("beta", 0.1)
    beta = float(beta) if isinstance(beta, int | float) and beta > 0 else 0.1
    source = recipe.data.source
    of_pairs = LOADER_RECORDS.get(recipe.data.loader, "pairs") == "pairs"
    if not (of_pairs and isinstance(source, str) and Path(source).exists()):
        return RunRecords([], beta, f"This machine has no pairs of this run. {_NONE}")
    try:
        train, held_out = read_data(recipe, make_parts(recipe, for_training=False))
    except (ValueError, OSError) as error:
        return RunRecords(
            [], beta, f"The records of this run cannot be read ({short_repr(type(error).__name__)}). {_NONE}"
        )
    return RunRecords([*held_out, *train], beta)


def known_pairs(
    model: PreferenceModel, tokenizer: Any, records: Sequence[dict[str, Any]], beta: float, most: int = 32
) -> Pairs | None:
    """Pairs with their margins, by a forward for each: before the model is served, since it is one model.

    Args:
        model: the conditioned model.
        tokenizer: its tokenizer.
        records: preference records; of each prompt one is taken, and none that is too long.
        beta: β > 0 that the model was trained with.
        most: how many pairs are taken, from the start.

    Returns:
        ``None`` where no pair can be asked about.
    """
    limit = position_limits(model.base_model).tokens
    longest = _LONGEST if limit is None else min(_LONGEST, limit // 2)
    shown: list[Pair] = []
    rows: list[Any] = []
    known: set[str] = set()
    for record in records:
        key = prompt_key(record["prompt"])
        if len(rows) == most or key in known or record["response_0"] == record["response_1"]:
            continue
        try:
            (row,) = tokenize_records(tokenizer, [record], model.objectives, longest, longest)
        except ValueError:
            # Too long, or laid out in no way: another one is asked about.
            continue
        known.add(key)
        rows.append(row)
        shown.append(_shown(record))
    return Pairs(shown, pair_margins(model, rows, beta=beta)) if rows else None


def _shown(record: dict[str, Any]) -> Pair:
    first, second = said_text(record["response_0"]), said_text(record["response_1"])
    return Pair(said_text(record["prompt"]), (first, second))
