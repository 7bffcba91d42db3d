"""What all pictures share: colours ordered in grey, looks that differ, labels, and files that are whole."""

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread
from plotting_inputs import front_of, with_intervals
from seaborn.utils import relative_luminance

from mopref.front import Front
from mopref.plotting import plot_front
from mopref.plotting.style import (
    axis_label,
    check_front,
    interval_bars,
    line_looks,
    preference_colors,
    shown_name,
    tick_label,
)


def test_the_colors_of_preferences_are_ordered_in_grey():
    front = Front(np.stack([np.linspace(0, 1, 50), np.linspace(1, 0, 50)], 1), np.eye(2)[[0] * 50], ("a", "b"))
    figure = front.plot()
    figure.draw_without_rendering()
    luminance = [relative_luminance(color) for color in figure.axes[0].collections[0].get_facecolors()]
    assert (np.diff(luminance) > 0).all()
    assert luminance[-1] < 0.75  # not lost on white


def test_looks_of_lines_differ_without_their_color():
    looks = line_looks(60)
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks}) == 60


def test_points_of_lines_differ_without_their_dashes():
    assert len({(look["color"], look["marker"]) for look in line_looks(60)}) == 60


def test_labels_say_direction_and_preference():
    figure = front_of(2, maximize=(False, True)).plot(title="a title")
    axes, bar = figure.axes
    assert axes.get_xlabel() == "← helpful (lower is better)"
    assert axes.get_ylabel() == "harmless (higher is better) →"
    assert bar.get_ylabel() == "λ helpful"
    assert axes.get_title() == "a title"
    ticks = [t.get_text() for t in front_of(4, maximize=True).plot().axes[0].get_xticklabels()]
    assert ticks[3] == "brevity\n(higher is better)"


def test_fronts_that_cannot_be_drawn_are_refused():
    check_front(front_of(2))
    with pytest.raises(ValueError, match=r"the front has one objective \(helpful\): there is no trade-off"):
        check_front(front_of(1))
    front = front_of(2)
    front.preferences[3, 0] = np.inf
    with pytest.raises(ValueError, match="preferences has inf at row 3, column 0"):
        check_front(front)


@pytest.mark.parametrize("name", ["front", "front.docx"])
def test_a_name_that_is_no_picture_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=rf"'{name}' names no picture: it must end in one of .*png"):
        front_of(2).plot(tmp_path / "folder" / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_save_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "front.png"
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise OSError("disk full")

    for broken in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            with pytest.raises(OSError, match="disk full"):
                front_of(2).plot(path)
        assert path.read_bytes() == b"old"
        assert [file.name for file in tmp_path.iterdir()] == ["front.png"]
    front_of(2).plot(path)
    assert imread(path).shape[2] == 4


def test_a_bar_goes_through_its_point_along_the_axis_of_its_objective():
    front = with_intervals(front_of(3, points=4))
    bars = interval_bars(front)
    assert sorted(zip(bars.rows.tolist(), bars.objectives.tolist(), strict=True)) == [
        (row, objective) for row in (1, 2, 3) for objective in range(3)
    ]
    for row, objective, ends in zip(bars.rows, bars.objectives, bars.ends, strict=True):
        step = np.eye(3)[objective]
        assert ends == pytest.approx(np.stack([front.values[row] - 0.05 * step, front.values[row] + 0.1 * step]))
    color_map, scale = preference_colors()
    assert np.array_equal(bars.look["colors"], color_map(scale(front.preferences[bars.rows, 0])))


def test_bars_are_named_with_the_level_that_is_known():
    assert interval_bars(with_intervals(front_of(2))).key["label"] == "90 % interval"
    assert interval_bars(with_intervals(front_of(2), 0.975)).key["label"] == "97.5 % interval"
    assert interval_bars(with_intervals(front_of(2), None)).key["label"] == "interval"
    assert interval_bars(front_of(2)).ends.shape == (0, 2, 2)


def test_a_name_with_dollars_is_no_formula():
    from mopref.plotting import plot_training

    figure = plot_training([{"step": 1, "loss/cost in $ \\frac$": 1.0}], title="a $ b $")
    figure.draw_without_rendering()
    (line,) = figure.axes[0].get_legend().get_texts()
    assert (line.get_text(), line.get_parse_math()) == ("cost in $ \\frac$", False)


def test_a_name_is_drawn_without_what_no_picture_can_hold(tmp_path):
    names = ("a\x1b[31m", "b\x00")
    front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], names)
    figure = front.plot(tmp_path / "front.svg")
    assert figure.axes[0].get_xlabel() == r"← a\x1b[31m (lower is better)"
    ElementTree.parse(tmp_path / "front.svg")  # a control character would be no XML


def test_a_title_that_no_font_can_show_is_told(tmp_path):
    with pytest.raises(ValueError, match="the picture could not be drawn"):
        plot_front(front_of(2), tmp_path / "front.png", title="\ud800")
    assert not list(tmp_path.iterdir())


def test_a_name_of_any_length_is_a_label():
    """One of 100,000 signs took minutes to lay out, and left no room for the picture."""
    front = Front(np.eye(2), np.eye(2), ("x" * 100_000, "y"))
    label = axis_label(front, 0)
    assert label == f"← {'x' * 99}… (lower is better)"
    assert tick_label(front, 0).startswith(f"{'x' * 99}…\n")
    assert len(shown_name("\x1b" * 100_000)) == 100
