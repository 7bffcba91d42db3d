"""Answers with a thumb up or down, a data set for each objective."""

import json
import warnings

import pyarrow
import pytest
from hypothesis import given, settings, strategies as st
from pyarrow import parquet

from mopref.llm.data import LoadReport, validate_unpaired_records
from mopref.llm.data.loaders import load_unpaired_preferences, load_unpaired_records

USER = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": "So."}
SHAPES = {
    "TRL text": {"prompt": "Why?", "completion": "So.", "label": True},
    "TRL messages": {"prompt": [USER], "completion": [ANSWER], "label": True},
    "alpaca": {"instruction": "Why?", "input": "", "output": "So.", "kto_tag": True},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}],
        "kto_tag": True,
    },
    "messages": {"messages": [USER, ANSWER], "label": True},
    "response": {"prompt": "Why?", "response": "So.", "label": 1},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_shapes_from_files(tmp_path, shape, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist([SHAPES[shape]]), path)
    else:
        path.write_text(json.dumps(SHAPES[shape]), encoding="utf-8")
    with pytest.warns(UserWarning, match="no answer is labelled bad on 'helpful'") as caught:
        records = load_unpaired_preferences({"helpful": path})
    assert len(caught) == 1
    validate_unpaired_records(records, ("helpful",))
    assert records == [{"prompt": records[0]["prompt"], "response": "So.", "helpful": 1}]
    assert records[0]["prompt"] in ("Why?", [USER])


def test_nothing_is_told_of_good_and_bad_answers():
    rows = [SHAPES["TRL text"], {"prompt": "Why?", "completion": "Go away.", "label": False}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [record["helpful"] for record in load_unpaired_preferences({"helpful": rows})] == [1, 0]
    with pytest.warns(
        UserWarning, match=r"no answer is labelled good on 'helpful', .* where −1 stands for a thumb down"
    ):
        load_unpaired_preferences({"helpful": rows[1:]})


@pytest.mark.parametrize("shape", SHAPES)
def test_data_sets_are_joined_by_prompt_and_answer(shape):
    label = "kto_tag" if "kto_tag" in SHAPES[shape] else "label"
    other = {"prompt": "Why?", "completion": "Another.", "label": False}
    records = load_unpaired_preferences(
        {"helpful": [SHAPES[shape]], "brief": [SHAPES["TRL text"] | {"label": False}, other]}
    )
    assert label in SHAPES[shape]
    assert [(record["response"], record["helpful"], record["brief"]) for record in records] == [
        ("So.", 1, 0),
        ("Another.", -1, 0),
    ]


@pytest.mark.parametrize(
    ("value", "label"),
    [(True, 1), (False, 0), (1, 1), (0, 0), (1.0, 1), ("true", 1), ("False", 0), ("1", 1), ("0", 0)],
)
def test_labels(value, label):
    (record,) = load_unpaired_preferences({"helpful": [SHAPES["TRL text"] | {"label": value}]})
    assert record["helpful"] == label
    assert type(record["helpful"]) is int


@pytest.mark.parametrize("value", [None, -1, "", "-1", "N/A", float("nan")])
def test_answers_without_a_label_are_left_out(value):
    rows = [SHAPES["TRL text"], {"prompt": "How?", "completion": "a", "label": value}]
    report = LoadReport()
    with pytest.warns(UserWarning, match="1 answers: no label on any objective"):
        assert len(load_unpaired_preferences({"helpful": rows}, report=report)) == 1
    assert report.rows == 2


@pytest.mark.parametrize("value", [2, 0.5, "good", [True], -2])
def test_labels_that_are_none(value):
    with pytest.raises(ValueError, match=r"^helpful, row 0: column 'label' is a .* that is no label"):
        load_unpaired_preferences({"helpful": [SHAPES["TRL text"] | {"label": value}]})


def test_labels_in_conflict_are_counted():
    rows = [SHAPES["TRL text"], SHAPES["TRL messages"] | {"label": False}]
    with pytest.warns(UserWarning, match="1 helpful: labelled both ways"):
        (record,) = load_unpaired_preferences({"helpful": rows, "brief": [SHAPES["alpaca"]]})
    assert (record["helpful"], record["brief"]) == (-1, 1)


def test_rows_that_cannot_be_used():
    rows = [SHAPES["TRL text"], SHAPES["TRL text"] | {"completion": " "}]
    with pytest.warns(UserWarning, match=r"1 empty text \(first: helpful, row 1\)"):
        assert len(load_unpaired_preferences({"helpful": rows})) == 1
    with pytest.raises(ValueError, match="helpful, row 0: column 'messages' does not end with a message of the ass"):
        load_unpaired_preferences({"helpful": [{"messages": [USER], "label": True}]})
    with pytest.raises(ValueError, match=r"row 0: column 'label' is missing .* read by load_preference_pairs"):
        load_unpaired_preferences({"helpful": [{"prompt": "a", "chosen": "b", "rejected": "c"}]})
    with pytest.raises(ValueError, match=r"row 0: column 'response' is missing .* columns=\{'response': 'answer'\}"):
        load_unpaired_preferences({"helpful": [{"prompt": "a", "answer": "b", "label": True}]})
    with pytest.raises(ValueError, match="row 0: column 'tools' holds something"):
        load_unpaired_preferences({"helpful": [SHAPES["TRL text"] | {"tools": ["f"]}]})
    with pytest.raises(ValueError, match="sources is a str"):
        load_unpaired_preferences("thumbs.jsonl")
    with pytest.raises(ValueError, match="objectives is"):
        load_unpaired_preferences({"response": [SHAPES["TRL text"]]})


def test_other_names_of_columns():
    row = {"question": "Why?", "answer": "So.", "thumbs_up": 0}
    columns = {"prompt": "question", "response": "answer", "label": "thumbs_up"}
    assert load_unpaired_preferences({"helpful": [row]}, columns=columns) == [
        {"prompt": "Why?", "response": "So.", "helpful": 0}
    ]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.sampled_from(["p", "q"]),
            "completion": st.sampled_from(["a", "b", "b "]),
            "label": st.booleans(),
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50, deadline=None)
@given(ROWS, ROWS, st.randoms())
def test_the_order_of_rows_and_data_sets_says_nothing(rows, other_rows, generator):
    anchor = {"prompt": "z", "completion": "z", "label": True}
    rows, other_rows = [*rows, anchor], [*other_rows, anchor]
    first = load_unpaired_preferences({"helpful": rows, "brief": other_rows})
    shuffled = list(rows)
    generator.shuffle(shuffled)
    second = load_unpaired_preferences({"brief": other_rows, "helpful": shuffled})

    def key(record):
        return (record["prompt"], record["response"])

    assert sorted(first, key=key) == sorted(second, key=key)


def test_records_survive_a_file(tmp_path, write_lines):
    records = load_unpaired_preferences({"helpful": [SHAPES["TRL messages"]], "brief": [SHAPES["alpaca"]]})
    path = write_lines(tmp_path / "a.jsonl", records)
    assert load_unpaired_records(path, ("helpful", "brief")) == records
