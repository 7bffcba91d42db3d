from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import spearmanr

from mopref.baselines import Budget
from mopref.bootstrap import bootstrap_means
from mopref.indicators import hypervolume
from mopref.recipes.method_cells import Cell
from mopref.recipes.method_statistics import HeldOut, method_figures, order_correlation

PREFERENCES = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
ROWS = 12
HELD_OUT = HeldOut(
    ("helpful", "harmless"),
    PREFERENCES,
    np.array([[True, row % 3 > 0] for row in range(ROWS)]),
    [f"prompt {row // 2}" for row in range(ROWS)],
    np.array([3.0, 3.0]),
    0.9,
    200,
)


def cell(method, seed, shift=0.0, scale=1.0):
    generator = np.random.default_rng(seed)
    means = np.array([[2.0, 0.5], [1.0, 1.0], [0.5, 2.0]])
    losses = scale * means[:, None, :] + 0.3 * generator.standard_normal((3, ROWS, 2)) + shift
    return Cell(method, seed, losses, {}, Budget(1, 5, 6, 0, 7, 8, 1.0, float(seed + 1)), {})


@pytest.fixture(scope="module")
def methods():
    cells = {
        "ours": [cell("ours", seed) for seed in (0, 1)],
        "dps": [cell("dps", seed, shift=-0.2) for seed in (0, 1)],
        "mod": [cell("mod", seed) for seed in (0, 1)],
        "prompt": [cell("prompt", seed, shift=0.3) for seed in (0, 1)],
    }
    return {own.method: own for own in method_figures(cells, HELD_OUT)}


def by_hand(cell):
    """Means over labelled rows, the area under them, and the mean of λ times rewards."""
    values = np.stack([cell.losses[:, HELD_OUT.labelled[:, i], i].mean(axis=1) for i in range(2)], axis=1)
    area, lowest = 0.0, 3.0
    for first, second in sorted(map(tuple, values)):
        if second < lowest:
            area, lowest = area + (3.0 - first) * (lowest - second), second
    return values, area, -np.mean([weights @ row for weights, row in zip(PREFERENCES, values, strict=True)])


def test_figures_of_a_seed_are_those_of_its_labelled_rows(methods):
    for seed in (0, 1):
        values, area, product = by_hand(cell("ours", seed))
        own = methods["ours"].seeds[seed]
        assert np.allclose(own.values, values)
        assert (own.hypervolume, own.inner_product) == (pytest.approx(area), pytest.approx(product))
        # A front of three points: the longer of its two steps.
        steps = np.linalg.norm(np.diff(values[np.argsort(values[:, 0])], axis=0), axis=1)
        assert own.largest_hole == pytest.approx(steps.max())
        assert own.order_correlation == 1.0
    assert methods["ours"].mean("hypervolume") == pytest.approx(np.mean([s.hypervolume for s in methods["ours"].seeds]))


def test_gaps_are_means_of_differences_of_the_same_seed(methods):
    for name, shift in (("dps", -0.2), ("prompt", 0.3)):
        gaps = methods[name].gaps
        expected = methods[name].mean("hypervolume") - methods["ours"].mean("hypervolume")
        assert gaps["hypervolume"].value == pytest.approx(expected)
        # Each loss moves by the same in every resample, so that the paired interval has no width at all.
        assert gaps["inner_product"].value == pytest.approx(-shift)
        assert (gaps["inner_product"].low, gaps["inner_product"].high) == (pytest.approx(-shift), pytest.approx(-shift))
        assert gaps["hypervolume"].low <= gaps["hypervolume"].value <= gaps["hypervolume"].high


def test_the_smallest_p_counts_once_for_every_other_method(methods):
    lowest = 2 / 201
    assert methods["dps"].gaps["inner_product"].p == pytest.approx(lowest)
    assert methods["dps"].gaps["inner_product"].p_holm == pytest.approx(3 * lowest)
    same = methods["mod"].gaps["hypervolume"]
    assert (same.value, same.low, same.high, same.p, same.p_holm) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert methods["ours"].gaps == {}


