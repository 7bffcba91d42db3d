"""What is counted of the data: by hand on a few records, the same in lines and in data.json, and for every kind."""

import json

import pytest
from _tiny_runs import pair_records, write_lines

from mopref.llm.data import LoadReport
from mopref.recipes import DataSettings, RecipeError
from mopref.recipes.data_statistics import (
    Agreement,
    LabelStatistics,
    data_statistics,
    read_statistics,
    side_statistics,
    statistics_lines,
    statistics_tree,
)
from mopref.recipes.rows import KINDS
from mopref.recipes.training import prepare

NAMES = ("helpful", "harmless", "brief")
LIMITS = DataSettings(max_prompt_length=3, max_response_length=2)


def pair(prompt, *labels):
    return {"prompt": prompt, "response_0": "a", "response_1": "b", **dict(zip(NAMES, labels, strict=True))}


def row(prompt, first, second):
    return {"prompt_ids": [1] * prompt, "response_0_ids": [1] * first, "response_1_ids": [1] * second}


TRAIN = [pair("one", 0, 0, 1), pair("one", 1, 0, -1), pair("two", -1, 1, 1)]
HELD_OUT = [pair("two", 0, 1, 1), pair("three", 1, 1, 1)]
ROWS = [row(2, 2, 1), row(3, 2, 2)]


def statistics(within_limits=True, reports=None):
    sides = {"train": (TRAIN, ROWS), "held out": (HELD_OUT, ROWS)}
    return data_statistics(KINDS["dpo"], sides, NAMES, LIMITS, reports, within_limits)


def test_pairs_are_counted():
    train, held_out = statistics().sides
    assert (train.records, train.rows, train.prompts) == (3, 2, 2)
    assert train.labels == (
        LabelStatistics("helpful", 2, {"response_0": 1, "response_1": 1}, 1),
        LabelStatistics("harmless", 3, {"response_0": 2, "response_1": 1}, 0),
        LabelStatistics("brief", 2, {"response_0": 0, "response_1": 2}, 1),
    )
    assert train.agreements == (
        Agreement(("helpful", "harmless"), 2, 1, 1),
        Agreement(("helpful", "brief"), 1, 0, 1),
        Agreement(("harmless", "brief"), 2, 1, 1),
    )
    assert held_out.labels[0].unlabelled == 0
    assert statistics().leaks == 1


def test_lengths_are_told_within_the_limits_or_of_whole_texts():
    prompts, responses = statistics().sides[0].lengths
    assert (prompts.part, prompts.texts, prompts.median, prompts.longest, prompts.limit) == ("prompt", 2, 3, 3, 3)
    assert (responses.texts, responses.median, responses.longest, responses.at_limit) == (4, 2, 2, 3)
    assert prompts.beyond is None
    whole = side_statistics("train", KINDS["dpo"], TRAIN, [row(5, 2, 4)], NAMES, LIMITS, within_limits=False)
    assert [(lengths.beyond, lengths.at_limit) for lengths in whole.lengths] == [(1, 0), (1, 1)]


def test_lines_tell_what_was_left_out():
    report = LoadReport(rows=4, records=3)
    report.leave_out("empty text")
    lines = list(statistics_lines(statistics(reports={"all": report})))
    assert lines[0] == "source: 4 rows made 3 records; left out: 1 empty text"
    assert "train: 1 of 3 records are left out: their prompts are too long" in lines
    assert "train: response tokens: median 2, most 2; 3 of 4 at the limit of 2" in lines


def test_json_gives_the_same_back():
    report = LoadReport(rows=4, records=3)
    report.unlabelled["helpful: tie"] += 2
    counted = statistics(reports={"all": report, "held out": LoadReport()})
    # A loader that does not count leaves its report empty.
    assert [load.source for load in counted.loads] == ["all"]
    assert read_statistics(json.loads(json.dumps(statistics_tree(counted)))) == counted


def test_a_damaged_tree_is_refused_by_its_entry():
    tree = json.loads(json.dumps(statistics_tree(statistics())))
    tree["sides"][0]["labels"][1]["labelled"] = "many"
    with pytest.raises(RecipeError, match=r"^sides\[0\]\.labels\[1\]\.labelled is 'many'"):
        read_statistics(tree)


def test_answers_that_are_good_or_bad_are_counted():
    records = [{"prompt": "one", "response": "a", "brief": label} for label in (1, 1, 0, -1)]
    kind = KINDS["dpo"]._replace(records="unpaired answers")
    side = side_statistics("train", kind, records, [], ("brief",), LIMITS, within_limits=True)
    assert side.labels == (LabelStatistics("brief", 3, {"good": 2, "bad": 1}, 1),)
    assert side.lengths == ()


def test_a_training_counts_the_rows_that_it_tokenises_anyway(load, tmp_path, monkeypatch):
    records = [{"prompt": "red", "chosen": "cat here", "rejected": "dog"} for _ in range(12)]
    records = [{**record, "prompt": f"red {index}"} for index, record in enumerate(records)]
    source = write_lines([*records, {"prompt": "x", "chosen": "", "rejected": "dog"}], tmp_path / "p.jsonl")
    data = {"loader": "preference-pairs", "source": {"helpful": str(source), "harmless": str(source)}}
    recipe = load(data={**data, "max_response_length": 2})
    calls = []
    kind = KINDS["dpo"]
    counting = kind._replace(tokenize=lambda *args: calls.append(1) or kind.tokenize(*args))
    monkeypatch.setitem(KINDS, "dpo", counting)
    with pytest.warns(UserWarning, match="left out: 2"):
        ready = prepare(recipe)
    assert len(calls) == 2
    (load_counts,) = ready.statistics.loads
    assert load_counts.source == "all"
    assert (load_counts.rows, load_counts.records) == (26, 12)
    assert sum(load_counts.left_out.values()) == 2
    assert ready.statistics.sides[0].lengths[1].longest == 2


def test_a_report_is_no_option_of_a_recipe(load):
    with pytest.raises(RecipeError, match=r"data\.options\.report: another part of the recipe says it"):
        load(data={"loader": "preference-pairs", "options": {"report": {}}})


def test_a_training_writes_them(trained):
    written = read_statistics(json.loads((trained.folder / "data.json").read_text()))
    train, held_out = written.sides
    assert train.records + held_out.records == len(pair_records())
    assert held_out.rows == len(trained.test_rows)
    assert written.leaks == 0
    assert [labels.labelled for labels in train.labels] == [train.records, train.agreements[0].both]
