"""Three objectives: every point in space, over a surface that bridges no gap."""

import numpy as np
import pytest
from mpl_toolkits.mplot3d import proj3d
from plotting_inputs import bars_of, by_row, front_of, scatters, texts, with_intervals

from mopref.front import Front
from mopref.plotting.space import _surface
from mopref.plotting.style import interval_bars


def test_three_objectives_draw_every_point():
    front = front_of(3, points=30)
    axes = front.plot(true_front=np.eye(3), reference_values={"base": [0.5, 0.5, 0.5]}).axes[0]
    places, colored = scatters(axes, three_dimensional=True)
    assert by_row(places).tolist() == by_row(front.values).tolist()
    assert sorted(colored) == sorted(front.preferences[:, 0])
    (true_points,) = [c for c in axes.collections if c.get_label() == "true front"]
    assert np.stack(true_points._offsets3d, axis=1).tolist() == np.eye(3).tolist()
    assert [t.strip() for t in texts(axes)] == ["base"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["true front", "dominated"]


def sphere_octant(side):
    weights = np.array([(i, j, side - i - j) for i in range(side + 1) for j in range(side + 1 - i)], dtype=float)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


@pytest.mark.parametrize("maximize", [False, True, (False, True, False)])
def test_the_true_front_in_space_is_a_surface_without_bridges(maximize):
    octant = sphere_octant(12)
    flip = np.where(np.broadcast_to(maximize, 3), -1.0, 1.0)
    front = Front(np.eye(3), octant[:3] * flip, ("a", "b", "c"), maximize)
    triangles = _surface(octant * flip, front)
    # A lattice of this side has side² small triangles.
    assert len(triangles) == 12**2
    assert set(triangles.ravel()) == set(range(len(octant)))
    patches = octant[(octant[:, 0] < 0.3) | (octant[:, 0] > 0.8)] * flip
    corners = np.abs(patches[_surface(patches, front)])
    assert len(corners) > 50
    assert np.ptp(corners[:, :, 0], axis=1).max() < 0.5


@pytest.mark.parametrize("true_front", [np.eye(3), np.ones((9, 3)), np.outer(np.arange(9), [1, -1, 2])], ids=str)
def test_a_true_front_without_an_area_is_drawn_as_points(true_front):
    front = Front(np.eye(3), np.eye(3), ("a", "b", "c"))
    assert len(_surface(np.asarray(true_front, dtype=float), front)) == 0
    (scatter,) = [c for c in front.plot(true_front=true_front).axes[0].collections if c.get_label() == "true front"]
    assert len(scatter._offsets3d[0]) == len(true_front)


def test_intervals_are_segments_in_space():
    front = with_intervals(front_of(3))
    axes = front.plot().axes[0]
    ends = interval_bars(front).ends
    assert np.array(bars_of(axes)._segments3d) == pytest.approx(ends)
    assert by_row(scatters(axes, three_dimensional=True)[0]).tolist() == by_row(front.values).tolist()
    limits = np.array([axes.get_xlim(), axes.get_ylim(), axes.get_zlim()])
    everything = np.vstack([front.values, *ends])
    assert (everything > limits[:, 0]).all()
    assert (everything < limits[:, 1]).all()
    assert (np.ptp(everything, axis=0) > 0.8 * np.ptp(limits, axis=1)).all(), "no room for what is not there"
    assert "90 % interval" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_two_marks_with_equal_numbers_have_labels_apart():
    figure = front_of(3).plot(reference_values={"base model": [0.7] * 3}, reference_point=[0.75] * 3)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    first, second = axes.texts
    for text in (first, second):
        # Matplotlib puts a text of space where it is seen only while drawing it.
        across, up, _ = proj3d.proj_transform(*text.get_position_3d(), axes.get_proj())
        text.set_position((across, up))
    assert not first.get_window_extent().padded(-3).overlaps(second.get_window_extent())
