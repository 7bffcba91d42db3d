"""Files that hold unpaired records as they are."""

import csv

import pyarrow
import pytest
from pyarrow import parquet

from mopref.llm.data.loaders import load_unpaired_records

RECORDS = [
    {"prompt": "Why?", "response": "None", "brief": 1, "kind": -1},
    {"prompt": "How?", "response": "007", "brief": 0, "kind": 1},
]


def test_files_of_every_kind(tmp_path, write_lines):
    lines = write_lines(tmp_path / "a.jsonl", RECORDS)
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(RECORDS[0]))
        writer.writeheader()
        writer.writerows(RECORDS)
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "a.parquet")
    for path in (lines, tmp_path / "a.csv", tmp_path / "a.parquet"):
        assert load_unpaired_records(path, ("brief", "kind")) == RECORDS
        assert load_unpaired_records(path, ("kind",), limit=1) == [{"prompt": "Why?", "response": "None", "kind": -1}]


def test_columns_of_other_names(tmp_path, write_lines):
    (tmp_path / "a.csv").write_text("question,answer,short\nWhy?,So.,1\n", encoding="utf-8")
    columns = {"prompt": "question", "response": "answer", "brief": "short"}
    expected = [{"prompt": "Why?", "response": "So.", "brief": 1}]
    assert load_unpaired_records(tmp_path / "a.csv", ("brief",), columns=columns) == expected
    with pytest.raises(ValueError, match="columns maps 'label', which is not read here: its names may be prompt, resp"):
        load_unpaired_records(tmp_path / "a.csv", ("brief",), columns={"label": "short"})


def test_what_is_refused(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [RECORDS[0], RECORDS[1] | {"kind": 2}])
    with pytest.raises(ValueError, match="row 1, column 'kind': the label is 2"):
        load_unpaired_records(path, ("kind",))
    path = write_lines(tmp_path / "b.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(
        ValueError, match=r"column 'response' is missing .* These are pairs with a prompt, read by load_pr"
    ):
        load_unpaired_records(path, ("kind",))
