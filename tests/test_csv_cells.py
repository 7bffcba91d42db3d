"""Cells of CSV: of any length, with the lines they end in, and nothing of the process changed."""

import csv

import pytest

from mopref._csv_cells import csv_cells


def test_cells_come_with_their_lines():
    assert list(csv_cells('a,b\n\n"one\ntwo","3"\r\n')) == [(1, ["a", "b"]), (4, ["one\ntwo", "3"])]


def test_a_cell_may_be_long_and_the_limit_of_the_process_stays():
    before = csv.field_size_limit()
    (row,) = csv_cells("x" * 1_000_000)
    assert row == (1, ["x" * 1_000_000])
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(("text", "line"), [('a\n"b', 2), ('a\nb\n"c"d\n', 3)])
def test_what_is_no_csv_names_the_line(text, line):
    with pytest.raises(ValueError, match=rf"line {line} is no CSV \(.*\): double the quotes"):
        list(csv_cells(text))
