"""Rows of local files: every cell as it is written, and every broken file named with row and line."""

import bz2
import csv
import gzip
import json
import lzma
import time

import pyarrow
import pytest
from pyarrow import parquet

from mopref.llm.data.loaders import files, own_records, packed_file
from mopref.llm.data.loaders.files import FILE_KINDS, file_kind, file_rows

ROW = {"text": "a", "label": 1}
LINE = json.dumps(ROW)
# What readers that guess take for dates, numbers, booleans or missing values.
TEXTS = [
    "1969-07-20",
    "2020-01-01T00:00:00Z",
    "12:30",
    "None",
    "N/A",
    "null",
    "NaN",
    "42",
    "007",
    "1e5",
    "True",
    "-",
    "",
]


def rows_of(path, content=None, label_columns=()):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(file_rows(path, file_kind(path.name), path.name, label_columns))


def refusal(path, content):
    with pytest.raises(ValueError, match="^" + path.name) as caught:
        rows_of(path, content)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "json"),
        ("a.b.JSON", "json"),
        ("a.csv.gz", "csv"),
        ("folder/a.parquet", "parquet"),
        ("a.jsonl.xz", "json"),
        ("a.jsonl.txt", None),
        ("a.gz", None),
        ("jsonl", None),
    ],
)
def test_kinds_by_endings(name, kind):
    assert file_kind(name) == kind
    assert kind is None or kind in FILE_KINDS.values()


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_texts_stay_texts(tmp_path, name):
    """Dates, numbers and what stands for missing, in every row, also within messages and beside them."""
    rows = [{"text": text, "messages": [{"role": "user", "content": text}], "label": 1} for text in TEXTS]
    rows.append({"text": [{"role": "assistant", "content": "1969-07-20"}], "messages": "42", "label": -1})
    assert rows_of(tmp_path / name, "\n".join(map(json.dumps, rows))) == rows
    assert rows_of(tmp_path / name, json.dumps(rows)) == rows
    assert rows_of(tmp_path / name, json.dumps(rows, indent=2)) == rows


def test_csv_texts_stay_texts_and_labels_are_numbers(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], *([text, -1] for text in TEXTS)])
    assert rows_of(path, label_columns=("label",)) == [{"text": text, "label": -1} for text in TEXTS]
    assert rows_of(path)[0] == {"text": TEXTS[0], "label": "-1"}
    labels = [row["label"] for row in rows_of(path, 'label\n 1 \n0.5\nyes\n" "\n', ("label",))]
    assert labels == [1, 0.5, "yes", None]
    assert type(labels[0]) is int


def test_parquet_texts_stay_texts(tmp_path):
    rows = [{"text": text, "label": 1} for text in TEXTS]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == rows


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma), ("", None)])
def test_packed_files(tmp_path, ending, pack):
    for name, content in (("a.jsonl", f"{LINE}\n{LINE}\n"), ("a.json", f"[{LINE}]"), ("a.csv", "text,label\na,1\n")):
        data = content.encode() if pack is None else pack.compress(content.encode())
        assert rows_of(tmp_path / (name + ending), data, ("label",))[0] == ROW
    if pack is not None:
        cut = pack.compress(f"{LINE}\n".encode())[:-6]
        assert "cannot be unpacked or read to its end" in refusal(tmp_path / f"b.jsonl{ending}", cut)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", ""])
def test_line_ends_blank_lines_and_byte_order_marks(tmp_path, end):
    for mark in ("", "\ufeff"):
        assert rows_of(tmp_path / "a.jsonl", f"{mark}{LINE}{end or chr(10)}{LINE}{end}") == [ROW, ROW]
        assert rows_of(tmp_path / "a.csv", f"{mark}text,label{end or chr(10)}a,1{end}", ("label",)) == [ROW]


