"""More than three objectives: a line for each point, each axis from its smallest to its largest number."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from plotting_inputs import bars_of, front_of, with_intervals

from mopref.front import Front


def test_many_objectives_draw_a_line_a_point():
    front = front_of(5, points=20)
    front.values[:, 2] = 0.25  # no range
    axes = front.plot(true_front=np.ones((7, 5)), reference_values={"base": [0.5] * 5}).axes[0]
    segments = {len(c.get_segments()): c for c in axes.collections if isinstance(c, LineCollection)}
    drawn = np.array(segments[20].get_segments())[:, :, 1]
    low, size = np.minimum(front.values.min(0), 0.5), 1 - np.minimum(front.values.min(0), 0.5)
    assert drawn == pytest.approx((front.values - low) / size)
    assert np.asarray(segments[20].get_array()).tolist() == front.preferences[:, 0].tolist()
    assert 7 in segments


def test_parallel_coordinates_without_any_range():
    front = Front(np.eye(4), np.ones((4, 4)), tuple("abcd"))
    (drawn,) = [c for c in front.plot().axes[0].collections if len(c.get_segments()) == 4]
    assert np.array(drawn.get_segments()).tolist() == [[[place, 0.0] for place in range(4)]] * 4


def test_lines_cross_the_axes_side_by_side_in_the_order_of_the_preference_each_through_its_bars():
    front = with_intervals(front_of(4, points=21))
    figure = front.plot()
    axes = figure.axes[0]
    (drawn,) = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_array() is not None]
    lines = np.array(drawn.get_segments())
    sides = lines[:, :, 0] - np.arange(4)
    assert np.abs(sides).max() < 0.15
    assert np.diff(sides[np.argsort(front.preferences[:, 0])], axis=0).min() > 0
    bars = np.array(bars_of(axes).get_segments())
    assert len(bars) == 20 * 4
    assert bars.min(axis=(0, 1))[1] == 0.0
    assert bars.max(axis=(0, 1))[1] == 1.0
    low, high = bars[:, 0], bars[:, 1]
    assert np.array_equal(low[:, 0], high[:, 0]), "bars are upright"
    # Each is a third below its point.
    assert (low + (high - low) / 3).reshape(20, 4, 2) == pytest.approx(lines[1:])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["90 % interval"]


def test_one_point_with_intervals_stays_on_its_axes():
    front = with_intervals(front_of(4, points=2))
    front = Front(
        front.preferences[1:], front.values[1:], front.names, extra={k: v[1:] for k, v in front.extra.items()}
    )
    bars = np.array(bars_of(front.plot().axes[0]).get_segments())
    assert bars.tolist() == [[[place, 0.0], [place, 1.0]] for place in range(4)]
