"""Hypervolumes of resamples: those of the fronts one by one, and no more of them than can be afforded."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mopref.indicators import hypervolume
from mopref.resampled_volumes import resampled_hypervolumes


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 6), maximize=st.booleans())
def test_each_is_that_of_its_front(seed, m, maximize):
    generator = np.random.default_rng(seed)
    # Some beyond the reference point, some dominated, some equal.
    fronts = generator.integers(0, 6, size=(3, 2, 4, m)) / 4
    reference = np.full(m, 0.3 if maximize else 1.1)
    found = resampled_hypervolumes(fronts, reference, maximize)
    assert found.shape == (3, 2)
    for place in np.ndindex(3, 2):
        assert found[place] == pytest.approx(hypervolume(fronts[place], reference, maximize), abs=1e-12)


def test_directions_may_differ():
    (found,) = resampled_hypervolumes([[[0.5, 3.0]]], [1.0, 1.0], [False, True])
    assert found == pytest.approx(1.0)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_front_with_a_number_that_is_not_known_has_no_volume(number):
    fronts = np.zeros((3, 2, 4, 2))
    fronts[1, 0, 3, 1] = number
    found = resampled_hypervolumes(fronts, [1, 1])
    assert np.isnan(found[1, 0])
    assert (np.delete(found.ravel(), 2) == 1).all()


@pytest.mark.parametrize(("m", "expected"), [(4, 1200), (5, 1000), (6, 1000), (7, 200), (8, 200)])
def test_where_a_volume_takes_long_the_first_resamples_are_measured(monkeypatch, m, expected):
    # The values are not looked at.
    monkeypatch.setattr("mopref._volume._APPROXIMATION_SAMPLES", 64)
    found = resampled_hypervolumes(np.zeros((1200, 1, 1, m)), np.ones(m))
    assert np.isfinite(found[:expected]).all()
    assert np.isnan(found[expected:]).all()


def test_where_volumes_are_approximate_fewer_are_measured(monkeypatch):
    monkeypatch.setattr("mopref._volume._APPROXIMATION_SAMPLES", 64)
    monkeypatch.setattr("mopref._volume.EXACT_LIMITS", {5: 1})
    found = resampled_hypervolumes(np.tile([[0.1, 0.9, 0, 0, 0], [0.9, 0.1, 0, 0, 0]], (300, 1, 1)), np.ones(5))
    assert np.isfinite(found[:200]).all()
    assert np.isnan(found[200:]).all()


def test_what_are_no_fronts_of_resamples_is_refused():
    with pytest.raises(ValueError, match=r"resampled has shape \(3, 2\): it must be \(resamples, …, N, m\)"):
        resampled_hypervolumes(np.zeros((3, 2)), [1, 1])
    with pytest.raises(ValueError, match="reference_point"):
        resampled_hypervolumes(np.zeros((3, 2, 2)), [1, 1, 1])
