"""Records, loaders of rows in memory and of files, and tokenisation."""

import json
from pathlib import Path
from typing import Any

from benchmarks.bad_input import tiny
from benchmarks.bad_input.target import Target, options_of
from mopref.llm import data

__all__ = ["TARGETS"]

_GROUP = "records, loaders, tokenisation"


def _unpaired() -> list[dict[str, Any]]:
    return [
        {"prompt": "red cat", "response": "cat runs", "helpful": 1, "harmless": 0},
        {"prompt": "blue", "response": "dog", "helpful": -1, "harmless": 1},
    ]


def _responses() -> list[dict[str, Any]]:
    return [
        {"prompt": "red cat", "response": "cat runs", "dimension": "helpful"},
        {"prompt": "blue", "response": "dog", "dimension": "harmless"},
    ]


def _rated() -> list[dict[str, Any]]:
    return [
        {"prompt": "red", "response": "cat", "helpfulness": 3, "safety": 1.0},
        {"prompt": "red", "response": "dog", "helpfulness": 1, "safety": 2.0},
    ]


def _graded() -> list[dict[str, Any]]:
    return [{"prompt": "red", "response_1": "cat", "response_2": "dog", "grade": 2.0}]


def _chosen() -> list[dict[str, Any]]:
    return [{"prompt": "red", "chosen": "cat", "rejected": "dog"}, {"prompt": "blue", "chosen": "a", "rejected": "b"}]


def _thumbs() -> list[dict[str, Any]]:
    return [{"prompt": "red", "completion": "cat", "label": True}, {"prompt": "red", "completion": "dog", "label": 0}]


def _safer() -> list[dict[str, Any]]:
    answers = {"prompt": "red", "response_0": "cat", "response_1": "dog"}
    return [{**answers, "better_response_id": 0, "safer_response_id": 1}]


def _dialogues() -> list[dict[str, Any]]:
    start = "\n\nHuman: red\n\nAssistant:"
    return [{"chosen": f"{start} cat", "rejected": f"{start} dog"}]


def _beaver() -> list[dict[str, Any]]:
    return [
        {"prompt": "red", "response": "cat", "is_safe": True, "category": {"animal_abuse": False}},
        {"prompt": "red", "response": "dog", "is_safe": False, "category": {"animal_abuse": True}},
    ]


def _on_a_file(function: Any, argument: str) -> Any:
    """The same function, on the rows as a file of JSON lines."""

    def call(rows: Any, **options: Any) -> Any:
        lines = rows if isinstance(rows, list) else [rows]
        Path("rows.jsonl").write_text("".join(json.dumps(line, default=str, skipkeys=True) + "\n" for line in lines))
        return function(**{argument: "rows.jsonl"}, **options)

    return call


def _dialogues_in_folders(rows: Any, **options: Any) -> Any:
    lines = rows if isinstance(rows, list) else [rows]
    for name in ("helpful-base", "harmless-base"):
        Path(name).mkdir()
        Path(name, "train.jsonl").write_text(
            "".join(json.dumps(line, default=str, skipkeys=True) + "\n" for line in lines)
        )
    return data.load_hh_rlhf(source=".", **options)


def _own(function: Any, argument: str, **right: Any) -> dict[str, Any]:
    options = options_of(function, **right)
    options.pop(argument, None)
    return options


