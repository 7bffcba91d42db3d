"""The pictures of a report draw every measurement: which there are follows from what was recorded."""

import json

import numpy as np
import pytest
from _run_folders import NAMES, front_of, write_run

from mopref.recipes import MonitoringSettings
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
    assert lines == [[[0, 1], [5, -4], [10, -9]], [[0, 3], [5, 3], [10, 3]]]
    assert np.isnan(second.lines[1].get_ydata()).all()


def evaluations_of(names, steps=(0, 5), **figures):
    """Evaluations at the corners and in the middle, each figure the same at every point."""
    places = [*np.eye(len(names)).tolist(), [1 / len(names)] * len(names)]
    points = [{"preference": dict(zip(names, weights, strict=True)), **figures} for weights in places]
    return [{"step": step, "hypervolume": step / 10, "points": points} for step in steps]


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c"), tuple("abcdefghi")])
def test_each_preference_has_its_look_and_its_name_in_one_legend(names):
    figure = _curves(evaluations_of(names, kl=1.0, sampled_length=2), {"kl": "kl\n", "sampled_length": "n\n"}, names)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*names, "even"]
    looks = [[(line.get_color(), line.get_marker()) for line in axes.lines] for axes in figure.axes]
    # Those whose first weight is 0 alike are told apart, and a λ looks the same in every panel.
    assert len({color for color, _ in looks[0]}) == len({marker for _, marker in looks[0]}) == len(names) + 1
    assert looks[0] == looks[1]
    assert [(line.get_color(), line.get_marker()) for line in legend.get_lines()] == looks[0]
    assert not any(axes.get_legend() for axes in figure.axes)


def test_a_legend_of_long_names_does_not_cover_the_panels():
    names = tuple(f"a long name of an objective, {number}" for number in range(8))
    figure = _curves(evaluations_of(names, kl=1.0), {"kl": "kl\nnats"}, names)
    figure.draw_without_rendering()
    top = figure.legends[0].get_window_extent().y1
    assert top <= figure.axes[0].get_tightbbox().y0
    assert figure.axes[0].get_window_extent().height > 100


def test_intervals_are_bands_where_they_are_known():
    evaluations = evaluations_of(("a", "b"), (0, 5, 10), kl=1.0, sampled_length=2.0)
    for entry, ends in zip(evaluations, ([0.5, 1.5], None, [0.75, 1.25]), strict=True):
        entry["points"] = [
            {**point, "intervals": {"kl": ends, "sampled_length": [None, None]}} for point in entry["points"]
        ]
        entry["points"][1] = {key: value for key, value in entry["points"][1].items() if key != "intervals"}
    panels = {"kl": "kl\n", "sampled_length": "n\n"}
    known, unknown = _curves(evaluations, panels, ("a", "b")).axes
    heights = [
        set(np.concatenate([[], *(path.vertices[:, 1] for path in band.get_paths())])) for band in known.collections
    ]
    assert heights == [{0.5, 1.5, 0.75, 1.25}, set(), {0.5, 1.5, 0.75, 1.25}]
    assert not any(len(path.vertices) for band in unknown.collections for path in band.get_paths())
    # Of one evaluation there is no band, but a bar.
    (bars, *_) = _curves(evaluations[:1], panels, ("a", "b")).axes[0].collections
    assert bars.get_segments()[0].tolist() == [[0, 0.5], [0, 1.5]]


def with_evaluations(folder, steps, evaluations, **settings):
    """The files of a run with these steps and evaluations."""
    folder = write_run(folder, 3, monitoring=MonitoringSettings(evaluation_every=5, **settings))
    versions = json.loads((folder / "versions.json").read_text())
    (folder / "versions.json").write_text(json.dumps({**versions, **steps}))
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in evaluations))
    return read_run_files(folder)


@pytest.mark.parametrize(
    ("steps", "keep_best", "marked"),
    [
        ({"steps": 10, "adapter_step": 5}, True, [5]),
        ({"steps": 10, "adapter_step": 10}, True, [10]),
        ({"steps": 10, "adapter_step": 10}, False, []),
        ({"steps": 10, "adapter_step": 5}, False, [5]),
        ({"adapter_step": 5}, True, [5]),
        ({}, True, []),
    ],
)
def test_the_kept_step_is_marked(steps, keep_best, marked, tmp_path, drawn):
    evaluations = evaluations_of(NAMES[:3], (0, 5, 10))
    files = with_evaluations(tmp_path / "run", steps, evaluations, keep_best=keep_best)
    (picture,) = (picture for picture in training_pictures(files) if picture.title == "Held-out hypervolume")
    (axes,) = picture.markup.axes
    lines = [line for line in axes.lines if line.get_label() == "kept adapter"]
    assert [line.get_xdata()[0] for line in lines] == marked
    assert bool(marked) == ("The kept adapter is of step" in picture.caption)
    legend = axes.get_legend()
    assert ([text.get_text() for text in legend.get_texts()] if legend else []) == ["kept adapter"] * len(marked)


def test_captions_say_what_bands_and_colours_are(tmp_path, drawn):
    evaluations = evaluations_of(NAMES[:3], kl=1.0, **{"loss/helpful": 0.5})
    for point in evaluations[0]["points"]:
        point["intervals"] = {"kl": [0.5, 1.5], "loss/helpful": [None, None]}
    captions = {
        picture.title: picture.caption
        for picture in training_pictures(with_evaluations(tmp_path / "run", {}, evaluations))
    }
    assert "Bands are the 90 % intervals" in captions["Distance and length"]
    assert "Bands" not in captions["Held-out losses"]
    for picture in front_pictures(front_of(3))[:2]:
        assert "The colour is λ helpful, the weight of the first objective." in picture.caption
        assert "λ helpful" in [axes.get_ylabel() for axes in picture.markup.axes]


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
