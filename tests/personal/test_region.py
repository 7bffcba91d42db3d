"""The credible region."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from personal_inputs import margins

from mopref.personal import CredibleRegion
from mopref.personal.posterior import Posterior, posterior


def region_of(m: int, seed: int, bits: list[int], level: float = 0.9) -> CredibleRegion:
    pairs = margins(max(len(bits), 1), m, seed)
    return CredibleRegion(posterior(pairs, dict(enumerate(bits))), pairs.names, level)


@settings(max_examples=25)
@given(
    m=st.sampled_from([2, 3]),
    seed=st.integers(0, 99),
    bits=st.lists(st.integers(0, 1), min_size=3, max_size=8),
    level=st.floats(0.05, 0.99),
)
def test_it_is_the_smallest_set_with_the_probability(m, seed, bits, level):
    region = region_of(m, seed, bits, level)
    inside, outside = region.probabilities[region.inside], region.probabilities[~region.inside]
    assert float(inside.sum()) >= level - 1e-12
    # Without its least probable point it has less.
    assert float(inside.sum() - inside.min()) < level
    assert len(outside) == 0 or inside.min() >= outside.max()
    assert region.volume == pytest.approx(len(inside) / len(region.probabilities))


@settings(max_examples=25)
@given(m=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99), bits=st.lists(st.integers(0, 1), min_size=3, max_size=6))
def test_each_interval_has_the_probability_and_holds_the_most_of_it(m, seed, bits):
    region = region_of(m, seed, bits)
    for weights, (low, high) in zip(region.points.T, region.intervals.tolist(), strict=True):
        assert 0 <= low < high <= 1
        within = (weights > low - 1e-9) & (weights < high + 1e-9)
        assert float(region.probabilities[within].sum()) >= 0.9 - 1e-9


def test_intervals_of_a_flat_posterior_are_known():
    """One λ_i of Dirichlet(1, 1, 1) has the density 2(1 − λ_i): P(λ_i ≤ x) = 1 − (1 − x)²."""
    region = region_of(3, 0, [])
    expected = 1 - np.sqrt(0.1)
    assert region.intervals[:, 0].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert region.intervals[:, 1].tolist() == pytest.approx([expected] * 3, abs=0.04)
    assert region_of(2, 0, []).intervals[0].diff().item() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("m", [2, 3])
def test_a_point_is_inside_where_the_lattice_says_so(m):
    region = region_of(m, 3, [0, 1, 1, 0, 0])
    assert 0.1 < region.volume < 0.9
    for point, inside in zip(region.points, region.inside.tolist(), strict=True):
        assert region.contains(point) == inside


def test_membership_goes_by_name_too():
    region = CredibleRegion(
        Posterior(
            torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64),
            torch.tensor([[0.95], [0.05]], dtype=torch.float64),
            torch.ones(1, dtype=torch.float64),
        ),
        ("helpful", "harmless"),
    )
    assert region.inside.tolist() == [True, False]
    assert region.contains({"harmless": 0, "helpful": 1})
    assert not region.contains({"harmless": 1, "helpful": 0})
    assert repr(region).startswith("CredibleRegion(helpful 0.50 to 1.00, harmless 0.00 to 0.50; level 0.9, 50%")


def test_what_is_no_preference_or_level_is_refused():
    region = region_of(2, 0, [0, 1])
    with pytest.raises(ValueError, match="sums to"):
        region.contains([0.5, 0.6])
    with pytest.raises(ValueError, match="one at a time"):
        region.contains([[0.5, 0.5], [0.4, 0.6]])
    with pytest.raises(ValueError, match="level is 1"):
        region_of(2, 0, [0], level=1.0)
