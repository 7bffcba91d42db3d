"""The text of a summary: every point in the table, a line for every indicator, nothing cut."""

import numpy as np
from front_inputs import small

from mopref.front import Front
from mopref.front.table import indicator_lines, table_lines

NUMBERS = {
    "inner_product": -1.0,
    "sparsity": 0.5,
    "spacing": 0.25,
    "range": {"a": 1.0, "b": 2.0},
    "non_dominated": 3,
    "distinct_non_dominated": 2,
    "collapsed": False,
}


def test_a_column_is_written_in_one_style():
    columns = [np.array([0.5, np.nan]), np.array([1e-5, 2.0e-4]), np.array([1e6, 0.0]), np.array([True, False])]
    lines = table_lines(["a", "b", "c", "d"], columns, dominated=np.array([False, False]))
    assert lines[0].split() == ["a", "b", "c", "d"]
    assert lines[2].split() == ["0.5000", "1e-05", "1e+06", "True"]
    assert lines[3].split() == ["0.0002", "0", "False"], "a number that is missing is an empty cell"


def test_dominated_points_are_named_where_there_are_any():
    columns = [np.array([1, 2])]
    assert "dominated" not in " ".join(table_lines(["a"], columns, np.array([False, False])))
    lines = table_lines(["a"], columns, np.array([False, True]))
    assert [line.split() for line in lines[2:]] == [["1"], ["2", "dominated"]]


def test_a_line_for_each_indicator_in_their_order():
    lines = indicator_lines(NUMBERS, 4, seed=7)
    assert lines == [
        "hypervolume     needs a reference point",
        "inner product   -1",
        "sparsity        0.5",
        "spacing         0.25",
        "range           a 1, b 2",
        "non-dominated   3 of 4, 2 of them distinct",
        "seed            7",
    ]
    more = {"gd_plus": 4.0, "igd": 1.0, "igd_plus": 2.0, "gd": 3.0, "fill_distance": 5.0}
    under = {"cross_angle": 8.0, "regret_max": 7.0, "regret_mean": 6.0}
    assert indicator_lines(NUMBERS | more | under, 4, seed=7)[4:12] == [
        "IGD             1",
        "IGD+            2",
        "GD              3",
        "GD+             4",
        "fill distance   5",
        "regret mean     6",
        "regret max      7",
        "cross angle     8",
    ]


def test_an_approximate_hypervolume_says_so():
    numbers = NUMBERS | {"hypervolume": 1.23456789, "hypervolume_exact": False, "reference_point": [1.0, 2.0]}
    first = indicator_lines(numbers, 4, seed=7)[0]
    assert first == "hypervolume     1.23457  (reference point [1.0, 2.0], approximate)"


def test_summary_shows_every_point_and_what_the_numbers_rest_on():
    text = small(extra={"[bold]length[/bold]": [10, 20, 30, 40]}).summary()
    assert "\x1b" not in text
    header, _, *rows = text.split("\n\n")[0].splitlines()
    assert header.split("  ")[0].strip() == "λ helpful"
    assert "helpful ↓" in header
    assert "[bold]length[/bold]" in header
    assert [row.split() for row in rows] == [
        ["1.0000", "0.0000", "0.0000", "2.0000", "10"],
        ["0.5000", "0.5000", "1.0000", "1.0000", "20"],
        ["0.2500", "0.7500", "1.5000", "1.5000", "30", "dominated"],
        ["0.0000", "1.0000", "2.0000", "0.0000", "40"],
    ]
    below = text.split("\n\n")[1]
    assert "hypervolume     6  (reference point [3.0, 3.0])" in below
    assert "non-dominated   3 of 4, 3 of them distinct" in below
    assert "seed            3" in below
    assert "range           helpful 2, harmless 2" in below
    assert "COLLAPSED" not in text
    assert "IGD" not in text


def test_summary_says_what_it_lacks():
    bare = small(metadata={}).summary(true_front=[[0.0, 2.0]])
    assert "needs a reference point" in bare
    assert "seed            not recorded" in bare
    assert "IGD+            0" in bare
    assert "helpful ↑" in small(maximize=True).summary([0, 0])
    assert "COLLAPSED" in small(values=np.ones((4, 2))).summary()


def test_summary_is_never_cut():
    names = tuple(f"an objective with quite a long name {i}" for i in range(8))
    front = Front(np.eye(8), np.eye(8), names)
    lines = front.summary().split("\n\n")[0].splitlines()
    assert len(lines) == 2 + 8
    assert all(f"{name} ↓" in lines[0] and f"λ {name}" in lines[0] for name in names)
