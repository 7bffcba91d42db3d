import csv
import json

import pytest

from mopref.llm.data.loaders import load_records

RECORDS = [
    {"prompt": f"p{n}", "response_0": "a", "response_1": "b", "clear": n % 2, "kind": -1, "note": "x"} for n in range(3)
]


@pytest.mark.parametrize("name", ["own.jsonl", "own.json", "own.csv", "own.parquet"])
def test_own_records_in_every_format(tmp_path, name, write_lines):
    path = tmp_path / name
    if name.endswith("jsonl"):
        write_lines(path, RECORDS)
    elif name.endswith("json"):
        path.write_text(json.dumps(RECORDS), encoding="utf-8")
    elif name.endswith("csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, RECORDS[0])
            writer.writeheader()
            writer.writerows(RECORDS)
    else:
        from datasets import Dataset

        Dataset.from_list(RECORDS).to_parquet(str(path))
    rows = load_records(path, ("clear", "kind"))
    assert rows == [{key: value for key, value in row.items() if key != "note"} for row in RECORDS]


def test_own_chat_records(tmp_path, write_lines):
    prompt = [{"role": "user", "content": "Hi"}]
    row = {**RECORDS[0], "prompt": prompt, "response_0": [{"role": "assistant", "content": "Yes"}]}
    assert load_records(write_lines(tmp_path / "a.jsonl", [row]), ("clear",))[0]["prompt"] == prompt


def test_own_records_are_validated(tmp_path, write_lines):
    with pytest.raises(ValueError, match="row 1, column 'clear'"):
        load_records(write_lines(tmp_path / "a.jsonl", [RECORDS[0], {**RECORDS[1], "clear": 3}]), ("clear",))
    with pytest.raises(ValueError, match="row 1: column 'clear' is missing or blank"):
        load_records(write_lines(tmp_path / "b.jsonl", [RECORDS[0], {**RECORDS[1], "clear": None}]), ("clear",))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
@pytest.mark.parametrize(
    "answers",
    [("None", "N/A"), ("42", "007"), ("True", "False"), ("1969-07-20", "1970-01-01"), ("2020-01-01T00:00:00Z", "null")],
)
def test_answers_are_text_as_written(tmp_path, name, answers, write_lines):
    records = [{"prompt": answer, "response_0": answer, "response_1": answers[0], "clear": -1} for answer in answers]
    path = tmp_path / name
    if name.endswith("csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, records[0])
            writer.writeheader()
            writer.writerows(records)
    else:
        write_lines(path, records)
    for source in (path, tmp_path):
        assert load_records(source, ("clear",)) == records


def test_dates_within_messages_are_text(tmp_path, write_lines):
    prompt = [{"role": "user", "content": "1969-07-20"}]
    row = {**RECORDS[0], "prompt": prompt, "response_0": [{"role": "assistant", "content": "1969-07-21"}]}
    (record,) = load_records(write_lines(tmp_path / "a.jsonl", [row]), ("clear",))
    assert (record["prompt"], record["response_0"]) == (prompt, row["response_0"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"response_1": "\ud83d"}, "row 1, column 'response_1' holds half a surrogate pair"),
        ({"tools": [{"name": "clock"}]}, "row 1, column 'tools' holds something that is not rendered"),
        (
            {"prompt": [{"role": "assistant", "content": "Hi"}]},
            "row 1, column 'prompt' ends with a message of the assist",
        ),
    ],
)
def test_rows_that_cannot_be_right_are_named(tmp_path, changes, message, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [RECORDS[0], {**RECORDS[1], **changes}])
    with pytest.raises(ValueError, match=message):
        load_records(path, ("clear",))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "column 'clear' is missing or blank"),
        ("1.0", r"the label is 1\.0 \(float\)"),
        ("yes", "the label is a str"),
    ],
)
def test_labels_in_csv(tmp_path, label, message):
    path = tmp_path / "a.csv"
    path.write_text(f"prompt,response_0,response_1,clear\np,a,b,{label}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_records(path, ("clear",))


@pytest.mark.parametrize("name", ["own.jsonl", "own.csv"])
def test_columns_of_other_names(tmp_path, name, write_lines):
    rows = [{"question": "Why?", "response_0": "a", "response_1": "b", "rating": 1, "clear": 7}]
    path = write_lines(tmp_path / "own.jsonl", rows)
    if name.endswith("csv"):
        path = tmp_path / name
        path.write_text("question,response_0,response_1,rating\nWhy?,a,b,1\n", encoding="utf-8")
    records = load_records(path, ("clear",), columns={"prompt": "question", "clear": "rating"})
    assert records == [{"prompt": "Why?", "response_0": "a", "response_1": "b", "clear": 1}]
    with pytest.raises(ValueError, match="columns maps 'kind', which is not read here"):
        load_records(path, ("clear",), columns={"kind": "rating"})
    with pytest.raises(
        ValueError, match="columns names 'qestion', which none of the first 1 rows has; there are 'quest"
    ):
        load_records(path, ("clear",), columns={"prompt": "qestion"})


def test_rows_of_another_shape_are_told_their_loader(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [{"prompt": "secret", "chosen": "secret", "rejected": "b"}])
    with pytest.raises(
        ValueError, match="row 0: column 'response_0' is missing or blank; there are 'prompt', "
    ) as caught:
        load_records(path, ("clear",))
    message = str(caught.value)
    assert message.endswith("These are pairs with a prompt, read by load_preference_pairs({'objective': source}).")
    assert "secret" not in message
