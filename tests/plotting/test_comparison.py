"""Fronts of several runs in one picture: every point is there, and runs are told apart without colour."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.image import imread
from plotting_inputs import by_row, front_of, with_intervals

from mopref.front import Front
from mopref.indicators import non_dominated
from mopref.plotting import plot_comparison


def fronts_of(objectives, count, **options):
    return {f"run {place}": front_of(objectives, seed=place, **options) for place in range(count)}


def legend_texts(figure):
    (legend,) = figure.legends
    return [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]


@pytest.mark.parametrize("objectives", [2, 3, 5])
@pytest.mark.parametrize("count", [1, 4])
def test_writes_a_picture(objectives, count, tmp_path):
    path = tmp_path / "new" / "comparison.png"
    plot_comparison(fronts_of(objectives, count), path, [2.0] * objectives, title="a title")
    picture = imread(path)
    assert min(picture.shape[:2]) > 600
    assert picture[..., :3].std() > 0.01  # not blank


def test_every_point_of_the_plane_is_drawn_in_the_look_of_its_run():
    fronts = fronts_of(2, 3)
    axes = plot_comparison(fronts).axes[0]
    scatters = [c for c in axes.collections if isinstance(c, PathCollection) and c.get_zorder() == 3]
    markers = set()
    for place, front in enumerate(fronts.values()):
        own = scatters[2 * place : 2 * place + 2]
        points = np.concatenate([np.asarray(scatter.get_offsets()) for scatter in own])
        assert (by_row(points) == by_row(front.values)).all()
        # The non-dominated are filled, the dominated hollow.
        filled, hollow = own
        on_front = non_dominated(front.values)
        assert (np.asarray(filled.get_offsets()) == front.values[on_front]).all()
        assert len(hollow.get_offsets()) == len(front) - on_front.sum() > 0
        assert to_hex(hollow.get_facecolors()[0]) == "#ffffff"
        assert to_hex(filled.get_facecolors()[0]) == to_hex(hollow.get_edgecolors()[0]) != "#ffffff"
        markers.add(filled.get_paths()[0].vertices.tobytes())
    assert len(markers) == 3
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 3


def test_a_line_joins_a_runs_points_in_the_order_of_their_preferences():
    front = front_of(2)
    axes = plot_comparison({"one": front}).axes[0]
    drawn = next(line.get_xydata() for line in axes.lines if len(line.get_xydata()))
    assert (drawn == front.values[np.argsort(front.preferences[:, 0])]).all()


def test_intervals_are_bars_in_the_colours_of_their_runs():
    fronts = {"with": with_intervals(front_of(2)), "without": front_of(2, seed=1)}
    figure = plot_comparison(fronts)
    (bars,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    # One point of the front has none.
    assert len(bars.get_segments()) == 2 * (len(fronts["with"]) - 1)
    assert to_hex(bars.get_colors()[0]) == to_hex(figure.axes[0].lines[0].get_color())
    assert "90 % interval" in legend_texts(figure)
    assert "90 % interval" not in legend_texts(plot_comparison({"without": fronts["without"]}))


def test_hypervolumes_are_told_and_a_near_reference_point_is_drawn():
    fronts = fronts_of(2, 2)
    figure = plot_comparison(fronts, reference_point={"harmless": 1.25, "helpful": 1.5})
    title, *texts = legend_texts(figure)
    assert title == "hypervolumes under the reference point (1.5, 1.25)"
    for name, front in fronts.items():
        assert f"{name}: {front.hypervolume([1.5, 1.25]):.4g}" in texts
    assert "reference point" in texts
    # One that would press the runs into a corner is told only.
    far = plot_comparison(fronts, reference_point=[50, 50])
    assert "reference point" not in legend_texts(far)
    assert legend_texts(far)[0] == "hypervolumes under the reference point (50, 50)"
    assert far.axes[0].get_xlim()[1] < 2


def test_three_objectives_are_a_line_a_point_from_the_smallest_to_the_largest():
    fronts = fronts_of(3, 2)
    fronts["run 0"].values[:, 1] = fronts["run 1"].values[:, 1] = 0.25  # no range
    axes = plot_comparison(fronts).axes[0]
    drawn = np.array([line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 3])
    values = np.concatenate([front.values for front in fronts.values()])
    size = np.ptp(values, axis=0)
    size[size == 0] = 1
    assert drawn == pytest.approx((values - values.min(axis=0)) / size)
    looks = {
        (line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines if len(line.get_xdata())
    }
    assert len(looks) == 2


def test_what_cannot_be_drawn_says_so(tmp_path):
    front, path = front_of(2), tmp_path / "comparison.png"
    for fronts, problem in (
        ({}, "fronts is empty"),
        ({"a": front_of(1)}, "the front has one objective"),
        ({"a": front, "b": front_of(3)}, "the objectives of 'b' are helpful ↓, harmless ↓, humour ↓, and those of 'a'"),
        ({"a": front, "b": front_of(2, maximize=True)}, "the objectives of 'b' are helpful ↑, harmless ↑"),
        ({"a": front, "b": Front([[1, 0]], [[1, 2]], ("harmless", "helpful"))}, "'b' are harmless ↓, helpful ↓"),
    ):
        with pytest.raises(ValueError, match=problem):
            plot_comparison(fronts, path)
    with pytest.raises(ValueError, match=r"reference_point has shape \(3,\)"):
        plot_comparison({"a": front}, path, [1, 2, 3])
    front.values[4, 1] = np.nan
    with pytest.raises(ValueError, match="values has nan at row 4, column 1"):
        plot_comparison({"a": front}, path)
    assert list(tmp_path.iterdir()) == []
