"""What each objective learns from: the kind of its records, how they become rows, and how its front is measured.

An objective that is new here is one line in ``KINDS``, a loader of other records than preference pairs one in
``LOADER_RECORDS``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mopref.llm.data import (
    label_counts,
    tokenize_prompts,
    tokenize_records,
    tokenize_responses,
    validate_records,
    validate_response_records,
)
from mopref.llm.data.records import prompt_key
from mopref.recipes.recipe import DataSettings

__all__ = ["KINDS", "LOADER_RECORDS", "RowKind", "precomputed", "summary", "tokenized", "validated"]

Records = list[dict[str, Any]]


class RowKind(NamedTuple):
    """What an objective learns from.

    Attributes:
        records: "pairs", "responses" or "prompts".
        tokenize: ``(tokenizer, records, names, limits)`` to rows, where limits are keyword arguments.
        front: how its front is measured: "preferences" (with accuracies), "losses" or "rewards".
        precompute: options of its ``precompute``.
    """

    records: str
    tokenize: Callable[[Any, Records, Sequence[str], Mapping[str, Any]], list[dict[str, Any]]]
    front: str
    precompute: Mapping[str, Any]


def _pair_rows(tokenizer: Any, records: Records, names: Sequence[str], limits: Mapping[str, Any]) -> Any:
    return tokenize_records(tokenizer, records, names, **limits)


def _response_rows(tokenizer: Any, records: Records, names: Sequence[str], limits: Mapping[str, Any]) -> Any:
    return tokenize_responses(tokenizer, records, names, **limits)


def _prompt_rows(tokenizer: Any, records: Records, names: Sequence[str], limits: Mapping[str, Any]) -> Any:
    prompts = [record["prompt"] for record in records]
    return tokenize_prompts(tokenizer, prompts, limits["max_prompt_length"], limits["on_long_prompt"])


KINDS = {
    "dpo": RowKind("pairs", _pair_rows, "preferences", {"frozen_layers": "auto"}),
    "sft": RowKind("responses", _response_rows, "losses", {"frozen_layers": "auto"}),
    "rlhf": RowKind("prompts", _prompt_rows, "rewards", {}),
}

# What the records of a loader are, where they are no pairs.
LOADER_RECORDS = {"responses": "responses", "prompts": "prompts"}


def validated(kind: RowKind, records: Records, names: Sequence[str]) -> None:
    """Check the records before a model is loaded.

    Raises:
        ValueError: what the check of that kind of record refuses; row and column are named.
    """
    if kind.records == "pairs":
        validate_records(records, names)
    elif kind.records == "responses":
        validate_response_records(records, names)


def summary(kind: RowKind, records: Records, names: Sequence[str]) -> str:
    """How many records there are, and how pairs are labelled."""
    text = f"{len(records)} {kind.records} on {len({prompt_key(record['prompt']) for record in records})} prompts"
    if kind.records != "pairs":
        return text
    counts = label_counts(records, names)
    return f"{text}; labelled on all objectives {counts.labelled_on_all}, with opposite labels {counts.in_conflict}"


def tokenized(kind: RowKind, tokenizer: Any, records: Records, names: Sequence[str], data: DataSettings) -> Any:
    """The rows of records within the limits of the settings."""
    limits = {name: getattr(data, name) for name in ("max_prompt_length", "max_response_length", "on_long_prompt")}
    return kind.tokenize(tokenizer, records, names, limits)


def precomputed(kind: RowKind, objective: Any, model: Any, rows: Any, mixed_precision: str | None) -> Any:
    """The rows with what is the same at every step, where the objective can compute that before."""
    if not hasattr(objective, "precompute"):
        return rows
    return objective.precompute(model, rows, mixed_precision=mixed_precision, **kind.precompute)
