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
