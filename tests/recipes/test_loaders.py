"""Every loader is reached from a recipe, with its options, on a small file of its shape."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from _tiny_runs import answer_records, pair_records, style_records, write_lines

from mopref.llm.data.loaders import LOADERS
from mopref.recipes import RecipeError, load_recipe, save_recipe
from mopref.recipes.inspection import inspect_data
from mopref.recipes.run_folder import located
from mopref.recipes.sources import load_records

COUNT = 12


class Case(NamedTuple):
    """Files of a loader's shape, what a recipe says of them, and so many records in both sides."""

    write: Callable[[Path], Any]
    options: dict[str, Any]
    records: int
    objective: str = "dpo"


def _file(rows: list[dict]) -> Callable[[Path], str]:
    return lambda folder: str(write_lines(rows, folder / "rows.jsonl"))


def _answers() -> list[dict[str, Any]]:
    """Two answers to each prompt, one after the other."""
    return [
        {"prompt": f"red {index} {pair['prompt']}", "response": pair[f"response_{side}"], "side": side, "index": index}
        for index, pair in enumerate(pair_records(COUNT))
        for side in (0, 1)
    ]


def _chosen(pairs: list[dict], objective: str) -> list[dict[str, Any]]:
    return [
        {
            "question": f"{index} {pair['prompt']}",
            "chosen": pair[f"response_{pair[objective]}"],
            "rejected": pair[f"response_{1 - pair[objective]}"],
        }
        for index, pair in enumerate(pairs)
        if pair[objective] >= 0
    ]


def _preference_pairs(folder: Path) -> dict[str, Any]:
    """One data set as a path, and one with options of its own."""
    pairs = pair_records(COUNT)
    helpful = [{"prompt": row.pop("question"), **row} for row in _chosen(pairs, "helpful")]
    first = write_lines(helpful, folder / "helpful.jsonl")
    second = write_lines(_chosen(pairs, "harmless"), folder / "harmless.jsonl")
    return {"helpful": str(first), "harmless": {"source": str(second), "columns": {"prompt": "question"}}}


def _thumbs(folder: Path) -> dict[str, str]:
    sources = {}
    for name in ("helpful", "harmless"):
        rows = [
            {"prompt": f"{index} {row['prompt']}", "completion": row["response"], "label": row[name] == 1}
            for index, row in enumerate(answer_records(COUNT))
        ]
        sources[name] = str(write_lines(rows, folder / f"{name}.jsonl"))
    return sources


def _dialogues(folder: Path) -> str:
    for name in ("nice", "safe"):
        (folder / "hh" / name).mkdir(parents=True)
        rows = [
            {key: f"\n\nHuman: {name} {index}\n\nAssistant: {answer}" for key, answer in answers.items()}
            for index, answers in enumerate([{"chosen": "red cat", "rejected": "blue dog"}] * COUNT)
        ]
        write_lines(rows, folder / "hh" / name / "train.jsonl")
    return str(folder / "hh")


