"""Data rows at the door: what can be counted and indexed is taken as it is, everything else is told what to give."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset as HubDataset, DatasetDict
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from mopref.data_rows import check_columns, checked_rows, entry_matrix, is_flag, is_label, is_whole_number

ROWS = [{"x": 1.0}, {"x": 2.0}]


class WithoutLength(Dataset):
    def __getitem__(self, index):
        return ROWS[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(ROWS)


class Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise KeyError("secret text")


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        tuple(ROWS),
        [],
        np.zeros((3, 2)),
        torch.zeros(3),
        TensorDataset(torch.zeros(3)),
        HubDataset.from_list(ROWS),
    ],
    ids=lambda data: type(data).__name__,
)
def test_rows_are_taken_as_they_are(data):
    assert checked_rows(data, "train_data") is data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataLoader(ROWS), r"train_data is a DataLoader, .*: give the data set that it loads, data\.dataset; batches"),
        ((row for row in ROWS), r"train_data is a generator, .*: give a list of them, list\(data\)"),
        (iter(ROWS), r"is a list_iterator, .*list\(data\)"),
        (map(dict, ROWS), r"is a map, .*list\(data\)"),
        ({1, 2}, r"is a set, .*list\(data\)"),
        (Stream(), r"is a Stream, .*: give"),
        (WithoutLength(), r"is a WithoutLength, .*: give one with a length \(__len__\)"),
        ({"x": [1.0, 2.0]}, r"is a dict, .*give a list of rows; where these are parts of a data set \(x\), give one"),
        (DatasetDict(train=HubDataset.from_list(ROWS)), r"is a DatasetDict, .*\(train\), give one of them"),
        (HubDataset.from_list(ROWS).to_iterable_dataset(), r"is a IterableDataset, "),
        (pd.DataFrame(ROWS), r"is a DataFrame, .*: give its rows as dicts, data\.to_dict\('records'\)"),
        ("rows.jsonl", r"is a str, .*: give the rows themselves"),
        (Path("rows.jsonl"), r"Path, .*: give the rows themselves"),
        (3, r"is a int, .*list\(data\)"),
        (Broken(), r"is a Broken, .*: its length or its row 0 raises KeyError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_others_are_refused_with_what_to_give(data, message):
    with pytest.raises(TypeError, match=message):
        checked_rows(data, "train_data")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0], {"prompt": "Tell me a secret."}], r"row 1 has prompt, but no x: use make_rows\."),
        ([["x"]], "row 0 is a list, not a dict with x: use"),
        (["x"], "row 0 is a str, not a dict with x: use"),
        ([{}], "row 0 has nothing, but no x"),
        ([dict.fromkeys(map(str, range(12)))], "row 0 has 0, 1, 2, 3, 4, 5, 6, 7, …, but no x"),
    ],
    ids=str,
)
def test_rows_without_a_column_are_named_and_their_texts_not_shown(rows, message):
    with pytest.raises(ValueError, match=message) as error:
        check_columns(rows, ("x",), "use make_rows")
    assert "secret" not in str(error.value)


def test_rows_with_every_column_pass():
    check_columns(ROWS, ("x",), "use make_rows")


NUMBERS = [
    0,
    1,
    -1,
    2,
    np.int64(1),
    np.uint8(0),
    torch.tensor(1),
    True,
    np.True_,
    torch.tensor(True),
    1.0,
    np.float32(1),
]
OTHERS = ["1", None, [1], torch.tensor(1.0), torch.tensor([1]), torch.nan]


@pytest.mark.parametrize(
    ("is_right", "right"),
    [(is_whole_number, [0, 1, -1, 2, 1, 0, 1]), (is_label, [0, 1, -1, 1, 0, 1]), (is_flag, [0, 1, 1, 0, 1, 1, 1])],
)
def test_entries_are_told_by_their_type_and_value(is_right, right):
    assert [int(value) for value in NUMBERS if is_right(value)] == right
    assert not any(is_right(value) for value in OTHERS)


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor], ids=lambda make: make.__name__)
def test_a_matrix_of_entries_whatever_holds_them(make):
    rows = [{"labels": make([0, -1])}, {"labels": make([1, 1])}]
    matrix = entry_matrix(rows, "labels", 2, is_label, "give two")
    assert matrix.tolist() == [[0, -1], [1, 1]]
    assert matrix.dtype == torch.int64
    assert entry_matrix([], "labels", 2, is_label, "give two").shape == (0, 2)


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ([0], r"\[0\]"),
        ([0, 1, 1], r"\[0, 1, 1\]"),
        ([0, 1.0], r"\[0, 1\.0\]"),
        ([True, 0], r"\[True, 0\]"),
        ([np.float32(1), np.int64(7)], r"\[1\.0, 7\]"),
        (torch.tensor([0.0, 1.0]), r"\[0\.0, 1\.0\]"),
        (torch.tensor([[0, 1]]), r"\[a list\]"),
        (["secret", 1], r"\[a str, 1\]"),
        ("secret", r"\[a str\]"),
        (None, r"\[a NoneType\]"),
        (1, r"\[1\]"),
        (list(range(20)), r"\[0, 1, 2, 3, 4, 5, 6, 7, …\]"),
    ],
    ids=str,
)
def test_wrong_entries_are_named_with_their_row_and_no_text_is_shown(entries, shown):
    with pytest.raises(ValueError, match=rf"^row 1 has labels {shown}: give two labels\.$") as error:
        entry_matrix([{"labels": [0, 1]}, {"labels": entries}], "labels", 2, is_label, "give two labels")
    assert "secret" not in str(error.value)
