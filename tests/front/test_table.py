"""The text of a summary: every point in the table, a line for every indicator, nothing cut."""

import numpy as np
from front_inputs import small

from mopref.front import Front
from mopref.front.intervals import interval_columns
from mopref.front.table import indicator_lines, interval_lines, table_lines

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
    assert "dominated" not in " ".join(table_lines(["a"], columns, dominated=np.array([False, False])))
    lines = table_lines(["a"], columns, dominated=np.array([False, True]))
    assert [line.split() for line in lines[2:]] == [["1"], ["2", "dominated"]]


def test_a_table_that_is_too_wide_becomes_several_with_the_first_columns_in_each():
    headers = ["λ a", "λ b", "loss", "accuracy of a", "accuracy of b", "kl"]
    columns = [np.array([0.25 * k, 1.0]) for k in range(6)]
    one = table_lines(headers, columns, dominated=np.array([False, False]))
    assert table_lines(headers, columns, dominated=np.array([False, False]), repeated=2, width=200) == one
    lines = table_lines(headers, columns, dominated=np.array([False, False]), repeated=2, width=40)
    assert max(map(len, lines)) <= 40
    heads = [line for line in lines if "λ a" in line]
    assert len(heads) == lines.count("") + 1 > 1
    assert all(head.split()[:4] == ["λ", "a", "λ", "b"] for head in heads)
    shown = " ".join(" ".join(head.split()[4:]) for head in heads)
    assert shown == "loss accuracy of a accuracy of b kl"
    narrow = table_lines(headers, columns, dominated=np.array([False, False]), repeated=2, width=5)
    assert narrow.count("") == 3, "one column beside the repeated ones at least"


def test_a_summary_fits_a_width_where_it_is_asked_to():
    front = small()
    assert front.summary(width=10_000) == front.summary()
    assert front.summary(width=30).count(f"λ {front.names[0]}") > 1


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


def test_an_interval_stands_in_the_cell_of_its_number():
    columns = [np.array([0.598, 0.7, np.nan]), np.array([100, 2000, 3]), np.array([0.5, 0.25, 0.125])]
    bounds = [np.array([[0.571, 0.624], [np.nan, np.nan], [0.1, 0.2]]), np.array([[88.0, 112.4]] * 3), None]
    lines = table_lines(["a", "b", "c"], columns, bounds, dominated=np.zeros(3, dtype=bool))
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[2:]]
    assert cells == [
        ["0.598 [0.571, 0.624]", "100 [88, 112]", "0.5000"],
        ["0.700", "2000 [88, 112]", "0.2500"],
        ["[0.100, 0.200]", "3 [88, 112]", "0.1250"],
    ]


def test_two_digits_of_an_interval_s_width_show_where_numbers_are_neither_huge_nor_tiny():
    def cell(number, low, high):
        lines = table_lines(["a"], [np.array([number])], [np.array([[low, high]])], dominated=np.array([False]))
        return lines[2].strip()

    assert cell(0.69312, 0.69304, 0.69321) == "0.69312 [0.69304, 0.69321]"
    assert cell(-12.34, -25.0, 5.5) == "-12 [-25, 6]"
    assert cell(1.0, 1.0, 1.0) == "1.0000 [1.0000, 1.0000]"
    assert cell(1e6, 0.9e6, 1.1e6) == "1e+06 [9e+05, 1.1e+06]"
    assert cell(1e-5, 0.0, 2e-5) == "1e-05 [0, 2e-05]"


def test_a_line_says_what_brackets_are():
    assert interval_lines(0.9) == ["[low, high]     90 % intervals, bootstrap over prompts"]
    assert interval_lines(0.975)[0].endswith("97.5 % intervals, bootstrap over prompts")
    assert interval_lines(None) == ["[low, high]     intervals of a level not recorded"]


def test_summary_puts_intervals_in_one_cell_and_says_what_they_are():
    bounds = np.array([[-0.1, 0.1], [0.8, 1.2], [1.4, 1.6], [1.9, 2.1]])
    extra = {"length": [10, 20, 30, 40]} | interval_columns("helpful", bounds)
    metadata = {"reference_point": [3, 3], "interval_level": 0.8, "hypervolume_interval": [5.75, 6.5]}
    text = small(extra=extra, metadata=metadata).summary()
    points, below = text.split("\n\n")
    header, _, *rows, legend = points.splitlines()
    assert "_low" not in text
    assert header.split()[-3:] == ["harmless", "↓", "length"]
    assert [row.split()[2:] for row in rows[:2]] == [
        ["0.00", "[-0.10,", "0.10]", "2.0000", "10"],
        ["1.00", "[0.80,", "1.20]", "1.0000", "20"],
    ]
    assert legend == "[low, high]     80 % intervals, bootstrap over prompts"
    assert below.splitlines()[0] == "hypervolume     6 [5.75, 6.5]  (reference point [3.0, 3.0])"


def test_the_hypervolume_has_its_interval_under_its_own_reference_point_only():
    metadata = {"reference_point": {"harmless": 3, "helpful": 4}, "hypervolume_interval": [7, 10]}
    front = small(metadata=metadata)
    for same in (None, [4, 3], {"helpful": 4.0, "harmless": 3.0}):
        assert " [7, 10]  (reference point [4.0, 3.0])" in front.summary(same)
        assert "[low, high]     intervals of a level not recorded" in front.summary(same)
    assert "[7, 10]" not in front.summary([3, 4])
    assert "[low, high]" not in front.summary([3, 4])
    assert "[7, 10]" not in small(metadata={"hypervolume_interval": [7, 10]}).summary([4, 3])


def test_a_summary_does_not_order_a_terminal_about():
    names = ("\x1b[31mred", "b\u202e")
    extra = {"no\x9bte": ["\x1b]0;title\x07", "two\nlines"]}
    front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], names, extra=extra, metadata={"seed": "3\x1b[2J"})
    text = front.summary(reference_point=[2, 2])
    assert all(sign.isprintable() for sign in text.replace("\n", ""))
    for shown in (
        r"\x1b[31mred",
        r"b\u202e",
        r"no\x9bte",
        r"\x1b]0;title\x07",
        r"two\nlines",
        r"seed            3\x1b[2J",
    ):
        assert shown in text
