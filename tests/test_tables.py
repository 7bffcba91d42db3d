"""Rows in a table of datasets: whole columns are looked at, and no row is made where nothing can be wrong."""

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value

from mopref._tables import Chunk, chunks, has_column, is_table, matrix_of_table, plain_rows, rows_at, rows_to_check

ROWS = [{"ids": [1, 2, 3], "names": ["a", "b"], "text": "x"}, {"ids": [4], "names": ["a", "b"], "text": "x"}]


@pytest.fixture
def table():
    return Dataset.from_list(ROWS)


@pytest.mark.parametrize("kind", [None, "numpy", "torch"])
def test_a_data_set_is_a_table_in_the_formats_that_keep_its_numbers(table, kind):
    assert is_table(table.with_format(kind))
    assert list(plain_rows(table.with_format(kind))) == ROWS


def test_what_hands_out_something_else_than_its_table_is_none(table):
    class Changed(Dataset):
        def __getitem__(self, key):
            return {"ids": [0]}

    assert not is_table(table.with_transform(lambda batch: {"ids": [[0]] * len(batch["ids"])}))
    assert not is_table(table.with_format("arrow"))
    assert not is_table(Changed(table.data))
    assert not is_table(ROWS)
    assert plain_rows(ROWS) is ROWS


def test_hidden_columns_are_none(table):
    hidden = table.with_format("numpy", columns=["ids"])
    assert has_column(table, "names")
    assert not has_column(hidden, "names")
    assert has_column(table.with_format("numpy", columns=["ids"], output_all_columns=True), "names")
    assert plain_rows(hidden)[1] == {"ids": [4]}
    assert has_column([{}, {"names": 1}], "names")
    assert not has_column([{}], "names")


@pytest.mark.parametrize("make", [lambda table: table, lambda table: ROWS, lambda table: torch.tensor([5, 6])])
def test_rows_by_their_numbers(table, make):
    data = make(table)
    assert rows_at(data, [1, 0, 1]) == [data[1], data[0], data[1]]
    assert rows_at(data, []) == []


def test_columns_of_chunks_are_those_of_the_rows():
    rows = [{"ids": list(range(row % 7)), "other": row} for row in range(2500)]
    table = Dataset.from_list(rows).select(range(2499, -1, -1)).shuffle(seed=0)
    parts = list(chunks(table, ["ids"]))
    assert [len(part) for part in parts] == [1000, 1000, 500]
    assert not parts[0].has("other")
    assert [row for part in parts for row in part.rows()] == [{"ids": row["ids"]} for row in table]
    lengths = np.concatenate([part.lists("ids").lengths for part in parts])
    assert lengths.tolist() == [len(row["ids"]) for row in table]
    assert np.concatenate([part.lists("ids").values for part in parts]).tolist() == [
        number for row in table for number in row["ids"]
    ]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (List(Value("int32")), [[1, 2], [3]], ([2, 1], [1, 2, 3])),
        (List(Value("bool")), [[True], []], ([1, 0], [True])),
        (List(Value("float64"), length=2), [[1.0, 2.0], [3.0, 4.0]], ([2, 2], [1.0, 2.0, 3.0, 4.0])),
        (List(Value("int32")), [[1, None], [3]], None),
        (List(Value("int32")), [None, [3]], None),
        (List(Value("string")), [["a"], []], None),
        (List(List(Value("int32"))), [[[1]], []], None),
        (Value("int32"), [1, 2], None),
    ],
)
def test_lists_of_plain_numbers_are_told_from_others(kind, values, expected):
    (chunk,) = chunks(Dataset.from_dict({"x": values}, features=Features({"x": kind})), ["x"])
    found = chunk.lists("x")
    assert (None if found is None else (found.lengths.tolist(), found.values.tolist())) == expected
    if expected is not None:
        lengths, numbers = expected
        same = len(set(lengths)) == 1
        matrix = chunk.matrix("x", lengths[0])
        assert (matrix is not None) == same
        assert matrix is None or matrix.reshape(-1).tolist() == numbers


def test_lengths_are_known_of_any_lists():
    (chunk,) = chunks(Dataset.from_dict({"x": [["a", "b"], []]}), ["x"])
    assert chunk.lengths("x").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("names", ("a", "b"), True),
        ("names", ("b", "a"), False),
        ("names", ("a",), False),
        ("names", "a", False),
        ("text", "x", True),
        ("text", "y", False),
        ("text", ("x",), False),
        ("ids", ("a",), False),
    ],
)
def test_a_text_that_is_everywhere(table, column, value, expected):
    (chunk,) = chunks(table, [column])
    assert chunk.is_everywhere(column, value) == expected


def test_a_matrix_of_a_table_is_that_of_its_chunks_or_none():
    table = Dataset.from_list([{"x": [row, 1]} for row in range(1500)])
    matrix = matrix_of_table(table, ["x"], lambda chunk: chunk.matrix("x", 2))
    assert matrix.tolist() == [row["x"] for row in table]
    assert matrix_of_table(table, ["x"], lambda chunk: None if len(chunk) == 500 else chunk.matrix("x", 2)) is None
    assert matrix_of_table(table.select([]), ["x"], lambda chunk: chunk.matrix("x", 2)) is None
    assert matrix_of_table(list(table), ["x"], lambda chunk: chunk.matrix("x", 2)) is None


def test_one_other_row_is_noticed(table):
    for last in ({"text": "y"}, {"text": None}):
        other = Dataset.from_list([{"text": "x"}] * 999 + [last])
        (chunk,) = chunks(other, ["text"])
        assert not chunk.is_everywhere("text", "x")


def test_no_row_is_made_where_all_is_plainly_right(table, monkeypatch):
    monkeypatch.setattr(Chunk, "rows", None)
    assert list(rows_to_check(table, ["ids", "gone"], lambda chunk: chunk.lists("ids") is not None)) == []


def test_else_all_rows_are_gone_through_with_the_columns_that_matter(table):
    assert list(rows_to_check(table, ["ids", "gone"], lambda chunk: False)) == [
        (0, {"ids": [1, 2, 3]}),
        (1, {"ids": [4]}),
    ]
    assert list(rows_to_check(table, ["ids"])) == list(enumerate({"ids": row["ids"]} for row in ROWS))
    assert list(rows_to_check(table, ["gone"])) == []
    assert list(rows_to_check(ROWS, ["gone"], lambda chunk: True)) == list(enumerate(ROWS))
