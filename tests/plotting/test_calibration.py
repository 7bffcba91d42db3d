"""Calibration pictures: every point in its panel, and exactly the steps that go the wrong way are marked."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.collections import LineCollection, PathCollection

from mopref import simplex_lattice
from mopref.front import Front
from mopref.plotting import plot_calibration
from mopref.plotting.calibration import _steps, _wrong_steps


def two(values, **options):
    weights = np.linspace(0, 1, len(values))
    return Front(np.stack([weights, 1 - weights], axis=1), values, ("a", "b"), **options)


def points(axes, label):
    (scatter,) = [c for c in axes.collections if isinstance(c, PathCollection) and c.get_label() == label]
    return np.asarray(scatter.get_offsets())


def dashed(axes):
    """The marked steps: pairs of places."""
    collections = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_linestyle()[0][1] is not None]
    return [segment.tolist() for c in collections for segment in c.get_segments()]


def test_each_panel_draws_every_value_over_its_own_preference():
    rng = np.random.default_rng(0)
    front = Front(rng.dirichlet(np.ones(5), 20), rng.random((20, 5)), tuple("abcde"))
    front.values[3] = front.values[4]
    figure = plot_calibration(front, best_values=front.values - 1)
    assert len(figure.axes) == 5
    for objective, axes in enumerate(figure.axes):
        expected = np.stack([front.preferences[:, objective], front.values[:, objective]], axis=1)
        assert points(axes, "reached").tolist() == expected.tolist()
        assert points(axes, "best reachable").tolist() == (expected - [0, 1]).tolist()
        (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert ((expected > [low, bottom]) & (expected < [high, top])).all()
        assert (expected - [0, 1] > [low, bottom]).all()
        assert axes.get_xlabel() == f"λ {front.names[objective]}"
        assert axes.get_title() == "no comparable λ"  # random preferences over five objectives


def test_the_steps_that_get_worse_are_marked():
    # a falls, rises from 1/4 to 1/2, falls; b (its preference falls from left to right) is right everywhere.
    front = two([[1.0, 0.0], [0.5, 0.1], [0.8, 0.2], [0.3, 0.3], [0.0, 1.0]])
    first, second = plot_calibration(front, title="a title").axes
    assert dashed(first) == [[[0.25, 0.5], [0.5, 0.8]]]
    assert dashed(second) == []
    assert first.get_title() == "1 of 4 steps worse"
    assert second.get_title() == "0 of 4 steps worse"
    crosses = [c for c in first.collections if isinstance(c, PathCollection) and c.get_label() != "reached"]
    assert [np.asarray(c.get_offsets()).tolist() for c in crosses] == [[[0.5, 0.8]]]
    (legend,) = first.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["reached", "worse although λ rose"]
    assert first.figure.get_suptitle() == "a title"


def test_maximised_values_and_scalarizers_that_aim_along_the_preference():
    values = np.array([[1.0, 0.0], [0.5, 0.1], [0.8, 0.2], [0.3, 0.3], [0.0, 1.0]])
    assert [a.get_title() for a in plot_calibration(two(-values, maximize=True)).axes] == [
        "1 of 4 steps worse",
        "0 of 4 steps worse",
    ]
    assert [a.get_title() for a in plot_calibration(two(values, maximize=(False, True))).axes] == [
        "1 of 4 steps worse",
        "4 of 4 steps worse",
    ]
    figure = plot_calibration(two(values), improves=False)
    assert [a.get_title() for a in figure.axes] == ["3 of 4 steps better", "4 of 4 steps better"]
    assert figure.axes[0].get_ylabel() == "← a (lower is better)"


def test_small_steps_are_level():
    front = two([[1.0, 0.0], [0.5, 0.5], [0.504, 0.6], [0.0, 1.0]])
    assert dashed(plot_calibration(front).axes[0]) == []
    assert len(dashed(plot_calibration(front, tolerance=0.003).axes[0])) == 1
    assert dashed(plot_calibration(two(np.ones((4, 2)))).axes[0]) == []


def test_only_preferences_that_differ_in_one_share_are_compared():
    lattice = np.array([(i, j, 15 - i - j) for i in range(16) for j in range(16 - i)]) / 15
    steps = _steps(lattice, 0)
    for low, high in steps:
        assert lattice[low, 0] < lattice[high, 0]
        # The other two keep their proportions, or the upper end is the corner, where they are 0.
        assert lattice[low, 1] * lattice[high, 2] == pytest.approx(lattice[low, 2] * lattice[high, 1])
    # Every point but the corner has one next point.
    assert sorted(steps[:, 0]) == sorted(np.flatnonzero(lattice[:, 0] < 1))
    rounded = lattice.astype(np.float32).astype(np.float64)  # as preferences of a model in single precision are
    assert _steps(rounded, 0).tolist() == steps.tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(5, 40), st.integers(0, 10))
def test_an_optimum_of_a_linear_scalarization_never_goes_the_wrong_way(m, count, seed):
    rng = np.random.default_rng(seed)
    reachable = rng.random((200, m))
    preferences = simplex_lattice(m, max(count, m)).double().numpy()
    values = reachable[(preferences @ reachable.T).argmin(axis=1)]
    front = Front(preferences, values, tuple("abcde"[:m]))
    for objective in range(m):
        steps = _steps(preferences, objective)
        assert len(steps) >= m - 1
        assert not _wrong_steps(front, objective, steps, improves=True, tolerance=1e-12).any()
        # The other way round all steps are wrong but those that change nothing.
        changed = np.diff(values[:, objective][steps], axis=1)[:, 0] < -1e-12
        assert (_wrong_steps(front, objective, steps, improves=False, tolerance=1e-12) == changed).all()


def test_copies_of_a_preference_are_no_step():
    front = Front([[0, 1], [0.5, 0.5], [0.5, 0.5], [1, 0]], [[3, 0], [1, 1], [2, 2], [0, 3]], ("a", "b"))
    assert plot_calibration(front).axes[0].get_title() == "0 of 2 steps worse"


def test_wrong_arguments_say_so():
    front = two([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"best_values has shape \(1, 2\), but the front \(2, 2\)"):
        plot_calibration(front, best_values=[[1, 2]])
    with pytest.raises(ValueError, match="best_values has nan at row 1, column 0"):
        plot_calibration(front, best_values=[[1, 2], [np.nan, 1]])
    with pytest.raises(
        ValueError, match=r"tolerance is -1\.0: it is a share of the objective's range, so it must be ≥ 0"
    ):
        plot_calibration(front, tolerance=-1)


@pytest.mark.parametrize("objectives", [2, 3, 4, 7])
def test_writes_a_picture(tmp_path, objectives):
    front = Front(np.eye(objectives), np.eye(objectives), tuple("abcdefg"[:objectives]))
    figure = plot_calibration(front, tmp_path / "calibration.png", best_values=np.eye(objectives))
    assert len(figure.axes) == objectives
    assert (tmp_path / "calibration.png").stat().st_size > 5000
