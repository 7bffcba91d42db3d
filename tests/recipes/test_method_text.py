import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from mopref.baselines import Budget
from mopref.recipes.method_cells import Cell
from mopref.recipes.method_statistics import HeldOut, method_figures
from mopref.recipes.method_text import csv_text, json_text, markdown_text

HELD_OUT = HeldOut(
    ("help|ful", "harmless"),
    np.array([[0.0, 1.0], [1.0, 0.0]]),
    np.ones((4, 2), dtype=bool),
    list("aabb"),
    np.array([2.0, 2.5]),
    0.9,
    20,
)


def cell(method, seed, shift, columns):
    losses = np.array([[1.0, 0.5], [0.5, 1.0]])[:, None, :] + np.full((2, 4, 2), shift)
    return Cell(method, seed, losses, columns, Budget(2, 10, 1234, 0, 5, 6, 2.0, 0.25), {"beta": 0.7})


@pytest.fixture
def methods():
    cells = {
        "ours": [cell("ours", 3, 0.0, {"kl": [0.5, float("nan")]})],
        "fixed": [cell("fixed", 3, 0.1, {})],
    }
    return method_figures(cells, HELD_OUT)


def test_json_holds_every_number_with_its_preference_seed_and_reference_point(methods):
    tree = json.loads(json_text(methods, HELD_OUT, {"model": "tiny"}))
    assert tree["model"] == "tiny"
    assert tree["reference_point"] == {"help|ful": 2.0, "harmless": 2.5}
    ours, fixed = tree["methods"]
    (seed,) = ours["seeds"]
    assert seed["seed"] == 3
    assert seed["points"][1]["preference"] == {"help|ful": 1.0, "harmless": 0.0}
    assert seed["points"][1]["losses"] == {"help|ful": 0.5, "harmless": 1.0}
    assert (seed["points"][0]["kl"], seed["points"][1]["kl"]) == (0.5, None)
    assert fixed["is_control"]
    assert fixed["gaps_to_ours"]["inner_product"]["value"] == pytest.approx(-0.1)
    assert fixed["budget"]["passes_per_token"] == 2.0


def test_csv_has_a_line_a_point_and_empty_cells_where_nothing_is_known(methods):
    lines = list(csv.DictReader(io.StringIO(csv_text(methods, HELD_OUT))))
    assert [(line["method"], line["seed"]) for line in lines] == [("ours", "3")] * 2 + [("fixed", "3")] * 2
    assert float(lines[1]["preference_help|ful"]) == 1.0
    assert float(lines[1]["help|ful"]) == 0.5
    assert float(lines[0]["reference_point_harmless"]) == 2.5
    assert (lines[0]["kl"], lines[1]["kl"], lines[2]["kl"]) == ("0.5", "", "")


def test_markdown_has_tables_that_hold_together(methods):
    text = markdown_text(methods, HELD_OUT, {"precision": "float32"})
    assert "reference point (2, 2.5)" in text
    assert "help\\|ful" in text
    assert "interval (90 %)" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        widths = {line.replace("\\|", "").count("|") for line in table}
        assert len(widths) == 1, table
    assert "| ours, fixed λ | 2 | 10 | 1,234 | 0 | 5 | 6 | 2 | 0.2 |" in text
    assert "| ours | 1.0000 / 0.5000 | 0.5000 / 1.0000 |" in text


def test_a_gap_whose_interval_is_not_known_says_so():
    """One prompt only is labelled for an objective, which tells nothing of how far it would move with others."""
    labelled = np.array([[True, place < 2] for place in range(4)])
    held = replace(HELD_OUT, labelled=labelled)
    unknown = method_figures({name: [cell(name, 3, shift, {})] for name, shift in (("ours", 0.0), ("mod", 0.1))}, held)
    text = markdown_text(unknown, held, {})
    assert "nan" not in text
    assert "| -0.1000, no interval | – |" in text
    assert "no p is below" not in text
    gap = json.loads(json_text(unknown, held, {}))["methods"][1]["gaps_to_ours"]["inner_product"]
    assert gap.pop("value") == pytest.approx(-0.1)
    assert gap == {"low": None, "high": None, "p": None, "p_holm": None, "resamples": 0}


@pytest.mark.parametrize(
    ("resamples", "others", "sentence"),
    [
        (20, ["fixed"], "With 20 resamples and 1 row no p is below 0.095."),
        (200, ["fixed", "mod", "dps"], "With 200 resamples and 3 rows no p is below 0.030."),
        (3, ["fixed", "mod", "dps"], "With 3 resamples and 3 rows no p is below 1.000."),
    ],
)
def test_markdown_says_how_low_p_can_be(resamples, others, sentence):
    held = replace(HELD_OUT, resamples=resamples)
    cells = {"ours": [cell("ours", 3, 0.0, {})]} | {name: [cell(name, 3, 0.1, {})] for name in others}
    found = method_figures(cells, held)
    assert sentence in markdown_text(found, held, {})
    # All gaps are the same in every resample, so that every p is as low as it can be.
    assert f"{found[1].gaps['hypervolume'].p_holm:.3f}" in sentence


def test_markdown_says_where_hypervolumes_rest_on_fewer_resamples(methods):
    assert "(20 resamples)" in markdown_text(methods, HELD_OUT, {})
    fewer = [
        replace(own, gaps={**own.gaps, "hypervolume": replace(own.gaps["hypervolume"], resamples=5)})
        if own.gaps
        else own
        for own in methods
    ]
    assert "(20 resamples, of hypervolumes 5)" in markdown_text(fewer, HELD_OUT, {})


def test_markdown_says_how_many_rows_are_labelled_where_not_all_are(methods):
    assert "on 4 rows of 2 prompts; λ" in markdown_text(methods, HELD_OUT, {})
    labelled = np.array([[True, True], [True, False], [True, False], [True, False]])
    text = markdown_text(methods, replace(HELD_OUT, labelled=labelled), {})
    assert "on 4 rows of 2 prompts (help\\|ful: 4, harmless: 1); λ" in text


def test_markdown_says_where_no_point_is_better_than_the_reference_point(methods):
    sentence = "No point of any method is better than the reference point"
    assert sentence not in markdown_text(methods, HELD_OUT, {})
    held = replace(HELD_OUT, reference_point=np.array([0.1, 0.1]))
    cells = {name: [cell(name, 3, 0.0, {})] for name in ("ours", "mod")}
    assert sentence in markdown_text(method_figures(cells, held), held, {})


def test_two_columns_of_one_name_are_both_in_the_csv():
    """Names that clash are refused before; were there any, no number would stand in place of another."""
    held = replace(HELD_OUT, names=("seed", "harmless"))
    found = method_figures({"ours": [cell("ours", 3, 0.0, {})]}, held)
    head, first, *_ = csv_text(found, held).splitlines()
    assert head.split(",").count("seed") == 2
    assert first.split(",")[:2] == ["ours", "3"]


def test_ours_alone_has_no_lowest_p():
    assert "no p is below" not in markdown_text(
        method_figures({"ours": [cell("ours", 3, 0.0, {})]}, HELD_OUT), HELD_OUT, {}
    )


def test_a_name_cannot_break_a_table_or_order_a_terminal_about(methods):
    held = replace(HELD_OUT, names=("a\nb", "c\x1b[2J"))
    text = markdown_text(methods, held, {})
    assert "\x1b" not in text
    assert "a\nb" not in text
