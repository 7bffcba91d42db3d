"""The table of a front: cells hold the very numbers, intervals belong to their columns, and Markdown stays a table."""

import math

import numpy as np
import pytest
from _run_folders import NAMES, front_of
from hypothesis import given, settings, strategies as st

from mopref import Front
from mopref.recipes.front_table import front_table, hypervolume_text, markdown_table, number_text, plain_markdown


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_cells_hold_the_numbers_of_the_front(count):
    front = front_of(count) if count > 1 else Front([[1.0]], [[0.5]], ["one"])
    table = front_table(front)
    for row, preference, values in zip(table.rows, front.preferences, front.values, strict=True):
        assert [float(cell.value) for cell in row.cells[:count]] == preference.tolist()
        assert [float(cell.value) for cell in row.cells[count : 2 * count]] == values.tolist()
        assert len(row.cells) == len(table.columns)
    assert [column.is_preference for column in table.columns][:count] == [True] * count


def test_bounds_are_the_interval_of_their_column_and_no_columns():
    front, table = front_of(2), front_table(front_of(2))
    assert [column.heading for column in table.columns[2:]] == [*NAMES[:2], "accuracy helpful", "note", "kl"]
    for name, place in (("helpful", 2), ("harmless", 3), ("kl", 6)):
        bounds = list(zip(front.extra[f"{name}_low"].tolist(), front.extra[f"{name}_high"].tolist(), strict=True))
        shown = [tuple(map(float, row.cells[place].bounds)) for row in table.rows]
        # A point where nothing was measured has no interval.
        assert shown == [pair if not math.isnan(pair[0]) else () for pair in bounds]
    assert table.rows[0].cells[6].text == "–"
    assert table.has_intervals
    assert table.level == 0.9
    assert not front_table(front_of(2, intervals=False)).has_intervals


def test_a_column_that_only_sounds_like_a_bound_is_one_of_its_own():
    extra = {"pass_low": [1.0, 2.0], "a_note_high": ["x", "y"]}
    table = front_table(Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], ["a", "b"], extra=extra))
    assert [column.heading for column in table.columns[4:]] == ["pass low", "a note high"]
    assert not table.has_intervals


def test_directions_and_dominated_rows():
    front = Front(
        [[1, 0], [0, 1]],
        [[1, 0], [2, 1]],
        ["a", "b"],
        maximize=[True, False],
        extra={"win_rate_a": [0.5, 0.5], "margin_b": [0.1, 0.1], "length": [3, 4]},
    )
    table = front_table(front)
    assert [column.direction for column in table.columns] == ["", "", "↑", "↓", "↑", "↑", ""]
    assert [row.is_dominated for row in table.rows] == [False, False]
    assert [row.is_dominated for row in front_table(front_of(3)).rows] == [*[False] * (len(front_of(3)) - 1), True]
    assert table.rows[0].cells[-1].value == "3"


def test_the_base_model_has_a_row_where_it_was_measured():
    front = front_of(3)
    assert [cell.value for cell in front_table(front).base.cells] == [*[""] * 3, *["0.9"] * 3, *[""] * 3]
    for other in ([0.9], None, "0.9", [0.9, 0.9, None]):
        front.metadata["base_losses"] = other
        assert front_table(front).base is None


def test_the_hypervolume_is_told_with_its_interval_and_point():
    front = front_of(2)
    assert hypervolume_text(front) == f"{front.hypervolume():.4g} [0.1, 3.5] (reference point 2, 2)"
    front.metadata["hypervolume_interval"] = None
    assert "[" not in hypervolume_text(front)
    del front.metadata["reference_point"]
    assert hypervolume_text(front) is None


def test_markdown_is_a_table_of_equal_rows():
    lines = markdown_table(front_table(front_of(3))).splitlines()
    assert len(lines) == 2 + len(front_of(3)) + 1
    assert len({line.count(" | ") for line in lines}) == 1
    assert lines[0].startswith("| λ helpful | λ harmless | λ brief | helpful ↓ |")
    assert set(lines[1].strip("| ").split(" | ")) == {"---:"}
    first = front_of(3)
    low, high = first.extra["helpful_low"][0], first.extra["helpful_high"][0]
    assert f"| {first.values[0, 0]:.4f} [{low:.4f}, {high:.4f}] |" in lines[2]
    assert lines[-2].endswith("| dominated |")
    assert lines[-1].startswith("| base model |")


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_text_ends_a_cell_or_opens_markup(text):
    plain = plain_markdown(text)
    assert "\n" not in plain
    # Every mark stands behind a backslash of its own.
    for mark in "`*_[]<>|#$":
        for place, character in enumerate(plain):
            if character == mark:
                before = len(plain[:place]) - len(plain[:place].rstrip("\\"))
                assert before % 2 == 1


@given(st.floats(-1e300, 1e300), st.lists(st.floats(-1e6, 1e6), max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_rounded_number_is_near_the_number(value, others):
    text = number_text(value, [value, *others])
    # Four decimals, or four digits of a column that is all small or has a large number.
    assert math.isclose(float(text), value, rel_tol=6e-4, abs_tol=6e-5)


def test_a_column_of_nothing_is_shown():
    front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], ["a", "b"], extra={"kl": [None, None], "flag": [True, False]})
    cells = [[cell.text for cell in row.cells[4:]] for row in front_table(front).rows]
    assert cells == [["–", "True"], ["–", "False"]]
    assert np.isnan(front.extra["kl"]).all()


def test_what_a_terminal_would_obey_is_shown_in_markdown():
    assert plain_markdown("a\x1b[31m \u202e b") == r"a\\x1b\[31m \\u202e b"
