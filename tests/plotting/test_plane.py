"""Two objectives: every point where it belongs, in its colour, and labels that hide nothing."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from plotting_inputs import bars_of, by_row, front_of, scatters, texts, with_intervals
from seaborn.utils import relative_luminance

from mopref.front import Front
from mopref.front.intervals import interval_columns
from mopref.plotting.style import interval_bars


def test_two_objectives_draw_every_point_with_its_color():
    front = front_of(2)
    # Copies and near copies: a plot that merges by a tolerance would lose these.
    front.values[3] = front.values[4]
    front.values[5] = front.values[4] + 1e-12
    axes = front.plot().axes[0]
    places, colored = scatters(axes)
    drawn = np.column_stack([places, colored])
    assert by_row(drawn).tolist() == by_row(np.column_stack([front.values, front.preferences[:, 0]])).tolist()
    assert {c.get_clim() for c in axes.collections if c.get_array() is not None} == {(0.0, 1.0)}
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert ((front.values > [low, bottom]) & (front.values < [high, top])).all()


def test_the_thin_line_follows_the_preference():
    front = Front([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]], [[1, 1], [2, 0], [0, 2]], ("a", "b"))
    (line,) = front.plot().axes[0].lines
    assert line.get_xydata().tolist() == [[2, 0], [1, 1], [0, 2]]


def test_dominated_points_have_another_shape_and_a_legend():
    front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[0, 1], [2, 2], [1, 0]], ("a", "b"))
    axes = front.plot().axes[0]
    on_front, dominated = (c for c in axes.collections if len(c.get_offsets()) and c.get_array() is not None)
    assert np.asarray(dominated.get_offsets()).tolist() == [[2, 2]]
    assert len(on_front.get_paths()[0].vertices) != len(dominated.get_paths()[0].vertices)  # a circle and a square
    assert on_front.get_linewidths()[0] < dominated.get_linewidths()[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dominated"]
    assert front.non_dominated().plot().axes[0].get_legend() is None


def test_pale_points_have_a_dark_edge():
    front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], ("a", "b"))
    (drawn,) = front.plot().axes[0].collections
    assert relative_luminance(drawn.get_edgecolors()[0]) < 0.1


def test_true_front_is_underneath_and_broken_at_its_gaps():
    first = np.concatenate([np.linspace(0, 0.2, 50), np.linspace(0.7, 1, 50)])
    true_front = np.stack([first, 1 - first], axis=1)
    axes = front_of(2).plot(true_front=true_front[::-1]).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "true front")
    data = line.get_xydata()
    assert np.isnan(data).all(axis=1).tolist() == [False] * 50 + [True] + [False] * 50
    assert data[~np.isnan(data[:, 0])].tolist() == true_front.tolist()
    assert line.get_zorder() < min(line.get_zorder() for line in axes.lines if line.get_label() != "true front")


def test_reference_point_and_values_are_labelled_without_overlap():
    front = front_of(2)
    crowd = {"base model": [0.8, 0.8], "supervised": [0.81, 0.8], "summed objectives": [0.8, 0.81]}
    figure = front.plot(reference_values=crowd, reference_point=[1.1, 1.1])
    axes = figure.axes[0]
    assert texts(axes)[:3] == list(crowd)
    assert texts(axes)[3] == f"reference point\n(hypervolume {front.hypervolume([1.1, 1.1]):.4g})"
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_intervals_are_thin_bars_behind_the_points_in_their_colors():
    front = with_intervals(front_of(2))
    axes = front.plot().axes[0]
    bars, expected = bars_of(axes), interval_bars(front)
    assert np.array(bars.get_segments()) == pytest.approx(expected.ends)
    assert bars.get_colors()[:, :3] == pytest.approx(to_rgba_array(expected.look["colors"])[:, :3])
    points = [c for c in axes.collections if c.get_array() is not None]
    assert all(bars.get_zorder() < c.get_zorder() for c in points)
    assert max(bars.get_linewidths()) < 1.5
    assert by_row(scatters(axes)[0]).tolist() == by_row(front.values).tolist()
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["90 % interval", "dominated"]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert ((expected.ends > [left, bottom]) & (expected.ends < [right, top])).all()


def test_without_intervals_there_are_no_bars():
    axes = front_of(2).non_dominated().plot().axes[0]
    assert not any(isinstance(c, LineCollection) for c in axes.collections)
    assert axes.get_legend() is None


def test_labels_keep_off_the_bars():
    # Only to the left of the mark, and below it, nothing is drawn.
    extra = interval_columns("a", [[0.0, 1.0]] * 3) | interval_columns("b", np.full((3, 2), np.nan))
    front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[1, 0.53], [1, 0.5], [1, 0.47]], ("a", "b"), extra=extra)
    figure = front.plot(reference_values={"base": [0.0, 0.5], "far": [2.0, -4.0]})
    axes = figure.axes[0]
    figure.draw_without_rendering()
    (label,) = [text for text in axes.texts if text.get_text() == "base"]
    box = label.get_window_extent()
    for ends in axes.transData.transform(np.array(bars_of(axes).get_segments()).reshape(-1, 2)).reshape(-1, 2, 2):
        along = ends[0] + np.linspace(0, 1, 500)[:, None] * (ends[1] - ends[0])
        assert box.count_contains(along) == 0
