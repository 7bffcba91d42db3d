"""Pictures of fronts: written whole, nothing leaks into pyplot, and what cannot be drawn says so."""

import numpy as np
import pytest
from matplotlib import pyplot, rc_context, rcParams
from matplotlib.image import imread
from plotting_inputs import front_of

from mopref.front import Front
from mopref.plotting import plot_calibration, plot_front, plot_heat_map, plot_hypervolume, plot_training


@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_writes_a_picture(objectives, tmp_path):
    path = tmp_path / "new" / "front.png"
    front_of(objectives).plot(path, title="a title")
    picture = imread(path)
    assert picture.shape[0] > 600
    assert picture.shape[1] > 900
    assert picture[..., :3].std() > 0.01  # not blank


def test_nothing_leaks():
    inputs = front_of(2)
    before = inputs.values.copy(), inputs.preferences.copy()
    with rc_context({"grid.color": "red", "axes.labelsize": 3}):
        settings = dict(rcParams)
        inputs.plot(true_front=inputs.values, reference_point=[2, 2])
        plot_calibration(inputs, best_values=inputs.values)
        plot_heat_map(inputs)
        plot_training([{"step": 1, "loss/a": 1.0}])
        plot_hypervolume([{"step": 1, "hypervolume": 1.0}], limits={"a": 2.0})
        assert dict(rcParams) == settings
    assert pyplot.get_fignums() == []
    assert (inputs.values == before[0]).all()
    assert (inputs.preferences == before[1]).all()


def test_wrong_arguments_say_so():
    front = front_of(2)
    with pytest.raises(ValueError, match=r"reference_values\['base'\] has shape \(3,\): it must be \(2,\)"):
        front.plot(reference_values={"base": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"true_front has shape \(1, 3\), but the front has 2"):
        front.plot(true_front=[[1, 2, 3]])
    with pytest.raises(ValueError, match="true_front has nan at row 0, column 1"):
        front.plot(true_front=[[1, np.nan]])
    with pytest.raises(ValueError, match="reference_point has inf"):
        front.plot(reference_point=[1, np.inf])
    for draw in (plot_front, plot_calibration, plot_heat_map):
        with pytest.raises(ValueError, match=r"the front has one objective \(helpful\): there is no trade-off"):
            draw(front_of(1))


@pytest.mark.parametrize("draw", [plot_front, plot_calibration, plot_heat_map])
@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_a_number_that_is_not_finite_is_not_left_out(draw, objectives, tmp_path):
    front = front_of(objectives)
    front.values[4, 1] = np.nan
    with pytest.raises(ValueError, match="values has nan at row 4, column 1"):
        draw(front, tmp_path / "front.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_few_and_equal_points_are_drawn(objectives, points, tmp_path):
    front = Front(np.eye(objectives)[[0] * points], np.ones((points, objectives)), tuple("abcd"[:objectives]))
    front.plot(tmp_path / "front.svg", true_front=front.values[:1])
    assert (tmp_path / "front.svg").stat().st_size > 1000
