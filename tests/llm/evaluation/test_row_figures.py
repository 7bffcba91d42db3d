"""Fronts of means over rows: values, intervals of prompts, and the hypervolume's, against plain computations."""

import numpy as np
import pytest
import torch

from mopref.bootstrap import bootstrap_means, percentile_interval
from mopref.indicators import hypervolume
from mopref.llm.evaluation import Figure, figure_columns, front_of_figures, prompt_units

LAMBDAS = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
GENERATOR = torch.Generator().manual_seed(3)
ROWS = 40
A, B = (torch.rand(3, ROWS, generator=GENERATOR) for _ in range(2))
UNITS = [row // 2 for row in range(ROWS)]


def make(**options):
    return front_of_figures({"a": Figure(A), "b": Figure(B)}, {"kl": Figure(10 * A)}, UNITS, LAMBDAS, **options)


def test_values_are_means_over_the_rows_that_count():
    counted = torch.arange(ROWS) % 3 > 0
    front = front_of_figures({"a": Figure(A, counted), "b": Figure(B)}, {"kl": Figure(A)}, UNITS, LAMBDAS)
    np.testing.assert_allclose(front.values[:, 0], A[:, counted].double().mean(dim=1), rtol=1e-12)
    np.testing.assert_allclose(front.values[:, 1], B.double().mean(dim=1), rtol=1e-12)
    np.testing.assert_allclose(front.extra["kl"], A.double().mean(dim=1), rtol=1e-12)


def test_intervals_are_those_of_the_bootstrap_and_hold_the_means():
    front = make(interval_level=0.8, seed=5)
    resampled = bootstrap_means(torch.stack([A, B]).double().numpy(), True, UNITS, seed=5).resampled
    np.testing.assert_allclose(front.intervals["b"], percentile_interval(resampled, 0.8)[1], rtol=1e-9)
    assert set(front.intervals) == {"a", "b", "kl"}
    for column, values in (("a", front.values[:, 0]), ("kl", front.extra["kl"])):
        low, high = front.intervals[column].T
        assert ((low < values) & (values < high)).all()
    np.testing.assert_allclose(front.intervals["kl"], 10 * front.intervals["a"], rtol=1e-6)
    assert front.metadata == {"interval_level": 0.8}


def test_the_hypervolume_has_the_interval_of_the_same_resamples():
    front = make(reference_point=[1.0, 1.0], seed=2)
    resampled = bootstrap_means(torch.stack([A, B]).double().numpy(), True, UNITS, seed=2).resampled
    volumes = [hypervolume(points.T, [1.0, 1.0]) for points in resampled]
    assert front.metadata["hypervolume_interval"] == pytest.approx(percentile_interval(volumes, 0.9).tolist())
    assert front.metadata["reference_point"] == [1.0, 1.0]
    low, high = front.metadata["hypervolume_interval"]
    assert low < front.hypervolume([1.0, 1.0]) < high


def test_columns_of_other_rows_are_those_of_a_front():
    front = make(seed=5, interval_level=0.8)
    columns = figure_columns({"kl": Figure(10 * A)}, UNITS, 0.8, seed=5)
    assert list(columns) == ["kl", "kl_low", "kl_high"]
    for name, column in columns.items():
        np.testing.assert_array_equal(column, front.extra[name])
    assert list(figure_columns({"kl": Figure(A)}, UNITS, None)) == ["kl"]


def test_rewards_are_maximised():
    front = make(maximize=True, reference_point=[0.0, 0.0])
    assert front.is_maximized() == (True, True)
    low, high = front.metadata["hypervolume_interval"]
    assert low < front.hypervolume([0.0, 0.0]) < high


def test_a_wider_level_is_a_wider_interval_and_none_is_none():
    narrow, wide, none = (make(interval_level=level) for level in (0.5, 0.95, None))
    assert (np.ptp(wide.intervals["a"], axis=1) > np.ptp(narrow.intervals["a"], axis=1)).all()
    assert not none.intervals
    assert not none.metadata
    np.testing.assert_array_equal(none.values, wide.values)


def test_one_prompt_tells_nothing_of_its_spread():
    front = front_of_figures({"a": Figure(A), "b": Figure(B)}, {}, ["same"] * ROWS, LAMBDAS, reference_point=[1, 1])
    assert np.isnan(front.intervals["a"]).all()
    assert "hypervolume_interval" not in front.metadata


def test_rows_of_a_prompt_are_one_unit():
    rows = [{"prompt_ids": [1, 2]}, {"prompt_ids": torch.tensor([1, 2])}, {"prompt_ids": (1, 3)}]
    first, second, third = prompt_units(rows)
    assert first == second != third
