"""Pairs of a chosen and a rejected answer: every published shape, one data set for each objective."""

import csv
import json
import warnings

import pyarrow
import pytest
from hypothesis import given, settings, strategies as st
from pyarrow import parquet

from mopref.llm.data import LoadReport, validate_records
from mopref.llm.data.loaders import LOADERS, DataSource, load_preference_pairs, load_records

USER = {"role": "user", "content": "Why?"}


def assistant(content):
    return {"role": "assistant", "content": content}


def preferred(record, objective="helpful"):
    return record[f"response_{record[objective]}"]


def other(record, objective="helpful"):
    return record[f"response_{1 - record[objective]}"]


# Rows as they are published: each says that "So." is better than "No." as an answer to "Why?".
SHAPES = {
    "text": {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
    "messages": {"prompt": [USER], "chosen": [assistant("So.")], "rejected": [assistant("No.")]},
    "dialogues": {"chosen": [USER, assistant("So.")], "rejected": [USER, assistant("No.")]},
    "ultrafeedback_binarized": {
        "prompt": "Why?",
        "prompt_id": "7",
        "chosen": [USER, assistant("So.")],
        "rejected": [USER, assistant("No.")],
        "messages": [USER, assistant("So.")],
        "score_chosen": 8.0,
        "score_rejected": 2.0,
    },
    "HH": {
        "chosen": "\n\nHuman: Why?\n\nAssistant: So.",
        "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
    },
    "alpaca": {"instruction": "Why?", "input": "", "chosen": "So.", "rejected": "No."},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "Why?"}],
        "chosen": {"from": "gpt", "value": "So."},
        "rejected": {"from": "gpt", "value": "No."},
    },
    "OpenAI": {"messages": [USER], "chosen": assistant("So."), "rejected": assistant("No.")},
}


