"""Rated answers: UltraFeedback's and HelpSteer's shapes, and the general ones."""

import csv
import json
import warnings

import pyarrow
import pytest
from pyarrow import parquet

from mopref.llm.data import LoadReport, validate_records
from mopref.llm.data.loaders import LOADERS, load_rated_answers


def preferred(record, objective):
    return None if record[objective] < 0 else record[f"response_{record[objective]}"]


def by_pair(records, *objectives):
    """The preferred answers of each pair, by its texts in the order of the alphabet."""
    return {
        "".join(sorted((record["response_0"], record["response_1"]))): tuple(
            preferred(record, name) for name in objectives
        )
        for record in records
    }


def completion(text, helpfulness, honesty):
    """An entry of UltraFeedback's, with the columns that it has there."""
    return {
        "annotations": {
            "helpfulness": {
                "Type": ["1"],
                "Rating": helpfulness,
                "Rationale": "r",
                "Rationale For Rating": "r",
            },
            "honesty": {"Rating": honesty, "Rationale": "r"},
        },
        "custom_system_prompt": "Be honest.",
        "model": "m",
        "principle": "honesty",
        "response": text,
        "critique": "c",
        "overall_score": 7.5,
        "fine-grained_score": 4.0,
    }


ULTRAFEEDBACK = {
    "source": "flan",
    "instruction": "Why?",
    "models": ["m"] * 3,
    "completions": [completion("a", "5", "2"), completion("b", "3", "N/A"), completion("c", "3", "4")],
    "correct_answers": ["None"],
    "incorrect_answers": ["None"],
}


def helpsteer(prompt, response, helpfulness, verbosity):
    return {
        "prompt": prompt,
        "response": response,
        "helpfulness": helpfulness,
        "correctness": 4,
        "coherence": 4,
        "complexity": 2,
        "verbosity": verbosity,
    }


HELPSTEER = [
    helpsteer("Why?", "a", 4, 2),
    helpsteer("Why?", "b", 1, 0),
    helpsteer("Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nHow?", "c", 3, 1),
    helpsteer("Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nHow?", "d", 3, 4),
]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_ultrafeedback(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist([ULTRAFEEDBACK]), path)
    else:
        path.write_text(json.dumps([ULTRAFEEDBACK] if ending == ".json" else ULTRAFEEDBACK), encoding="utf-8")
    report = LoadReport()
    with pytest.warns(UserWarning, match="1 honesty: missing rating"):
        records = load_rated_answers(path, ("helpfulness", "honesty"), report=report)
    validate_records(records, ("helpfulness", "honesty"))
    assert by_pair(records, "helpfulness", "honesty") == {"ab": ("a", None), "ac": ("a", "c")}
    assert {record["prompt"] for record in records} == {"Why?"}
    assert report.left_out == {"pairs: no label on any objective": 1}
    assert report.unlabelled == {"honesty: missing rating": 1, "helpfulness: tie": 1}


def test_ratings_beside_the_answer():
    with pytest.warns(UserWarning, match="tie"):
        records = load_rated_answers([ULTRAFEEDBACK], {"good": "helpfulness", "overall": "overall_score"})
    assert by_pair(records, "good", "overall") == {"ab": ("a", None), "ac": ("a", None)}


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_helpsteer(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(HELPSTEER), path)
    elif ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, HELPSTEER)), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(HELPSTEER[0]))
            writer.writeheader()
            writer.writerows(HELPSTEER)
    with pytest.warns(UserWarning, match="1 helpful: tie"):
        records = load_rated_answers(path, {"helpful": "helpfulness", "concise": ("verbosity", "lower")})
    assert by_pair(records, "helpful", "concise") == {"ab": ("a", "b"), "cd": (None, "c")}
    assert records[0]["prompt"] == "Why?"
    assert [message["role"] for message in records[1]["prompt"]] == ["user", "assistant", "user"]
    assert records[1]["prompt"][-1]["content"] == "How?"


def test_answers_to_a_prompt_belong_together_wherever_they_stand():
    rows = [HELPSTEER[0], HELPSTEER[2], HELPSTEER[1], HELPSTEER[3]]
    records = load_rated_answers(rows, {"concise": ("verbosity", "lower")})
    assert by_pair(records, "concise") == {"ab": ("b",), "cd": ("c",)}


def test_margins_by_objective():
    attributes = {"helpful": "helpfulness", "concise": ("verbosity", "lower")}
    with pytest.warns(UserWarning, match="tie"):
        records = load_rated_answers(HELPSTEER, attributes, margin={"concise": 3})
    assert by_pair(records, "helpful", "concise") == {"ab": ("a", None), "cd": (None, "c")}