RATED = [{**row, "quality": row["side"] * 3, "verbosity": row["side"]} for row in _answers()]
JUDGED = [
    {**row, "is_safe": row["side"] == 0, "category": {"privacy_violation": row["side"] == 1}} for row in _answers()
]
GRADED = [
    {"context": f"{index} {pair['prompt']}", "response1": "red cat", "response2": "blue dog", "a": 2, "b": -1}
    for index, pair in enumerate(pair_records(COUNT))
]
PKU = [
    {
        "prompt": f"{index} {pair['prompt']}",
        "response_0": "red cat",
        "response_1": "blue dog",
        "better_response_id": 0,
        "safer_response_id": 1,
    }
    for index, pair in enumerate(pair_records(COUNT))
]
CASES = {
    "records": Case(_file(pair_records(COUNT)), {"limit": 10}, 10),
    "unpaired-records": Case(_file(answer_records(COUNT)), {"limit": 10}, 10, "kto"),
    "responses": Case(_file(style_records(COUNT)), {}, COUNT, "sft"),
    "prompts": Case(_file(pair_records(COUNT)), {"limit": 11}, 11, "online-dpo"),
    "rated-answers": Case(
        _file(RATED),
        {
            "attributes": {"helpful": "quality", "harmless": ["verbosity", "lower"]},
            "margin": {"helpful": 2, "harmless": 1},
        },
        COUNT,
    ),
    "graded-pairs": Case(_file(GRADED), {"grades": {"helpful": "a", "harmless": ["b", "lower"]}, "margin": 1}, COUNT),
    "beavertails": Case(
        _file(JUDGED), {"split": "train", "categories": {"helpful": "privacy_violation"}, "pairs": "best-worst"}, COUNT
    ),
    "pku-saferlhf": Case(_file(PKU), {"limit": 9}, 9),
    "hh-rlhf": Case(_dialogues, {"folders": {"helpful": ["nice"], "harmless": ["safe"]}, "limit": 7}, 14),
    "preference-pairs": Case(_preference_pairs, {"seed": 3}, COUNT),
    "unpaired-preferences": Case(_thumbs, {"on_malformed": "drop"}, COUNT, "kto"),
}
REWARDS = {name: {"name": "conciseness", "options": {"target_length": 2}} for name in ("helpful", "harmless")}


def sections(name: str, folder: Path) -> dict[str, Any]:
    case = CASES[name]
    data = {"loader": name, "source": case.write(folder), "options": case.options, "test_fraction": 0.25}
    return {"data": data, "objective": case.objective} | (
        {"rewards": REWARDS} if case.objective == "online-dpo" else {}
    )


def test_every_loader_with_a_source_is_tried():
    """The one without reads a package's own data."""
    own = {name for name in LOADERS if LOADERS[name].__module__.startswith("mopref.")}
    assert own - CASES.keys() == {"harm-pairs"}


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_reads_what_the_loader_does(load, tmp_path, name):
    recipe = load(**sections(name, tmp_path))
    case, source = CASES[name], recipe.data.source
    records = load_records(recipe)
    assert len(records) == case.records
    report = inspect_data(recipe, count=1)
    assert len(report.rows) == 1
    counts = [int(line.split(": ")[1].split()[0]) for line in report.lines if " on " in line and " prompts" in line]
    assert sum(counts) == case.records
    # The same by a call; a data set with options of its own becomes one.
    if not isinstance(source, dict):
        options = {**case.options, **({"objectives": recipe.objectives} if name in ("records", "responses") else {})}
        if name == "unpaired-records":
            options["objectives"] = recipe.objectives
        pairs_as_tuples = json.loads(json.dumps(options), object_hook=_tuples)
        assert LOADERS[name](source, **pairs_as_tuples) == records


