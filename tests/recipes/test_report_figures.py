"""The pictures of a report draw every measurement: which there are follows from what was recorded."""

import numpy as np
import pytest
from _run_folders import front_of, write_run

from mopref.recipes.report_figures import _curves, front_pictures, training_pictures
from mopref.recipes.run_files import read_run_files


@pytest.fixture
def drawn(monkeypatch):
    """Pictures without their markup, which takes the time: the figures in its place."""
    monkeypatch.setattr("mopref.recipes.report_figures.inline_svg", lambda figure, name, label: figure)


@pytest.mark.parametrize(
    ("count", "titles"),
    [
        (2, ["The front", "Each objective under its own weight"]),
        (3, ["The front", "Across the objectives", "Each objective under its own weight"]),
        (4, ["The front", "Each objective under its own weight"]),
    ],
)
def test_fronts_of_two_three_and_more_objectives(count, titles, drawn):
    pictures = front_pictures(front_of(count))
    assert [picture.title for picture in pictures] == titles
    assert [picture.is_wide for picture in pictures] == [False] * (len(titles) - 1) + [count > 2]
    assert "Bars are the intervals" in pictures[0].caption


def test_curves_are_those_that_were_measured(tmp_path, drawn):
    files = read_run_files(write_run(tmp_path / "run", 3))
    titles = [picture.title for picture in training_pictures(files)]
    assert titles == [
        "Training losses",
        "Held-out hypervolume",
        "Held-out losses",
        "Held-out accuracies",
        "Distance and length",
    ]
    for name in ("evaluations.jsonl", "log.jsonl"):
        (tmp_path / "run" / name).unlink()
    assert training_pictures(read_run_files(tmp_path / "run")) == []


def test_a_line_for_each_preference(tmp_path):
    evaluations = [
        {
            "step": step,
            "points": [
                {"preference": {"a": 1.0, "b": 0.0}, "loss/a": 1.0 - step, "loss/b": 2.0},
                {"preference": {"a": 0.0, "b": 1.0}, "loss/a": 3.0, "loss/b": None},
            ],
        }
        for step in (0, 5, 10)
    ]
    figure = _curves(evaluations, {"loss/a": "a\nloss", "loss/b": "b\nloss"}, ("a", "b"))
    first, second = figure.axes
    assert first.get_title() == "a"
    lines = [line.get_xydata().tolist() for line in first.lines]
    assert lines == [[[0, 3], [5, 3], [10, 3]], [[0, 1], [5, -4], [10, -9]]]
    assert np.isnan(second.lines[0].get_ydata()).all()
    assert first.lines[0].get_color() != first.lines[1].get_color()


def test_one_objective_and_one_point_have_no_trade_off_to_draw(drawn):
    from mopref import Front

    assert front_pictures(Front([[1.0]], [[0.5]], ["a"])) == []
    assert [picture.title for picture in front_pictures(Front([[1, 0]], [[0.5, 1]], ["a", "b"]))] == ["The front"]


def test_a_base_that_was_not_measured_is_not_drawn(drawn):
    front = front_of(4)
    base = [text.get_text() for text in front_pictures(front)[0].markup.legends[0].get_texts()]
    assert "base model" in base
    front.metadata["base_losses"] = [None] * 4
    legends = front_pictures(front)[0].markup.legends
    assert "base model" not in [text.get_text() for legend in legends for text in legend.get_texts()]