_IN_MEMORY: list[tuple[Any, Any]] = [
    (data.load_beavertails, lambda: {"source": _beaver()}),
    (
        data.load_graded_pairs,
        lambda: {"source": _graded(), "grades": {"helpful": "grade"}},
    ),
    (data.load_preference_pairs, lambda: {"sources": {"helpful": _chosen(), "harmless": _chosen()}}),
    (data.load_rated_answers, lambda: {"source": _rated(), "attributes": {"helpful": "helpfulness", "safe": "safety"}}),
    (data.load_unpaired_preferences, lambda: {"sources": {"helpful": _thumbs(), "harmless": _thumbs()}}),
]
_FROM_FILES: list[tuple[Any, str, Any]] = [
    (data.load_records, "path", lambda: {"rows": tiny.records(), "objectives": tiny.NAMES}),
    (data.load_unpaired_records, "path", lambda: {"rows": _unpaired(), "objectives": tiny.NAMES}),
    (data.load_pku_saferlhf, "source", lambda: {"rows": _safer()}),
]
_ON_RECORDS: list[tuple[Any, Any, float]] = [
    (data.validate_records, lambda: {"records": tiny.records(), "objectives": tiny.NAMES}, 4),
    (data.validate_unpaired_records, lambda: {"records": _unpaired(), "objectives": tiny.NAMES}, 2),
    (data.validate_response_records, lambda: {"records": _responses(), "dimensions": tiny.NAMES}, 2),
    (data.label_counts, lambda: {"records": tiny.records(), "objectives": tiny.NAMES}, 1),
    (data.split_by_prompt, lambda: {"records": tiny.records() * 3, "test_fraction": 0.3, "seed": 0}, 2),
    (data.with_mismatches, lambda: {"rows": tiny.rows(), "seed": 0}, 2),
    (data.recognise_shape, lambda: {"row": tiny.records()[0]}, 1),
    (
        data.plain_text_rows,
        lambda: {"tokenizer": tiny.tokenizer(), "texts": ["red cat", "a dog"], "max_length": 8},
        1,
    ),
    (
        data.tokenize_prompts,
        lambda: options_of(
            data.tokenize_prompts, tokenizer=tiny.tokenizer(), prompts=["red", tiny.records()[2]["prompt"]]
        ),
        2,
    ),
    (
        data.tokenize_records,
        lambda: options_of(
            data.tokenize_records, tokenizer=tiny.tokenizer(), records=tiny.records(), objectives=tiny.NAMES
        ),
        3,
    ),
    (
        data.tokenize_responses,
        lambda: options_of(
            data.tokenize_responses, tokenizer=tiny.tokenizer(), records=_responses(), dimensions=tiny.NAMES
        ),
        2,
    ),
    (
        data.tokenize_unpaired,
        lambda: options_of(
            data.tokenize_unpaired, tokenizer=tiny.tokenizer(), records=_unpaired(), objectives=tiny.NAMES
        ),
        2,
    ),
]

TARGETS = [
    *(
        Target(f"mopref.llm.data.{function.__name__}", _GROUP, function, arguments, weight=weight)
        for function, arguments, weight in _ON_RECORDS
    ),
    *(
        Target(
            f"mopref.llm.data.{function.__name__}",
            _GROUP,
            function,
            lambda function=function, right=right: options_of(function, **right()),
            weight=2,
            covers=(f"mopref.llm.data.loaders.{function.__name__}",),
        )
        for function, right in _IN_MEMORY
    ),
    *(
        Target(
            f"mopref.llm.data.{function.__name__}",
            _GROUP,
            _on_a_file(function, argument),
            lambda function=function, argument=argument, right=right: _own(function, argument, **right()),
            weight=2,
            covers=(f"mopref.llm.data.loaders.{function.__name__}",),
        )
        for function, argument, right in _FROM_FILES
    ),
    Target(
        "mopref.llm.data.load_hh_rlhf",
        _GROUP,
        _dialogues_in_folders,
        lambda: _own(data.load_hh_rlhf, "source", rows=_dialogues()),
        weight=2,
        covers=("mopref.llm.data.loaders.load_hh_rlhf",),
    ),
    Target(
        "mopref.llm.data.DataSource",
        _GROUP,
        lambda **options: list(data.DataSource(**options).rows()),
        lambda: options_of(data.DataSource, source=tiny.records(), columns={"question": "prompt"}),
        covers=("mopref.llm.data.loaders.DataSource",),
    ),
    Target(
        "mopref.llm.data.loaders.LOADERS",
        _GROUP,
        data.loaders.LOADERS.find,
        lambda: {"name": "records"},
        weight=0.3,
    ),
]
