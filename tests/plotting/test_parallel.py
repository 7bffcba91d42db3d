"""More than three objectives: a line for each point, each axis from its smallest to its largest number."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from plotting_inputs import front_of

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
