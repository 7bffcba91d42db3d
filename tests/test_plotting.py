"""Plots: every point is where it belongs, nothing leaks into pyplot, and what is asked for is drawn."""

import numpy as np
import pytest
from matplotlib import colors, pyplot, rc_context, rcParams
from matplotlib.collections import LineCollection
from matplotlib.image import imread

from mopref.front import Front
from mopref.plotting import plot_front, plot_training


def front_of(objectives, points=15, maximize=False, seed=0):
    rng = np.random.default_rng(seed)
    names = ("helpful", "harmless", "humour", "brevity", "truth")[:objectives]
    return Front(rng.dirichlet(np.ones(objectives), points), rng.random((points, objectives)), names, maximize)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def scatter_with(axes, count):
    found = [c for c in axes.collections if len(c.get_offsets()) == count]
    assert len(found) == 1
    return found[0]


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
    drawn = scatter_with(axes, 15)
    assert np.asarray(drawn.get_offsets()).tolist() == front.values.tolist()
    assert np.asarray(drawn.get_array()).tolist() == front.preferences[:, 0].tolist()
    assert drawn.get_clim() == (0.0, 1.0)
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert ((front.values > [low, bottom]) & (front.values < [high, top])).all()


def test_the_thin_line_follows_the_preference():
    front = Front([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]], [[1, 1], [2, 0], [0, 2]], ("a", "b"))
    (line,) = front.plot().axes[0].lines
    assert line.get_xydata().tolist() == [[2, 0], [1, 1], [0, 2]]


def test_dominated_points_have_a_dark_edge_and_a_legend():
    front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[0, 1], [2, 2], [1, 0]], ("a", "b"))
    axes = front.plot().axes[0]
    edges = [colors.to_hex(c) for c in scatter_with(axes, 3).get_edgecolors()]
    assert edges == ["#ffffff", "#000000", "#ffffff"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dominated"]
    assert front.non_dominated().plot().axes[0].get_legend() is None


def test_three_objectives_draw_every_point():
    front = front_of(3, points=30)
    axes = front.plot(true_front=np.eye(3), reference_values={"base": [0.5, 0.5, 0.5]}).axes[0]
    drawn = [np.stack(c._offsets3d, axis=1) for c in axes.collections]
    assert any(d.shape == (30, 3) and np.array_equal(d, front.values) for d in drawn)
    assert any(d.shape == (3, 3) and np.array_equal(d, np.eye(3)) for d in drawn)
    assert [t.strip() for t in texts(axes)] == ["base"]


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
        plot_training([{"step": 1, "loss/a": 1.0}])
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
    with pytest.raises(ValueError, match="one objective"):
        plot_front(front_of(1))


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_few_and_equal_points_are_drawn(objectives, points, tmp_path):
    front = Front(np.eye(objectives)[[0] * points], np.ones((points, objectives)), tuple("abcd"[:objectives]))
    front.plot(tmp_path / "front.svg", true_front=front.values[:1])
    assert (tmp_path / "front.svg").stat().st_size > 1000


def test_training_draws_each_loss(tmp_path):
    history = [{"step": s, "loss/a": 1.0 / (s + 1), "lr": 0.1} for s in range(3)]
    history += [{"step": 3, "loss/a": float("nan"), "loss/b": 2.0}, {"step": 4, "seconds": 1.0}, {"loss/a": 7.0}]
    axes = plot_training(history, tmp_path / "losses.png").axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert set(lines) == {"a", "b"}
    assert lines["a"][:, 0].tolist() == [0, 1, 2, 3]
    assert lines["a"][:3, 1].tolist() == [1.0, 1 / 2, 1 / 3]
    assert np.isnan(lines["a"][3, 1])
    assert lines["b"].tolist() == [[3.0, 2.0]]
    assert (tmp_path / "losses.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="1 records"):
        plot_training([{"step": 1, "lr": 0.1}])
