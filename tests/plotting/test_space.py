"""Three objectives: every point in space, over a surface that bridges no gap."""

import numpy as np
import pytest
from plotting_inputs import by_row, front_of, scatters, texts

from mopref.front import Front
from mopref.plotting.space import _surface


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
