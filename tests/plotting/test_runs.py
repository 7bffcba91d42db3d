"""Pictures of training: losses and hypervolumes, every record drawn, lines that differ without their colour."""

import numpy as np
import pytest

from mopref.plotting import plot_hypervolume, plot_training


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_training_draws_each_loss(tmp_path):
    history = [{"step": s, "loss/a": 1.0 / (s + 1), "lr": 0.1} for s in range(3)]
    history += [{"step": 3, "loss/a": float("nan"), "loss/b": 2.0}, {"step": 4, "seconds": 1.0}, {"loss/a": 7.0}]
    axes = plot_training(history, tmp_path / "losses.png").axes[0]
    lines = lines_of(axes)
    assert set(lines) == {"a", "b"}
    assert lines["a"][:, 0].tolist() == [0, 1, 2, 3]
    assert lines["a"][:3, 1].tolist() == [1.0, 1 / 2, 1 / 3]
    assert np.isnan(lines["a"][3, 1])
    assert lines["b"].tolist() == [[3.0, 2.0]]
    assert (tmp_path / "losses.png").stat().st_size > 5000
    with pytest.raises(
        ValueError, match="none of the 1 records has both 'step' and a 'loss/<name>': there is nothing to draw"
    ):
        plot_training([{"step": 1, "lr": 0.1}])


def test_lines_differ_without_their_color():
    history = [{"step": s, **{f"loss/{i}": s * i for i in range(8)}} for s in range(100)]
    lines = plot_training(history).axes[0].lines
    assert (
        len(
            {
                (line._unscaled_dash_pattern[1] and tuple(line._unscaled_dash_pattern[1]), line.get_marker())
                for line in lines
            }
        )
        == 8
    )
    # Markers of lines that lie on each other do not.
    assert len({line.get_markevery()[0] for line in lines[:4]}) == 4
    assert all(line.get_markevery()[1] == 12 for line in lines)


def test_a_single_record_shows():
    (line,) = plot_training([{"step": 5, "loss/a": 1.0}]).axes[0].lines
    assert line.get_marker() not in (None, "None", "")
    assert line.get_markevery() == (0, 1)


def test_hypervolumes_of_several_runs(tmp_path):
    runs = {
        "one": [{"step": 0, "hypervolume": 0.1, "exact": True}, {"step": 50, "hypervolume": 0.8}],
        "two": [{"step": 10, "hypervolume": 0.5, "exact": False}, {"step": 20, "loss/a": 1.0}, {"hypervolume": 9.0}],
    }
    figure = plot_hypervolume(runs, tmp_path / "volume.png", limits={"true front": 0.8767}, title="a title")
    axes = figure.axes[0]
    lines = lines_of(axes)
    assert lines["one"].tolist() == [[0, 0.1], [50, 0.8]]
    assert lines["two (approximate)"].tolist() == [[10, 0.5]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two (approximate)"]
    (limit,) = [line for line in axes.lines if line.get_label() not in ("one", "two (approximate)")]
    assert set(limit.get_ydata()) == {0.8767}
    assert [text.get_text() for text in axes.texts] == ["true front 0.8767"]
    assert axes.get_ylim()[1] > 0.8767
    assert axes.get_title() == "a title"
    assert (tmp_path / "volume.png").stat().st_size > 5000


def test_one_run_needs_no_legend():
    axes = plot_hypervolume([{"step": 0, "hypervolume": 0.1}]).axes[0]
    assert axes.get_legend() is None
    approximate = plot_hypervolume([{"step": 0, "hypervolume": 0.1, "exact": False}]).axes[0]
    assert [text.get_text() for text in approximate.get_legend().get_texts()] == ["(approximate)"]


@pytest.mark.parametrize(
    ("runs", "limits", "message"),
    [
        ([{"step": 1}], None, "none of the 1 records of the run"),
        ({"a": [], "b": []}, None, "none of the 0 records of run 'a'"),
        ({}, None, "runs is empty"),
        ({"a": [{"step": 7, "hypervolume": float("nan")}]}, None, "the hypervolume of run 'a' is nan at step 7"),
        ([{"step": 7, "hypervolume": 1.0}], {"best": float("inf")}, r"limits\['best'\] is inf"),
    ],
)
def test_wrong_runs_say_so(tmp_path, runs, limits, message):
    with pytest.raises(ValueError, match=message):
        plot_hypervolume(runs, tmp_path / "volume.png", limits)
    assert list(tmp_path.iterdir()) == []


def test_a_level_line_has_a_text_for_a_label(tmp_path):
    with pytest.raises(TypeError, match="a label of limits is None, of type NoneType: give a text"):
        plot_hypervolume([{"step": 7, "hypervolume": 1.0}], tmp_path / "volume.png", {None: 1.0})