def test_cells_of_several_lines_and_of_any_length(tmp_path):
    limit = csv.field_size_limit()
    long = "x" * (limit + 1)
    rows = rows_of(tmp_path / "a.csv", f'text\n"one, ""two""\nthree"\n{long}\n')
    assert [row["text"] for row in rows] == ['one, "two"\nthree', long]
    assert csv.field_size_limit() == limit, "a setting of the whole process is put back"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE[:12], "row 1 (line 3) is no JSON (expecting ',' delimiter at column 13)"),
        ("3", "row 1 (line 3) is a int: a record must be a JSON object"),
        ("[]", "row 1 (line 3) is a list"),
        ("null", "row 1 (line 3) is null"),
        (LINE[:-1] + ', "label": 0}', "row 1 (line 3) has the key 'label' twice"),
        ('{"m": [{"role": "a", "role": "b"}]}', "row 1 (line 3) has the key 'role' twice"),
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "row 1 (line 3) is nested too deeply"),
        ('{"label": ' + "9" * 5_000 + "}", "row 1 (line 3) holds a number of too many digits"),
        (b'{"text": "\xe9"}', "line 3 is no UTF-8 text (byte 0xe9)"),
    ],
    ids=["cut", "number", "list", "null", "key twice", "role twice", "deep", "long number", "Latin-1"],
)
def test_broken_lines(tmp_path, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    assert message in refusal(tmp_path / "a.jsonl", f"{LINE}\n\n".encode() + line + b"\n")


def test_a_first_line_of_null_ends_nothing_but_the_reading(tmp_path):
    assert "row 0 (line 1) is null" in refusal(tmp_path / "a.jsonl", f"null\n{LINE}\n")


def test_broken_lists(tmp_path):
    path = tmp_path / "a.json"
    assert "a.json, row 1 is a int" in refusal(path, f"[{LINE}, 3]")
    assert "a.json is no JSON (expecting ',' delimiter at line 2, column 1)" in refusal(path, f"[{LINE}\n{LINE}]")
    assert "row 0 (line 1) is no JSON" in refusal(path, json.dumps(ROW, indent=2))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings(tmp_path, name, encoding):
    text = "text,label\né,1\n" if name.endswith("csv") else '{"text": "é", "label": 1}\n'
    line = 2 if (encoding, name) == ("latin-1", "a.csv") else 1
    assert f"line {line} is no UTF-8 text" in refusal(tmp_path / name, text.encode(encoding))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,text\na,b\n", "has the column 'text' twice"),
        ("text,label\na,1\nb\n", "row 1 (line 3) has 1 cells, but the header has 2 columns"),
        ("text,label\na,1,2\n", "row 0 (line 2) has 3 cells"),
        ('text,label\n"a"b,1\n', "line 2 is no CSV"),
        ('text,label\n"a,1\n', "line 2 is no CSV (unexpected end of data)"),
    ],
)
def test_broken_tables(tmp_path, content, message):
    assert message in refusal(tmp_path / "a.csv", content)


def test_broken_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    for content in (b"", b"PAR1 PAR1", b"text"):
        assert "is no parquet file, or not a whole one" in refusal(path, content)
    doubled = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(doubled, path)
    with pytest.raises(ValueError, match="has the column 'text' twice"):
        rows_of(path)


def test_a_doubled_key_is_found_among_very_many(tmp_path):
    """By a search through all keys for each of them it took minutes."""
    content = "{" + ",".join(f'"k{key}":1' for key in range(300_000)) + ',"k299999":2}'
    start = time.perf_counter()
    assert "row 0 (line 1) has the key 'k299999' twice" in refusal(tmp_path / "a.jsonl", content.encode())
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_empty_files_have_no_rows(tmp_path, content):
    for name in ("a.jsonl", "a.json", "a.csv"):
        assert rows_of(tmp_path / name, content) == []
    assert rows_of(tmp_path / "a.json", "[]") == rows_of(tmp_path / "a.csv", "text,label\n") == []


def test_a_line_that_no_record_has_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_LINE_BYTES", 100)
    monkeypatch.setattr(packed_file, "MOST_LINE_BYTES", 100)
    row = json.dumps({"text": "x" * 80})
    long = json.dumps({"text": "x" * 100})
    assert "a.jsonl, line 2 has more than 0 MiB, which no record has" in refusal(
        tmp_path / "a.jsonl", f"{row}\n{long}\n"
    )
    # A list may be all in one line.
    assert len(rows_of(tmp_path / "a.json", f"[{long}, {long}]")) == 2
    assert len(rows_of(tmp_path / "a.json", f"\n\n  [{long}]")) == 1


def test_a_record_of_very_many_columns_is_refused_in_few_words(tmp_path):
    wide = json.dumps({str(number): 0 for number in range(10_001)})
    assert refusal(tmp_path / "a.jsonl", f"{json.dumps(ROW)}\n{wide}") == (
        "a.jsonl, row 1 (line 2) has 10,001 columns, which no record has: leave out what is not needed."
    )


def test_a_table_of_very_many_columns_is_refused_at_its_head(tmp_path):
    """Looking for one that is there twice took minutes."""
    path = tmp_path / "rows.csv"
    path.write_text(",".join(f"c{i}" for i in range(100_000)) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has 100,000 columns, which no record has"):
        own_records.load_records(path, ["a", "b"])
