"""The bootstrap over prompts: against SciPy and a plain loop, and whether its intervals hold the true values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from mopref.bootstrap import bootstrap_means, checked_level, holm, paired_p_value, percentile_interval

REPETITIONS = 1000


def test_one_figure_of_single_rows_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=80)
    ours = percentile_interval(bootstrap_means(values, True, range(80), resamples=20_000).resampled)
    peer = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # A quantile of 20 000 resamples is known to about sqrt(0.05 · 0.95 / 20 000) / density = 0.015 standard errors.
    error = values.std() / np.sqrt(80)
    assert ours == pytest.approx([peer.low, peer.high], abs=5 * 0.015 * error)
    assert ours[1] - ours[0] == pytest.approx(2 * 1.645 * error, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5))
def test_a_resample_is_the_mean_over_the_rows_of_the_units_that_were_drawn(seed, rows, labels):
    rng = np.random.default_rng(seed)
    values, counted = rng.normal(size=(2, 3, rows)), rng.random((3, rows)) < 0.7
    units = rng.integers(labels, size=rows)
    means, resampled = bootstrap_means(np.where(counted, values, np.nan), counted, units, resamples=20, seed=seed)
    names = np.unique(units)
    draws = np.random.default_rng(seed)
    for resample in range(20):
        drawn = names[draws.integers(len(names), size=len(names))]
        taken = np.concatenate([np.flatnonzero(units == name) for name in drawn])
        for figure in np.ndindex(2, 3):
            held = taken[counted[figure[1], taken]]
            is_known = len(held) and len(set(units[counted[figure[1]]])) > 1
            expected = values[figure][held].mean() if is_known else np.nan
            assert resampled[(resample, *figure)] == pytest.approx(expected, nan_ok=True)
    for figure in np.ndindex(2, 3):
        held = values[figure][counted[figure[1]]]
        assert means[figure] == pytest.approx(held.mean() if len(held) else np.nan, nan_ok=True)


def normal_means(rng, prompts):
    return rng.normal(2.0, 3.0, (REPETITIONS, prompts, 1)), np.ones((prompts, 1), dtype=bool), 2.0


def accuracies(rng, prompts):
    return (rng.random((REPETITIONS, prompts, 1)) < 0.7) * 1.0, np.ones((prompts, 1), dtype=bool), 0.7


def correlated_rows(rng, prompts):
    """One to eight rows a prompt, which differ less among each other than prompts do."""
    own = rng.normal(-1.0, 1.0, (REPETITIONS, prompts, 1))
    counted = np.arange(8) < rng.integers(1, 9, (REPETITIONS, prompts, 1))
    return own + rng.normal(0.0, 0.5, (REPETITIONS, prompts, 8)), counted, -1.0


def coverage(population, prompts, units):
    """The share of repetitions in which the interval of level 0.9 holds the true mean."""
    values, counted, truth = population(np.random.default_rng(prompts), prompts)
    flat, flags = values.reshape(REPETITIONS, -1), counted.reshape(*counted.shape[:-2], -1)
    bounds = percentile_interval(bootstrap_means(flat, flags, units(*values.shape[1:])).resampled)
    return np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))


def by_prompt(prompts, rows):
    return np.repeat(np.arange(prompts), rows)


def by_row(prompts, rows):
    return np.arange(prompts * rows)


@pytest.mark.parametrize("prompts", [40, 100, 200])
@pytest.mark.parametrize("population", [normal_means, accuracies, correlated_rows], ids=lambda kind: kind.__name__)
def test_an_interval_holds_the_true_value_as_often_as_it_says(population, prompts):
    assert 0.85 <= coverage(population, prompts, by_prompt) <= 0.95


@pytest.mark.parametrize("prompts", [40, 200])
def test_rows_of_a_prompt_drawn_one_by_one_would_give_intervals_that_are_too_short(prompts):
    assert coverage(correlated_rows, prompts, by_row) < 0.7


def test_figures_share_their_draws_so_that_differences_have_their_own_interval():
    values = np.random.default_rng(0).normal(size=100)
    figures = np.stack([values, values + 0.25, -values])
    resampled = bootstrap_means(figures, True, range(100)).resampled
    assert percentile_interval(resampled[:, 1] - resampled[:, 0]) == pytest.approx([0.25, 0.25])
    single, difference = (np.ptp(percentile_interval(x)) for x in (resampled[:, 0], resampled[:, 0] - resampled[:, 2]))
    assert difference == pytest.approx(2 * single)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([10 ** (power / 2) for power in range(-8, 9)]), st.floats(-10, 10))
def test_order_of_rows_does_not_matter_and_means_are_linear(seed, scale, shift):
    rng = np.random.default_rng(seed)
    values, counted, units = rng.normal(size=(2, 12)), rng.random((2, 12)) < 0.8, rng.choice(list("abcd"), 12)
    before = bootstrap_means(values, counted, units, resamples=50, seed=seed)
    order = rng.permutation(12)
    permuted = bootstrap_means(values[:, order], counted[:, order], units[order], resamples=50, seed=seed)
    scaled = bootstrap_means(scale * values + shift, counted, units, resamples=50, seed=seed)
    for field in range(2):
        assert permuted[field] == pytest.approx(before[field], nan_ok=True)
        assert scaled[field] == pytest.approx(scale * before[field] + shift, nan_ok=True)


def test_a_seed_gives_the_same_twice_and_more_resamples_begin_with_the_same():
    values, units = np.random.default_rng(0).normal(size=30), np.arange(30) // 2
    first = bootstrap_means(values, True, units, resamples=40, seed=5).resampled
    assert np.array_equal(first, bootstrap_means(values, True, units, resamples=40, seed=5).resampled)
    longer = bootstrap_means(values, True, units, resamples=80, seed=5).resampled
    assert longer[:40] == pytest.approx(first)
    assert not np.allclose(first, bootstrap_means(values, True, units, resamples=40, seed=6).resampled)
    assert np.isfinite(bootstrap_means(values, True, units, seed=-1).resampled).all()


def test_what_does_not_count_is_not_looked_at():
    values = np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, -np.inf]])
    counted = np.array([[True, False, True], [False, True, False]])
    means, resampled = bootstrap_means(values, counted, "a b c".split(), resamples=200)
    assert means.tolist() == [2.0, 2.0]
    assert set(np.unique(resampled[:, 0][~np.isnan(resampled[:, 0])])) <= {1.0, 3.0, 2.0, 5 / 3, 7 / 3}
    # In (1/3)³ of the resamples neither of the two units is drawn.
    assert 0 < np.isnan(resampled[:, 0]).mean() < 0.12
    bounds = percentile_interval(resampled)
    assert bounds[0].tolist() == [1.0, 3.0]
    assert np.isnan(bounds[1]).all(), "one unit tells nothing of how units differ"


def test_no_row_that_counts_gives_nan_without_a_warning(recwarn):
    means, resampled = bootstrap_means([[1.0, 2.0], [1.0, 2.0]], [[False], [True]], [0, 1], resamples=10)
    assert np.isnan(means).tolist() == [True, False]
    bounds = percentile_interval(resampled)
    assert np.isnan(bounds).tolist() == [[True, True], [False, False]]
    assert np.isnan(percentile_interval(bootstrap_means([1.0, 2.0], True, [7, 7]).resampled)).all()
    assert not recwarn


@pytest.mark.parametrize(
    "units", [[3, 3, 7], ["a", "a", "b"], [("a", 1), ("a", 1), ("b", 2)], np.array([3, 3, 7]), [1, True, "b"]], ids=repr
)
def test_labels_may_be_anything_that_tells_prompts_apart(units):
    resampled = bootstrap_means([0.0, 1.0, 5.0], True, units, resamples=100).resampled
    assert np.unique(resampled).tolist() == [0.5, 2.0, 5.0]


def test_tensors_are_read_by_what_they_hold():
    values, counted = torch.tensor([0.0, 1.0, 5.0], requires_grad=True), torch.tensor([True, True, True])
    for units in (torch.tensor([3, 3, 7]), [torch.tensor(3), torch.tensor(3), torch.tensor(7)]):
        assert np.unique(bootstrap_means(values, counted, units).resampled).tolist() == [0.5, 2.0, 5.0]


def test_nothing_is_written_into_what_is_given():
    values, counted = np.array([1.0, np.nan]), np.array([True, False])
    resampled = bootstrap_means(values, counted, [0, 1], resamples=5).resampled
    assert np.isnan(values).tolist() == [False, True]
    before = resampled.copy()
    percentile_interval(resampled)
    assert np.array_equal(resampled, before, equal_nan=True)


def test_quantiles_leave_out_what_is_missing():
    column = np.arange(101.0)
    missing = np.concatenate([column, [np.nan] * 50])
    whole = np.concatenate([column, column[:50]])
    bounds = percentile_interval(np.stack([missing, whole, missing * np.nan], axis=1), level=0.5)
    assert bounds.shape == (3, 2)
    assert bounds[0].tolist() == [25.0, 75.0]
    assert bounds[1].tolist() == np.quantile(whole, [0.25, 0.75]).tolist()
    assert np.isnan(bounds[2]).all()
    assert percentile_interval(np.zeros((5, 2, 3))).shape == (2, 3, 2)
    narrow, wide = percentile_interval(column, 0.5), percentile_interval(column, 0.95)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"values": 3.0}, ValueError, r"values has shape \(\)"),
        ({"values": np.zeros((2, 0)), "units": []}, ValueError, r"values has shape \(2, 0\)"),
        ({"values": [1.0, np.nan, 2.0]}, ValueError, r"values has nan at \(1,\), in a row that counts"),
        ({"values": [[1.0, 2.0, np.inf]]}, ValueError, r"values has inf at \(0, 2\), in a row that counts"),
        ({"values": ["a", "b", "c"]}, ValueError, "values is no rectangular array"),
        ({"counted": [True, False]}, ValueError, r"counted has shape \(2,\), and values \(3,\)"),
        ({"counted": np.ones((2, 3), dtype=bool)}, ValueError, r"counted has shape \(2, 3\), and values \(3,\)"),
        ({"counted": [1, 1, 0]}, TypeError, "counted is of type int64: give bools"),
        ({"units": [1, 2]}, ValueError, "there are 2 units, but values has 3 rows"),
        ({"units": [[1], [2], [3]]}, ValueError, r"the unit of row 0 is \[1\]"),
        ({"units": [1, None, 2]}, ValueError, "the unit of row 1 is None"),
        ({"units": [1.0, 2.0, np.nan]}, ValueError, "the unit of row 2 is nan"),
        ({"units": "abc"}, ValueError, "units are 'abc', which is no list of labels"),
        ({"units": {1: 2, 3: 4, 5: 6}}, ValueError, "which is no list of labels"),
        ({"units": iter([1, 2, 3])}, ValueError, "which is no list of labels"),
        ({"units": 3}, ValueError, "units are 3, which is no list of labels"),
        ({"resamples": 0}, ValueError, "resamples is 0: it must be at least 1"),
        ({"resamples": 1.5}, TypeError, "resamples is 1.5"),
        ({"seed": None}, TypeError, "seed is None"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_what_cannot_be_resampled_is_refused(change, error, message):
    arguments = {"values": [1.0, 2.0, 3.0], "counted": True, "units": [0, 1, 2]} | change
    with pytest.raises(error, match=message):
        bootstrap_means(**arguments)


@pytest.mark.parametrize("level", [0, 1, -0.5, 90, float("nan")])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match=f"level is {level:g}: it is a probability"):
        percentile_interval([1.0, 2.0], level)
    with pytest.raises(ValueError, match=f"interval_level is {level:g}"):
        checked_level(level, "interval_level")
    with pytest.raises(TypeError, match=r"level is '0\.9'"):
        checked_level("0.9")


@pytest.mark.parametrize(("resampled", "message"), [(3.0, "shape"), ([], "shape"), ([1.0, np.inf], r"inf at \(1,\)")])
def test_what_has_no_quantiles_is_refused(resampled, message):
    with pytest.raises(ValueError, match=f"resampled has {message}"):
        percentile_interval(resampled)


@pytest.mark.parametrize(
    ("spoilt", "error", "message"),
    [
        ({"counted": [np.ones(2), [1.0]]}, TypeError, "counted is no rectangular array of bools"),
        ({"units": np.array(1.0)}, ValueError, "which is no list of labels"),
        ({"units": ["a", torch.ones(2, 2)]}, ValueError, "the unit of row 1 is"),
        ({"resamples": 2**63}, ValueError, "resamples is .* too many to hold"),
    ],
)
def test_flags_units_and_counts_that_are_none_are_refused(spoilt, error, message):
    right = {"values": np.ones((3, 2)), "counted": np.ones((3, 2), bool), "units": ["a", "b"], "resamples": 5}
    assert bootstrap_means(**right).means.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(error, match=message):
        bootstrap_means(**{**right, **spoilt})


def test_p_is_the_level_at_which_the_interval_would_just_hold_0():
    differences = np.concatenate([np.full(5, -1.0), np.full(95, 1.0)])
    assert paired_p_value(differences) == pytest.approx(2 * 6 / 101)
    assert paired_p_value(-differences) == paired_p_value(differences)
    assert paired_p_value(np.ones(99)) == pytest.approx(2 / 100)
    assert paired_p_value(np.zeros(10)) == 1.0
    assert paired_p_value([np.nan, 1.0, 1.0, 1.0]) == pytest.approx(2 / 4)
    assert np.isnan(paired_p_value([np.nan]))
    with pytest.raises(ValueError, match="shape"):
        paired_p_value(np.ones((2, 2)))


def test_holm_by_hand():
    """Holm 1979: the smallest of four times 4, the next times 3, and never below the one before."""
    assert np.allclose(holm([0.02, 0.01, 0.04, 0.9]), [0.06, 0.04, 0.08, 0.9])
    assert np.allclose(holm([0.01, 0.011]), [0.02, 0.02])
    assert np.allclose(holm([0.3, np.nan, 0.02]), [0.3, np.nan, 0.04], equal_nan=True)
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert len(holm([])) == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_stepping_down_does(p_values):
    """By its definition: reject while the k-th smallest is at most α/(K − k + 1)."""
    for alpha in (0.01, 0.05, 0.5):
        rejected: set[int] = set()
        order = np.argsort(p_values, kind="stable")
        for rank, place in enumerate(order):
            if p_values[place] * (len(p_values) - rank) > alpha:
                break
            rejected.add(int(place))
        assert {place for place, p in enumerate(holm(p_values)) if p <= alpha} == rejected
