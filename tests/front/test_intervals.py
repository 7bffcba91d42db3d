"""Intervals as columns beside what they belong to: made, read, kept by files and methods, and refused."""

import json
import re

import numpy as np
import pytest
from front_asserts import assert_same
from front_inputs import small
from hypothesis import given, settings, strategies as st

from mopref.bootstrap import bootstrap_means, percentile_interval
from mopref.front import Front
from mopref.front.intervals import (
    bound_columns,
    check_intervals,
    hypervolume_interval,
    interval_columns,
    interval_level,
    intervals,
    objective_intervals,
)

LOSS = np.array([[-0.5, 0.5], [0.9, 1.1], [np.nan, np.nan], [1.75, 2.5]])
ACCURACY = np.array([[0.0, 0.2], [np.nan, np.nan], [0.25, 0.35], [0.9, 1.0]])
LENGTH = np.array([[8, 12], [15, 25], [20, 40], [40, 40]])


def with_intervals(**changes):
    """The small front with intervals of an objective and of two extra columns."""
    columns = {"length": [10, 20, 30, 40], "accuracy": [0.1, None, 0.3, 1.0], "text": ["a", "b, c", 'd"', "é\nλ"]}
    columns |= interval_columns("helpful", LOSS) | interval_columns("accuracy", ACCURACY)
    metadata = {"seed": 3, "reference_point": [3, 3], "interval_level": 0.9, "hypervolume_interval": [5.5, 6.25]}
    columns |= {"length_low": LENGTH[:, 0], "length_high": LENGTH[:, 1]}
    return small(**({"extra": columns, "metadata": metadata} | changes))


def test_a_front_without_such_columns_has_no_intervals():
    assert small().intervals == {}
    assert np.isnan(objective_intervals(small())).all()
    assert hypervolume_interval(small().metadata) is interval_level(small().metadata) is None


def test_intervals_are_read_by_the_column_that_they_belong_to():
    front = with_intervals()
    assert list(front.intervals) == ["helpful", "length", "accuracy"]
    for name, expected in (("helpful", LOSS), ("accuracy", ACCURACY), ("length", LENGTH)):
        assert np.array_equal(front.intervals[name], expected, equal_nan=True)
        assert np.array_equal(intervals(front)[name], expected, equal_nan=True)
        assert front.intervals[name].dtype == np.float64
    bounds = objective_intervals(front)
    assert bounds.shape == (4, 2, 2)
    assert np.array_equal(bounds[:, 0], LOSS, equal_nan=True)
    assert np.isnan(bounds[:, 1]).all()
    assert interval_level(front.metadata) == 0.9
    assert hypervolume_interval(front.metadata) == (5.5, 6.25)


def test_bootstrapped_intervals_go_into_a_front_as_they_are():
    values = np.random.default_rng(0).normal(size=(4, 2, 60))
    means, resampled = bootstrap_means(values, True, np.arange(60) // 3, resamples=200)
    bounds = percentile_interval(resampled)
    extra = interval_columns("helpful", bounds[:, 0]) | interval_columns("harmless", bounds[:, 1])
    assert np.array_equal(objective_intervals(small(values=means, extra=extra)), bounds)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_files_hold_intervals_without_a_format_of_their_own(tmp_path, ending):
    front, path = with_intervals(), tmp_path / f"front.{ending}"
    front.save(path)
    told = {"maximize": False, "convention": "importance"} if ending == "csv" else {}
    loaded = Front.load(path, **told)
    assert_same(loaded, with_intervals(metadata={}) if told else front)
    assert list(loaded.intervals) == list(front.intervals)
    if ending == "json":
        content = json.loads(path.read_text())
        assert content["version"] == 3
        assert content["extra"]["helpful_low"] == [-0.5, 0.9, None, 1.75]


def test_an_interval_that_is_nowhere_known_comes_back_from_a_table(tmp_path):
    front = small(extra=interval_columns("helpful", np.full((4, 2), np.nan)))
    front.save(tmp_path / "front.csv")
    assert np.isnan(Front.load(tmp_path / "front.csv", maximize=False).intervals["helpful"]).all()
    assert "[low, high]" not in front.summary()


def test_non_dominated_points_keep_theirs():
    kept = with_intervals().non_dominated()
    assert np.array_equal(kept.intervals["helpful"], LOSS[[0, 1, 3]], equal_nan=True)
    assert kept.metadata == with_intervals().metadata


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(0, 1e9)) | st.none(), min_size=1, max_size=5))
def test_columns_of_bounds_are_read_as_they_were_made(rows):
    bounds = np.array([(np.nan, np.nan) if row is None else (row[0], row[0] + row[1]) for row in rows])
    weights = np.full((len(rows), 1), 1.0)
    front = Front(weights, np.zeros((len(rows), 1)), ["a"], extra=interval_columns("a", bounds))
    assert set(front.extra) == bound_columns(["a"])
    assert np.array_equal(front.intervals["a"], bounds, equal_nan=True)