def test_lists_of_texts_with_lists_of_ratings():
    row = {"prompt": "Why?", "completions": ["a", "b"], "clear": [1, 2], "scores": {"kind": ["3", None]}}
    with pytest.warns(UserWarning, match="1 kind: missing rating"):
        (record,) = load_rated_answers([row], ("clear", "kind"))
    assert (preferred(record, "clear"), record["kind"]) == ("b", -1)
    with pytest.raises(ValueError, match="row 0: the ratings are no list of 2, as the answers are"):
        load_rated_answers([row | {"clear": [1]}], ("clear",))


def test_other_names_of_columns():
    """Nectar's shape: a list of answers with ranks, the first of which is the best."""
    row = {
        "question": "Why?",
        "answers": [{"answer": "a", "rank": 2.0}, {"answer": "b", "rank": 1.0}],
    }
    columns = {"prompt": "question", "completions": "answers", "response": "answer"}
    (record,) = load_rated_answers([row], {"good": ("rank", "lower")}, columns=columns)
    assert preferred(record, "good") == "b"
    with pytest.raises(ValueError, match=r"entry 0 has 'answer', 'rank', but no 'response': name what holds"):
        load_rated_answers([row], ("rank",), columns={"prompt": "question", "completions": "answers"})


def test_rows_of_another_shape():
    with pytest.raises(ValueError, match=r"^row 0: column 'response' is missing .* read by load_preference_pairs"):
        load_rated_answers([{"prompt": "a", "chosen": "b", "rejected": "c"}], ("clear",))
    with pytest.raises(ValueError, match=r"^row 0: column 'prompt' is missing .* columns=\{'prompt': 'question'\}"):
        load_rated_answers([{"question": "a", "response": "b", "clear": 3}], ("clear",))
    with pytest.raises(ValueError, match="column 'completions' is a str: it must be a list"):
        load_rated_answers([{"prompt": "a", "completions": "b", "clear": 3}], ("clear",))


def test_attributes_of_which_nothing_is_known():
    with pytest.raises(ValueError, match=r"none of 4 answers has a number as 'clarity' \(4 clear: missing rating\)"):
        load_rated_answers(HELPSTEER, {"clear": "clarity"})
    with pytest.raises(
        ValueError, match=r"none of 4 answers has a number as 'response' \(4 clear: unreadable rating\)"
    ):
        load_rated_answers(HELPSTEER, {"clear": "response"})


def test_what_is_left_out_is_counted():
    rows = [*HELPSTEER[:2], helpsteer(" ", "a", 1, 1), helpsteer("Why?", "", 1, 1), helpsteer("Alone?", "a", 1, 1)]
    report = LoadReport()
    with pytest.warns(UserWarning, match="5 rows made 1 records"):
        load_rated_answers(rows, ("helpfulness",), report=report)
    assert report.left_out == {
        "empty text": 1,
        "answers: empty text": 1,
        "prompts: fewer than two answers": 1,
    }
    with pytest.warns(UserWarning, match=r"1 no answers \(first: row 2\)"):
        load_rated_answers([*HELPSTEER[:2], {"prompt": "Why?", "completions": []}], ("helpfulness",))
    with pytest.raises(ValueError, match="row 2: column 'tools' holds something"):
        load_rated_answers([*HELPSTEER[:2], HELPSTEER[2] | {"tools": ["f"]}], ("helpfulness",))


def test_choice_of_pairs_and_seeds():
    rows = [helpsteer("Why?", text, n, 0) for n, text in enumerate("abcdef")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_rated_answers(rows, ("helpfulness",))) == 15
        assert by_pair(load_rated_answers(rows, ("helpfulness",), pairs="best-worst"), "helpfulness") == {"af": ("f",)}
        some = load_rated_answers(rows, ("helpfulness",), pairs=3, seed=5)
    assert len(some) == 3
    assert load_rated_answers(rows[::-1], ("helpfulness",), pairs=3, seed=5) == some
    assert load_rated_answers(rows, ("helpfulness",), pairs=3, seed=6) != some
    with pytest.raises(ValueError, match="pairs is 'few'"):
        load_rated_answers(rows, ("helpfulness",), pairs="few")
    with pytest.raises(ValueError, match="margin is -1"):
        load_rated_answers(rows, ("helpfulness",), margin=-1)


def test_it_is_known_by_its_name():
    assert LOADERS.make("rated-answers", source=HELPSTEER[:2], attributes=("helpfulness",))[0]["prompt"] == "Why?"