def _tuples(mapping: dict) -> dict:
    return {
        key: tuple(value) if isinstance(value, list) and value[-1] == "lower" else value
        for key, value in mapping.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_of_any_loader_is_written_and_read_again(load, tmp_path, name):
    recipe = load(**sections(name, tmp_path))
    save_recipe(recipe, tmp_path / "saved.yaml")
    assert load_recipe(tmp_path / "saved.yaml") == recipe


def test_labels_are_those_of_the_data_sets(load, tmp_path):
    records = load_records(load(**sections("preference-pairs", tmp_path)))
    for record in records:
        assert record[f"response_{record['helpful']}"].startswith("cat")
        if record["harmless"] >= 0:
            assert record[f"response_{record['harmless']}"].startswith("dog")
    assert sum(record["harmless"] < 0 for record in records) == COUNT // 4


def test_test_options_stand_over_the_options(load, tmp_path):
    given = sections("rated-answers", tmp_path)
    given["data"] |= {"test_options": {"limit": 6}, "test_fraction": None}
    recipe = load(**given)
    assert len(load_records(recipe)) == COUNT
    assert len(load_records(recipe, test=True)) == 3


def test_sources_of_their_own_become_whole_paths_and_nothing_else_does(load, tmp_path, monkeypatch):
    given = sections("preference-pairs", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    given["data"]["source"] = {
        "helpful": "helpful.jsonl",
        "harmless": {"source": "harmless.jsonl", "split": "train", "columns": {"prompt": "question"}},
    }
    recipe = located(load(**given))
    assert recipe.data.source == {
        "helpful": str(tmp_path / "helpful.jsonl"),
        "harmless": {"source": str(tmp_path / "harmless.jsonl"), "split": "train", "columns": {"prompt": "question"}},
    }
    assert len(load_records(recipe)) == COUNT


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("rated-answers", {"options": {}}, r"data\.options\.attributes: this option is missing; it must be a list"),
        (
            "rated-answers",
            {"options": {"attributes": ["helpful"], "margin": "x"}},
            r"data\.options\.margin is 'x': it must be a number or a mapping",
        ),
        (
            "rated-answers",
            {"options": {"attributes": ["helpful"], "report": {"rows": 1}}},
            r"data\.options\.report: another part of the recipe says it, so leave it out",
        ),
        (
            "rated-answers",
            {"source": {"helpful": "x"}},
            r"the loader 'rated-answers' takes a file or hub id only, so give",
        ),
        (
            "preference-pairs",
            {"source": "pairs.jsonl"},
            r"data\.source is 'pairs\.jsonl': the loader 'preference-pairs' reads a data set for each, so give",
        ),
        (
            "preference-pairs",
            {"source": None},
            r"data\.source: this setting is missing; .+ a data set for each objective",
        ),
        (
            "unpaired-preferences",
            {"source": {"helpful": "x"}},
            r"data\.source\.harmless: the data set of this objective is missing, so give one",
        ),
        (
            "unpaired-preferences",
            {"source": {"helpful": "x", "harmless": "y", "harmles": "z"}},
            r"data\.source\.harmles: there is no such objective; did you mean harmless\?",
        ),
        (
            "preference-pairs",
            {"source": {"helpful": "x", "harmless": {"source": "y", "colums": {}}}},
            r"data\.source\.harmless\.colums: there is no such setting; did you mean data\.source\.harmless\.columns\?",
        ),
        (
            "preference-pairs",
            {"source": {"helpful": "x", "harmless": {"source": [{"prompt": "red"}]}}},
            r"data\.source\.harmless\.source is .+: it must be a text",
        ),
        (
            "preference-pairs",
            {"source": {"helpful": "x", "harmless": 3}},
            r"data\.source\.harmless is 3: it must be a text",
        ),
        (
            "preference-pairs",
            {"test_source": "test.jsonl", "test_fraction": None},
            r"data\.test_source is 'test\.jsonl': the loader 'preference-pairs' reads a data set for each",
        ),
    ],
)
def test_what_a_loader_does_not_take_is_refused_by_its_key(load, tmp_path, name, data, message):
    given = sections(name, tmp_path)
    given["data"] |= data
    with pytest.raises(RecipeError, match=message):
        load(**given)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("records", {"limit": 0}, r"^data\.options\.limit is 0: "),
        ("graded-pairs", {"grades": ["a", "b"], "margin": -1}, r"^data\.options\.margin is -1"),
    ],
)
def test_an_option_that_the_loader_refuses_is_named(load, tmp_path, name, options, message):
    given = sections(name, tmp_path)
    given["data"]["options"] = options
    with pytest.raises(RecipeError, match=message):
        load_records(load(**given))
    given["data"] |= {"options": CASES[name].options, "test_options": options, "test_fraction": None}
    with pytest.raises(RecipeError, match=message.replace("options", "test_options", 1)):
        load_records(load(**given), test=True)


def test_an_objective_that_no_data_set_has_is_told_with_row_and_column(load, tmp_path):
    given = sections("pku-saferlhf", tmp_path)
    recipe = load(objectives=["helpful", "brief"], **given)
    with pytest.raises(ValueError, match=r"row 0: column 'brief' is missing \(there are: "):
        inspect_data(recipe)