def test_what_only_looks_like_a_bound_stays_a_column():
    extra = {"tide_low": [1, 2, 3, 4], "text": list("abcd"), "text_low": list("efgh"), "flag": [True] * 4}
    front = small(extra=extra | {"flag_high": [1.0] * 4})
    assert front.intervals == {}
    assert "tide_low" in front.summary()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"helpful_low": [0] * 4}, "'helpful_low' is a bound of the interval of 'helpful', but there is no 'helpful_h"),
        ({"x": [1] * 4, "x_high": [2] * 4}, "'x_high' is a bound of the interval of 'x', but there is no 'x_low'"),
        ({"helpful_low": list("abcd"), "helpful_high": [1] * 4}, "are the interval of 'helpful': give numbers"),
        ({"helpful_low": [True] * 4, "helpful_high": [1] * 4}, "are the interval of 'helpful': give numbers"),
        ({"helpful_low": [0, 0, 0, 3], "helpful_high": [1] * 4}, "the interval of 'helpful' is [3, 1] in row 3"),
        ({"helpful_low": [0, None, 0, 0], "helpful_high": [1] * 4}, "the interval of 'helpful' is [nan, 1] in row 1"),
        (
            {"x": [1] * 4, "x_low": [1] * 4, "x_high": [1] * 4, "x_low_low": [1] * 4, "x_low_high": [1] * 4},
            "'x_low' is a bound of an interval and has an interval itself",
        ),
    ],
)
def test_what_is_no_interval_is_refused_when_made_read_saved_and_loaded(tmp_path, extra, message):
    message = re.escape(message)
    with pytest.raises(ValueError, match=message):
        small(extra=extra)
    small().save(tmp_path / "front.json")
    content = json.loads((tmp_path / "front.json").read_text())
    del content["sha256"]
    (tmp_path / "front.json").write_text(json.dumps(content | {"version": 2, "extra": extra}))
    with pytest.raises(ValueError, match=f"front.json is not a front.*{message}"):
        Front.load(tmp_path / "front.json")
    front = small()
    front.extra = {name: np.array(column, dtype=float if None in column else None) for name, column in extra.items()}
    for use in (lambda: front.intervals, front.summary, front.plot, lambda: check_intervals(front)):
        with pytest.raises(ValueError, match=message):
            use()
    with pytest.raises(ValueError, match=message):
        front.save(tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"interval_level": 90}, ValueError, r"metadata\['interval_level'\] is 90: it is a probability"),
        ({"interval_level": "90 %"}, TypeError, r"metadata\['interval_level'\] is '90 %'"),
        (
            {"hypervolume_interval": [2, 1]},
            ValueError,
            r"metadata\['hypervolume_interval'\] is \[2, 1\]: give \[low, h",
        ),
        ({"hypervolume_interval": [1]}, ValueError, "give two numbers|two numbers"),
        ({"hypervolume_interval": 3.0}, ValueError, "two numbers"),
        ({"hypervolume_interval": "12"}, ValueError, "two numbers"),
        ({"hypervolume_interval": [True, None]}, ValueError, "two numbers"),
    ],
    ids=["percent", "text", "order", "one", "number", "characters", "bool"],
)
def test_metadata_that_say_something_else_are_refused(metadata, error, message):
    with pytest.raises(error, match=message):
        small(metadata=metadata)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([1.0, 2.0], r"bounds of 'a' have shape \(2,\)"),
        ([[1.0, 2.0, 3.0]], r"bounds of 'a' have shape \(1, 3\)"),
        ([[1.0, 2.0], [2.0, 1.0]], r"the interval of 'a' is \[2, 1\] in row 1"),
        ([[1.0, np.nan]], r"the interval of 'a' is \[1, nan\] in row 0"),
        ([[-np.inf, 1.0]], r"the interval of 'a' is \[-inf, 1\] in row 0"),
        ([["a", "b"]], "bounds of 'a' is no rectangular array"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        interval_columns("a", bounds)