def write(path, rows):
    """Write rows as the ending of the name says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


# A CSV file holds texts only.
TEXT_SHAPES = [shape for shape, row in SHAPES.items() if all(isinstance(value, str) for value in row.values())]


@pytest.mark.parametrize(
    ("shape", "ending"),
    [
        *((shape, ending) for shape in SHAPES for ending in (".jsonl", ".json", ".parquet")),
        *((shape, ".csv") for shape in TEXT_SHAPES),
    ],
)
def test_shapes_from_files(tmp_path, shape, ending):
    row = SHAPES[shape]
    path = write(tmp_path / f"rows{ending}", [row])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (record,) = load_preference_pairs({"helpful": path})
    validate_records([record], ("helpful",))
    assert (preferred(record), other(record)) == ("So.", "No.")
    assert record["prompt"] in ("Why?", [USER])
    assert set(record) == {"prompt", "response_0", "response_1", "helpful"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("other_shape", SHAPES)
def test_two_data_sets_of_different_shapes_are_joined(shape, other_shape):
    turned = SHAPES[other_shape] | {
        "chosen": SHAPES[other_shape]["rejected"],
        "rejected": SHAPES[other_shape]["chosen"],
    }
    alone = {"prompt": "How?", "chosen": "x", "rejected": "y"}
    records = load_preference_pairs({"helpful": [SHAPES[shape]], "harmless": [turned, alone]})
    assert len(records) == 2
    assert (preferred(records[0], "helpful"), preferred(records[0], "harmless")) == ("So.", "No.")
    assert (records[1]["helpful"], preferred(records[1], "harmless")) == (-1, "x")


def test_history_and_system():
    row = {
        "instruction": "Why?",
        "input": "Now.",
        "history": [["Hi", "Hello"]],
        "system": "S",
        "chosen": "a",
        "rejected": "b",
    }
    (record,) = load_preference_pairs({"helpful": [row]})
    assert [message["role"] for message in record["prompt"]] == ["system", "user", "assistant", "user"]
    assert record["prompt"][-1]["content"] == "Why?\nNow."


def test_implicit_prompts_in_plain_texts():
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green.", "score": 3}
    (record,) = load_preference_pairs({"helpful": [row]})
    assert (record["prompt"], preferred(record)) == ("The sky is", " blue.")
    # Another text beside the answers may be their prompt.
    orca = {"system": "S", "question": "What is the sky?", "chosen": "It is blue.", "rejected": "It is green."}
    with pytest.raises(ValueError, match=r"^helpful, row 0: there is no prompt; .* columns=\{'prompt': 'question'\}\)"):
        load_preference_pairs({"helpful": [orca]})
    (record,) = load_preference_pairs({"helpful": [orca]}, columns={"prompt": "question"})
    assert record["prompt"] == [{"role": "system", "content": "S"}, {"role": "user", "content": "What is the sky?"}]
    (record,) = load_preference_pairs({"helpful": [row | {"id": "x"}]}, columns={"prompt": None})
    assert record["prompt"] == "The sky is"
    with pytest.raises(ValueError, match="there is no prompt"):
        load_preference_pairs({"helpful": [{"chosen": [assistant("a")], "rejected": [assistant("b")]}]})


def test_rows_of_another_shape_are_refused_with_the_way_to_read_them():
    row = {"question": "secret", "better": "secret a", "worse": "secret b"}
    with pytest.raises(ValueError, match=r"^helpful, row 0: column 'chosen' is missing") as caught:
        load_preference_pairs({"helpful": [row]})
    message = str(caught.value)
    assert "the columns are 'question', 'better', 'worse', most like pairs with a prompt" in message
    assert "secret" not in message
    columns = {"prompt": "question", "chosen": "better", "rejected": "worse"}
    assert f"load_preference_pairs({{'objective': source}}, columns={columns})" in message
    (record,) = load_preference_pairs({"helpful": [row]}, columns=columns)
    assert preferred(record) == "secret a"
    rated = {"prompt": "a", "response": "b", "helpfulness": 3}
    with pytest.raises(ValueError, match=r"read by load_rated_answers\(source, attributes=\[…\]\)"):
        load_preference_pairs({"helpful": [rated]})


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path):
    rows = [
        SHAPES["text"],
        {"prompt": "Why?", "chosen": "So.", "rejected": " "},
        {"prompt": " ", "chosen": "So.", "rejected": "No."},
        {"prompt": "Why?", "chosen": "So.", "rejected": "So.\n"},
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "rejected": "\n\nHuman: a\n\nAssistant: e",
        },
    ]
    report = LoadReport()
    with pytest.warns(UserWarning, match="5 rows made 1 records") as caught:
        records = load_preference_pairs({"helpful": write(tmp_path / "a.jsonl", rows)}, report=report)
    assert len(records) == report.records == 1
    assert report.rows == 5
    assert report.left_out == {"empty text": 2, "two equal answers": 1, "the dialogues part before the last turn": 1}
    assert report.first_rows["empty text"] == "helpful, row 1"
    assert "2 empty text (first: helpful, row 1)" in str(caught[0].message)


MALFORMED = {
    "tools": {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "tools": [{"name": "f"}]},
    "images": {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "images": ["x.png"]},
    "column 'rejected' missing": {"prompt": "Why?", "chosen": "So."},
    "no text": {"prompt": 3, "chosen": "So.", "rejected": "No."},
    "malformed prompt": {"prompt": [assistant("a")], "chosen": "So.", "rejected": "No."},
    "malformed response": {"prompt": "Why?", "chosen": "So.\ud83d", "rejected": "No."},
}


@pytest.mark.parametrize("reason", MALFORMED)
def test_malformed_rows_are_errors_or_counted(reason):
    rows = [SHAPES["text"], MALFORMED[reason]]
    with pytest.raises(ValueError, match=r"^helpful, row 1: ") as caught:
        load_preference_pairs({"helpful": rows})
    assert "So." not in str(caught.value)
    report = LoadReport()
    with pytest.warns(UserWarning, match=f"1 {reason}"):
        assert len(load_preference_pairs({"helpful": rows}, on_malformed="drop", report=report)) == 1
    assert report.left_out == {reason: 1}


def test_conflicts_are_counted():
    turned = {"prompt": "Why?", "chosen": "No.", "rejected": "So."}
    report = LoadReport()
    rows = [SHAPES["text"], turned, {"prompt": "How?", "chosen": "a", "rejected": "b"}]
    with pytest.warns(UserWarning, match="1 helpful: labelled both ways"):
        (record,) = load_preference_pairs({"helpful": rows}, report=report)
    assert record["prompt"] == "How?"
    assert report.left_out == {"pairs: no label on any objective": 1}


def test_one_file_for_several_objectives(tmp_path):
    rows = [{"q": "Why?", "kind": "a", "unkind": "b", "short": "b", "long": "a"}]
    path = write(tmp_path / "a.jsonl", rows)
    columns = {"prompt": "q"}
    (record,) = load_preference_pairs(
        {
            "kind": DataSource(path, columns=columns | {"chosen": "kind", "rejected": "unkind"}),
            "brief": DataSource(path, columns=columns | {"chosen": "short", "rejected": "long"}),
        }
    )
    assert (preferred(record, "kind"), preferred(record, "brief")) == ("a", "b")


def test_options_of_all_and_of_one(tmp_path, write_lines):
    for split in ("train", "test"):
        rows = [{"prompt": f"{split} {n}?", "chosen": "a", "rejected": "b"} for n in range(5)]
        write_lines(tmp_path / f"{split}.jsonl", rows)
    records = load_preference_pairs(
        {"helpful": tmp_path, "harmless": DataSource(tmp_path, split="train", limit=1)}, split="test", limit=3
    )
    assert [record["prompt"] for record in records] == ["test 0?", "test 1?", "test 2?", "train 0?"]
    with pytest.raises(ValueError, match=r"revision is 'v1', but .* is here, and not on the hub"):
        load_preference_pairs({"helpful": tmp_path}, revision="v1")


def test_answers_that_repeat_their_prompts():
    prompt = "What colour is the sky at noon?"
    row = {"prompt": prompt, "chosen": f"{prompt} Blue.", "rejected": f"{prompt} Green."}
    greeting = {"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi!"}
    with pytest.warns(UserWarning, match="helpful: in 2 of 3 rows both answers begin with the prompt") as caught:
        load_preference_pairs({"helpful": [row, row | {"rejected": f"{prompt} Red."}, greeting]})
    assert caught[0].filename == __file__
    assert load_preference_pairs({"helpful": [row]}, columns={"prompt": None})[0]["prompt"] == prompt
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_preference_pairs({"helpful": [row, greeting, greeting | {"chosen": "Hi, you"}]})


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="sources is a str"):
        load_preference_pairs("pairs.jsonl")
    with pytest.raises(ValueError, match="columns maps 'better', which is not read here"):
        load_preference_pairs({"helpful": [SHAPES["text"]]}, columns={"better": "chosen"})
    with pytest.raises(ValueError, match="objectives is"):
        load_preference_pairs({"prompt": [SHAPES["text"]]})
    with pytest.raises(ValueError, match="on_malformed is 'skip'"):
        load_preference_pairs({"helpful": [SHAPES["text"]]}, on_malformed="skip")
    with pytest.raises(ValueError, match=r"no record is left: 1 rows made 0 records; left out: 1 two equal answers"):
        load_preference_pairs({"helpful": [{"prompt": "a", "chosen": "b", "rejected": "b"}]})


def test_it_is_known_by_its_name():
    assert len(LOADERS.make("preference-pairs", sources={"helpful": [SHAPES["text"]]})) == 1


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.sampled_from(["p", "q", "None", "1969-07-20"]),
            "chosen": st.sampled_from(["a", "b,c", '"d"\ne', "007"]),
            "rejected": st.sampled_from(["x", "N/A", "true"]),
        }
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@settings(max_examples=15, deadline=None)
@given(ROWS, ROWS)
def test_records_survive_files(tmp_path_factory, ending, rows, other_rows):
    """Rows by way of a file, and records by way of another, are what they were."""
    folder = tmp_path_factory.mktemp("files")
    records = load_preference_pairs({"helpful": rows, "harmless": other_rows})
    one, two = write(folder / f"a{ending}", rows), write(folder / f"b{ending}", other_rows)
    assert load_preference_pairs({"helpful": one, "harmless": two}) == records
    assert load_records(write(folder / f"c{ending}", records), ("helpful", "harmless")) == records


@settings(max_examples=50, deadline=None)
@given(ROWS, ROWS)
def test_the_order_of_data_sets_says_nothing(rows, other_rows):
    first = load_preference_pairs({"helpful": rows, "harmless": other_rows})
    second = load_preference_pairs({"harmless": other_rows[::-1], "helpful": rows})

    def key(record):
        return (record["prompt"], record["response_0"], record["response_1"])

    assert sorted(first, key=key) == sorted(second, key=key)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_turned_rows_flip_labels(rows):
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    flipped = [record | {"helpful": 1 - record["helpful"]} for record in load_preference_pairs({"helpful": rows})]
    assert load_preference_pairs({"helpful": turned}) == flipped
