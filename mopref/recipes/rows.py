"""What each objective learns from: the kind of its records, how they become rows, and how its front is measured.

An objective that is new here is one line in ``KINDS``, a loader of other records than preference pairs one in
``LOADER_RECORDS``.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, Literal, NamedTuple

from torch import Tensor

from mopref.llm.data import (
    label_counts,
    tokenize_prompts,
    tokenize_records,
    tokenize_responses,
    tokenize_unpaired,
    validate_records,
    validate_response_records,
    validate_unpaired_records,
    with_mismatches,
)
from mopref.llm.data.records import prompt_key
from mopref.llm.policy.reference_cache import ReferenceCache
from mopref.objective import Objective
from mopref.recipes.recipe import DataSettings, TrainingSettings

__all__ = [
    "KINDS",
    "LOADER_RECORDS",
    "RowKind",
    "check_held_out",
    "precomputed",
    "prompt_rows",
    "summary",
    "takes_records",
    "tokenized",
    "validated",
]

Records = list[dict[str, Any]]


class RowKind(NamedTuple):
    """What an objective learns from.

    Attributes:
        records: "pairs", "unpaired answers", "responses" or "prompts".
        tokenize: ``(tokenizer, records, names, limits)`` to rows, where limits are keyword arguments.
        front: how its front is measured: "preferences" or "answers" (with accuracies), "losses" or "rewards".
        precompute: options of its ``precompute``.
        takes_rewards: whether the recipe names a reward for each objective, but for a pull.
    """

    records: str
    tokenize: Callable[[Any, Records, Sequence[str], Mapping[str, Any]], list[dict[str, Any]]]
    front: str
    precompute: Mapping[str, Any]
    takes_rewards: bool = False


def _pair_rows(tokenizer: Any, records: Records, names: Sequence[str], limits: Mapping[str, Any]) -> Any:
    return tokenize_records(tokenizer, records, names, **limits)


def _unpaired_rows(tokenizer: Any, records: Records, names: Sequence[str], limits: Mapping[str, Any]) -> Any:
    # Of these records only: those to evaluate on have no answers of the training, and the other way round.
    return with_mismatches(tokenize_unpaired(tokenizer, records, names, **limits))


def _response_rows(tokenizer: Any, records: Records, names: Sequence[str], limits: Mapping[str, Any]) -> Any:
    return tokenize_responses(tokenizer, records, names, **limits)


def _prompt_rows(tokenizer: Any, records: Records, names: Sequence[str], limits: Mapping[str, Any]) -> Any:
    prompts = [record["prompt"] for record in records]
    return tokenize_prompts(tokenizer, prompts, limits["max_prompt_length"], limits["on_long_prompt"])


_PAIRS = RowKind("pairs", _pair_rows, "preferences", {"frozen_layers": "auto"})
_PROMPTS = RowKind("prompts", _prompt_rows, "rewards", {}, takes_rewards=True)
KINDS = {
    "dpo": _PAIRS,
    "simpo": _PAIRS,
    "orpo": _PAIRS,
    "kto": RowKind("unpaired answers", _unpaired_rows, "answers", {}),
    "sft": RowKind("responses", _response_rows, "losses", {"frozen_layers": "auto"}),
    "rlhf": _PROMPTS,
    "online-dpo": _PROMPTS,
}

# What the records of a loader are, where they are no pairs.
LOADER_RECORDS = {
    "responses": "responses",
    "prompts": "prompts",
    "unpaired-preferences": "unpaired answers",
    "unpaired-records": "unpaired answers",
}


def takes_records(kind: RowKind, loader: str) -> bool:
    """Whether an objective of this kind learns from what a loader reads: of pairs also from their prompts alone."""
    records = LOADER_RECORDS.get(loader, "pairs")
    return records == kind.records or (kind.records == "prompts" and records == "pairs")


def validated(kind: RowKind, records: Records, names: Sequence[str]) -> None:
    """Check the records before a model is loaded.

    Raises:
        ValueError: what the check of that kind of record refuses; row and column are named.
    """
    if kind.records == "pairs":
        validate_records(records, names)
    elif kind.records == "unpaired answers":
        validate_unpaired_records(records, names)
    elif kind.records == "responses":
        validate_response_records(records, names)


def summary(kind: RowKind, records: Records, names: Sequence[str]) -> str:
    """How many records there are, and how pairs and single answers are labelled."""
    text = f"{len(records)} {kind.records} on {len({prompt_key(record['prompt']) for record in records})} prompts"
    if kind.records not in ("pairs", "unpaired answers"):
        return text
    counts = label_counts(records, names)
    on_none = sum(all(record[name] < 0 for name in names) for record in records)
    none = f", on none {on_none}" if on_none else ""
    return (
        f"{text}; labelled on all objectives {counts.labelled_on_all}{none}, with opposite labels {counts.in_conflict}"
    )


def check_held_out(objective: Objective, rows: Sequence[Any]) -> None:
    """Refuse rows to evaluate on of which no front could be measured, before a model is trained for it.

    Raises:
        ValueError: fewer rows than the objective's losses need, or none labelled on some objective.
    """
    if len(rows) < objective.fewest_rows:
        raise ValueError(
            f"there are {len(rows)} rows to evaluate on, and {type(objective).__name__} needs {objective.fewest_rows}: "
            "give more data, or hold out a larger share."
        )
    labelled = objective.labelled(rows)
    if labelled is not None:
        check_every_objective(objective, labelled, "the rows to evaluate on")


def check_every_objective(objective: Objective, labelled: Tensor, what: str) -> None:
    """Refuse rows of which none is labelled on some objective.

    Args:
        objective: names the objectives.
        labelled: which row counts for which, ``(rows, m)``.
        what: the rows, for the message.

    Raises:
        ValueError: such an objective, by its name.
    """
    for name, count in zip(objective.names, labelled.sum(dim=0).tolist(), strict=True):
        if count == 0:
            raise ValueError(
                f"none of {what} is labelled on {name!r}: give more data, or another share to be held out."
            )


def tokenized(kind: RowKind, tokenizer: Any, records: Records, names: Sequence[str], data: DataSettings) -> Any:
    """The rows of records within the limits of the settings."""
    limits = {name: getattr(data, name) for name in ("max_prompt_length", "max_response_length", "on_long_prompt")}
    return kind.tokenize(tokenizer, records, names, limits)


def prompt_rows(tokenizer: Any, records: Records, data: DataSettings) -> list[dict[str, Any]]:
    """The prompts of records, each once, as rows with ``prompt`` and ``prompt_ids``, within the limits of the settings.

    One that is too long is left out where it would be an error, since the records' rows are made before.
    """
    prompts = {prompt_key(record["prompt"]): record["prompt"] for record in records}
    how: Literal["truncate", "drop"] = "truncate" if data.on_long_prompt == "truncate" else "drop"
    return tokenize_prompts(tokenizer, list(prompts.values()), data.max_prompt_length, how)


def precomputed(
    kind: RowKind, objective: Any, model: Any, rows: Any, training: TrainingSettings, tell: Callable[[str], None]
) -> Any:
    """The rows with what is the same at every step, where the objective can compute that before.

    Args:
        kind: what the objective learns from.
        objective: the objective.
        model: what is trained.
        rows: its rows.
        training: the precision, and whether references are kept in the cache folder.
        tell: says whether they were found there.
    """
    if not hasattr(objective, "precompute"):
        return rows
    options = dict(kind.precompute)
    cache = ReferenceCache() if training.cache_references and _has_references(objective) else None
    if cache is not None:
        options["cache"] = cache
    made = objective.precompute(model, rows, mixed_precision=training.mixed_precision, **options)
    if cache is not None and cache.place is not None:
        state = "Found in" if cache.found else "Kept in"
        tell(f"{state} the cache: the reference of {len(rows)} rows ({cache.place}).")
    return made


def _has_references(objective: Any) -> bool:
    """Whether an objective's ``precompute`` keeps log-probabilities of a reference on the disk."""
    return getattr(objective, "needs_reference", True) and "cache" in signature(objective.precompute).parameters
