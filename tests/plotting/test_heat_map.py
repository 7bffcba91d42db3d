"""Heat maps: a row for each point, in order, with colours from best to worst and readable numbers."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from seaborn.utils import relative_luminance

from mopref.front import Front
from mopref.plotting import plot_heat_map


def shuffled(points=12, objectives=5, maximize=False, seed=0):
    rng = np.random.default_rng(seed)
    return Front(
        rng.dirichlet(np.ones(objectives), points),
        rng.random((points, objectives)),
        tuple("abcde"[:objectives]),
        maximize,
    )


def cells(axes, objectives):
    return np.asarray(axes.collections[0].get_array()).reshape(-1, objectives)


def test_every_point_is_a_row_in_the_order_of_its_preference():
    front = shuffled()
    front.values[2] = front.values[3]
    left, right, _ = plot_heat_map(front).axes
    order = np.argsort(-front.preferences[:, 0])
    assert cells(left, 5).tolist() == front.preferences[order].tolist()
    low, size = front.values.min(axis=0), np.ptp(front.values, axis=0)
    assert cells(right, 5) == pytest.approx((front.values[order] - low) / size)
    written = np.array([float(text.get_text()) for text in right.texts]).reshape(-1, 5)
    assert written == pytest.approx(front.values[order], rel=6e-3)
    assert [text.get_text() for text in left.texts[:5]] == [f"{x:.2f}" for x in front.preferences[order[0]]]
    # Both sides start at the top.
    assert left.get_ylim() == right.get_ylim() == (12, 0)


def test_ties_are_ordered_by_the_next_objective():
    preferences = [[0.0, 0.0, 1.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    front = Front(preferences, np.arange(12).reshape(4, 3), ("a", "b", "c"))
    expected = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 1, 0], [0, 0, 1]]
    assert cells(plot_heat_map(front).axes[0], 3).tolist() == expected


def test_the_best_is_dark_in_either_direction():
    front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[0, 1], [2, 3], [4, 3]], ("a", "b"), maximize=(False, True))
    figure = plot_heat_map(front, title="a title")
    left, right, bar = figure.axes
    assert cells(right, 2).tolist() == [[0, 1], [0.5, 0], [1, 0]]
    figure.draw_without_rendering()
    best, *_, worst = (relative_luminance(color) for color in right.collections[0].get_facecolors()[[0, 2, 4]])
    assert best < worst
    assert [t.get_text() for t in bar.get_yticklabels()] == ["best of\nthis front", "worst of\nthis front"]
    assert [t.get_text() for t in right.get_xticklabels()] == ["a ↓", "b ↑"]
    assert [t.get_text() for t in left.get_xticklabels()] == ["λ a", "λ b"]
    assert figure.get_suptitle() == "a title"


def test_numbers_contrast_with_their_cells():
    front = shuffled(points=20)
    for axes in plot_heat_map(front).axes[:2]:
        colors = axes.collections[0].get_facecolors()
        assert len(axes.texts) == len(colors) == 100
        for number, color in zip(axes.texts, colors, strict=True):
            a, b = sorted([relative_luminance(color), relative_luminance(to_rgb(number.get_color()))])
            assert (b + 0.05) / (a + 0.05) >= 4.5  # the contrast ratio asked for of small text


def test_dominated_rows_are_marked_beside_the_table():
    front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[0, 1], [2, 2], [1, 0]], ("a", "b"))
    figure = plot_heat_map(front)
    (marks,) = [c for c in figure.axes[1].collections if c.get_label() == "dominated"]
    ((place, row),) = np.asarray(marks.get_offsets())
    assert place > 2
    assert row == 1.5
    assert len(figure.legends) == 1
    assert plot_heat_map(front.non_dominated()).legends == []


def test_large_tables_have_no_numbers_but_every_row():
    left, right, _ = plot_heat_map(shuffled(points=300)).axes
    assert len(left.texts) == len(right.texts) == 0
    assert len(cells(right, 5)) == 300


def test_an_objective_without_any_range():
    front = Front(np.eye(4), np.ones((4, 4)), tuple("abcd"))
    assert (cells(plot_heat_map(front).axes[1], 4) == 0).all()


def test_long_names_do_not_overlap(tmp_path):
    names = tuple(f"quite a long name {i}" for i in range(6))
    figure = plot_heat_map(Front(np.eye(6), np.eye(6), names), tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 5000
    assert {label.get_rotation() for label in figure.axes[1].get_xticklabels()} == {30.0}
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    boxes = [label.get_window_extent() for axes in figure.axes for label in axes.get_xticklabels()]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
