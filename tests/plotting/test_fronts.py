"""Plots: every point is where it belongs, nothing leaks into pyplot, and what is asked for is drawn."""

import numpy as np
import pytest
from matplotlib import pyplot, rc_context, rcParams
from matplotlib.collections import LineCollection
from matplotlib.image import imread
from seaborn.utils import relative_luminance

from mopref.front import Front
from mopref.plotting import plot_calibration, plot_front, plot_heat_map, plot_hypervolume, plot_training
from mopref.plotting.space import _surface


def front_of(objectives, points=15, maximize=False, seed=0):
    rng = np.random.default_rng(seed)
    names = ("helpful", "harmless", "humour", "brevity", "truth")[:objectives]
    return Front(rng.dirichlet(np.ones(objectives), points), rng.random((points, objectives)), names, maximize)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def scatters(axes, three_dimensional=False):
    """Points and their colours' numbers, of every scatter plot that is coloured by λ."""
    colored = [c for c in axes.collections if c.get_array() is not None and not isinstance(c, LineCollection)]
    if three_dimensional:
        places = [np.stack(c._offsets3d, axis=1) for c in colored]
    else:
        places = [np.asarray(c.get_offsets()) for c in colored]
    return np.concatenate(places), np.concatenate([c.get_array() for c in colored])


def by_row(array):
    return array[np.lexsort(array.T)]


@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_writes_a_picture(objectives, tmp_path):
    path = tmp_path / "new" / "front.png"
    front_of(objectives).plot(path, title="a title")
    picture = imread(path)
    assert picture.shape[0] > 600
    assert picture.shape[1] > 900
    assert picture[..., :3].std() > 0.01  # not blank


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
    kept, dominated = (c for c in axes.collections if len(c.get_offsets()) and c.get_array() is not None)
    assert np.asarray(dominated.get_offsets()).tolist() == [[2, 2]]
    assert len(kept.get_paths()[0].vertices) != len(dominated.get_paths()[0].vertices)  # a circle and a square
    assert kept.get_linewidths()[0] < dominated.get_linewidths()[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dominated"]
    assert front.non_dominated().plot().axes[0].get_legend() is None


def test_pale_points_have_a_dark_edge():
    front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], ("a", "b"))
    (drawn,) = front.plot().axes[0].collections
    assert relative_luminance(drawn.get_edgecolors()[0]) < 0.1


def test_the_colors_of_preferences_are_ordered_in_grey():
    front = Front(np.stack([np.linspace(0, 1, 50), np.linspace(1, 0, 50)], 1), np.eye(2)[[0] * 50], ("a", "b"))
    figure = front.plot()
    figure.draw_without_rendering()
    luminance = [relative_luminance(color) for color in figure.axes[0].collections[0].get_facecolors()]
    assert (np.diff(luminance) > 0).all()
    assert luminance[-1] < 0.75  # not lost on white


def test_three_objectives_draw_every_point():
    front = front_of(3, points=30)
    axes = front.plot(true_front=np.eye(3), reference_values={"base": [0.5, 0.5, 0.5]}).axes[0]
    places, colored = scatters(axes, three_dimensional=True)
    assert by_row(places).tolist() == by_row(front.values).tolist()
    assert sorted(colored) == sorted(front.preferences[:, 0])
    (known,) = [c for c in axes.collections if c.get_label() == "true front"]
    assert np.stack(known._offsets3d, axis=1).tolist() == np.eye(3).tolist()
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


@pytest.mark.parametrize("known", [np.eye(3), np.ones((9, 3)), np.outer(np.arange(9), [1, -1, 2])], ids=str)
def test_a_true_front_without_an_area_is_drawn_as_points(known):
    front = Front(np.eye(3), np.eye(3), ("a", "b", "c"))
    assert len(_surface(np.asarray(known, dtype=float), front)) == 0
    (drawn,) = [c for c in front.plot(true_front=known).axes[0].collections if c.get_label() == "true front"]
    assert len(drawn._offsets3d[0]) == len(known)


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


def test_labels_say_direction_and_preference():
    figure = front_of(2, maximize=(False, True)).plot(title="a title")
    axes, bar = figure.axes
    assert axes.get_xlabel() == "← helpful (lower is better)"
    assert axes.get_ylabel() == "harmless (higher is better) →"
    assert bar.get_ylabel() == "λ helpful"
    assert axes.get_title() == "a title"
    ticks = [t.get_text() for t in front_of(4, maximize=True).plot().axes[0].get_xticklabels()]
    assert ticks[3] == "brevity\n(higher is better)"


def test_true_front_is_underneath_and_broken_at_its_gaps():
    first = np.concatenate([np.linspace(0, 0.2, 50), np.linspace(0.7, 1, 50)])
    known = np.stack([first, 1 - first], axis=1)
    axes = front_of(2).plot(true_front=known[::-1]).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "true front")
    data = line.get_xydata()
    assert np.isnan(data).all(axis=1).tolist() == [False] * 50 + [True] + [False] * 50
    assert data[~np.isnan(data[:, 0])].tolist() == known.tolist()
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


def test_nothing_leaks():
    inputs = front_of(2)
    before = inputs.values.copy(), inputs.preferences.copy()
    with rc_context({"grid.color": "red", "axes.labelsize": 3}):
        settings = dict(rcParams)
        inputs.plot(true_front=inputs.values, reference_point=[2, 2])
        inputs.plot_calibration(best_values=inputs.values)
        inputs.plot_heat_map()
        plot_training([{"step": 1, "loss/a": 1.0}])
        plot_hypervolume([{"step": 1, "hypervolume": 1.0}], limits={"a": 2.0})
        assert dict(rcParams) == settings
    assert pyplot.get_fignums() == []
    assert (inputs.values == before[0]).all()
    assert (inputs.preferences == before[1]).all()


def test_wrong_arguments_say_so():
    front = front_of(2)
    with pytest.raises(ValueError, match=r"reference_values\['base'\] must have shape \(2,\)"):
        front.plot(reference_values={"base": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"true_front has shape \(1, 3\), but the front has 2"):
        front.plot(true_front=[[1, 2, 3]])
    with pytest.raises(ValueError, match="true_front has nan at row 0, column 1"):
        front.plot(true_front=[[1, np.nan]])
    with pytest.raises(ValueError, match="reference_point has inf"):
        front.plot(reference_point=[1, np.inf])
    for draw in (plot_front, plot_calibration, plot_heat_map):
        with pytest.raises(ValueError, match="one objective"):
            draw(front_of(1))


@pytest.mark.parametrize("draw", [plot_front, plot_calibration, plot_heat_map])
@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_a_number_that_is_not_finite_is_not_left_out(draw, objectives, tmp_path):
    front = front_of(objectives)
    front.values[4, 1] = np.nan
    with pytest.raises(ValueError, match="values has nan at row 4, column 1"):
        draw(front, tmp_path / "front.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["front", "front.docx"])
def test_a_name_that_is_no_picture_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=rf"Cannot save a picture as '{name}'.*png"):
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


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_few_and_equal_points_are_drawn(objectives, points, tmp_path):
    front = Front(np.eye(objectives)[[0] * points], np.ones((points, objectives)), tuple("abcd"[:objectives]))
    front.plot(tmp_path / "front.svg", true_front=front.values[:1])
    assert (tmp_path / "front.svg").stat().st_size > 1000