def test_shuffled_points_are_tested_by_the_inner_product_alone():
    """Their hypervolume is ours but for rounding, which no p may take for a difference."""
    cells = {name: [cell(name, 0, shift)] for name, shift in (("ours", 0.0), ("shuffled", -1e-9), ("dps", -0.2))}
    shuffled, dps = method_figures(cells, HELD_OUT)[1:]
    assert np.isnan([shuffled.gaps["hypervolume"].p, shuffled.gaps["hypervolume"].p_holm]).all()
    assert shuffled.gaps["hypervolume"].value == pytest.approx(0.0, abs=1e-7)
    assert shuffled.gaps["inner_product"].p == pytest.approx(2 / 201)
    # One row less to correct for.
    assert dps.gaps["hypervolume"].p_holm == dps.gaps["hypervolume"].p
    assert dps.gaps["inner_product"].p_holm == 2 * dps.gaps["inner_product"].p


def test_gaps_are_of_the_same_prompts_for_all_methods_and_seeds(methods):
    """One draw for all at once, and every figure by hand."""
    cells = [[cell("ours", seed) for seed in (0, 1)], [cell("dps", seed, shift=-0.2) for seed in (0, 1)]]
    losses = np.moveaxis(np.array([[own.losses for own in of_method] for of_method in cells]), 3, -1)
    resampled = bootstrap_means(losses, HELD_OUT.labelled.T, HELD_OUT.units, resamples=200).resampled
    volumes = np.array(
        [[[hypervolume(points, [3, 3]) for points in seeds] for seeds in draw] for draw in resampled]
    ).mean(axis=-1)
    gap = methods["dps"].gaps["hypervolume"]
    assert (gap.low, gap.high) == pytest.approx(tuple(np.quantile(volumes[:, 1] - volumes[:, 0], [0.05, 0.95])))
    assert gap.resamples == 200


def test_a_budget_is_that_of_a_seed_with_the_mean_of_the_seconds(methods):
    assert methods["ours"].budget == Budget(1, 5, 6, 0, 7, 8, 1.0, 1.5)


def test_the_interval_is_of_prompts_not_of_rows():
    """Rows that repeat their prompt's other row add nothing that is known."""
    one, two = cell("ours", 0), cell("dps", 1)

    def doubled(own):
        return replace(own, losses=np.repeat(own.losses, 2, axis=1))

    held = replace(HELD_OUT, units=[str(row) for row in range(ROWS)])
    twice = replace(held, labelled=np.repeat(held.labelled, 2, axis=0), units=[u for u in held.units for _ in range(2)])
    first = method_figures({"ours": [one], "dps": [two]}, held)[1].gaps["hypervolume"]
    again = method_figures({"ours": [doubled(one)], "dps": [doubled(two)]}, twice)[1].gaps["hypervolume"]
    assert (again.low, again.high) == (pytest.approx(first.low), pytest.approx(first.high))
    assert first.high - first.low > 0.05


def test_what_rests_on_one_prompt_has_neither_interval_nor_p():
    held = replace(HELD_OUT, labelled=np.array([[True, row < 2] for row in range(ROWS)]))
    cells = {name: [cell(name, 0, shift)] for name, shift in (("ours", 0.0), ("dps", -0.2), ("mod", 0.1))}
    for own in method_figures(cells, held)[1:]:
        for gap in own.gaps.values():
            assert abs(gap.value) > 0.01
            assert np.isnan([gap.low, gap.high, gap.p, gap.p_holm]).all()


def test_ours_alone_has_no_gaps():
    (only,) = method_figures({"ours": [cell("ours", 0)]}, HELD_OUT)
    assert only.gaps == {}


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), m=st.integers(2, 4))
def test_the_order_is_spearmans(seed, m):
    generator = np.random.default_rng(seed)
    preferences = generator.dirichlet(np.ones(m), size=7)
    losses = generator.integers(0, 4, size=(7, m)).astype(float)
    columns = [i for i in range(m) if np.ptp(losses[:, i]) > 0]
    expected = [spearmanr(preferences[:, i], -losses[:, i]).statistic for i in columns]
    if columns:
        assert order_correlation(preferences, losses) == pytest.approx(np.mean(expected))


def test_the_order_of_what_never_moves_is_not_known():
    assert np.isnan(order_correlation(PREFERENCES, np.ones((3, 2))))
    assert order_correlation(PREFERENCES, PREFERENCES) == -1.0
    # Nor of what moves by rounding alone.
    rounding = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]) * 1e-8
    assert np.isnan(order_correlation(PREFERENCES, 0.7 + rounding))
