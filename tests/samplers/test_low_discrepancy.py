"""LowDiscrepancySampler: one balanced sequence, however it is cut, refusals."""

import warnings

import pytest
import torch
from hypothesis import given, strategies as st

from mopref.samplers import LowDiscrepancySampler


def test_every_draw_of_a_power_of_two_from_sobol_is_balanced():
    sampler = LowDiscrepancySampler(2, seed=3)
    for _ in range(20):
        assert sorted(sampler.sample(8)[:, 0].mul(8).int().tolist()) == list(range(8))


@pytest.mark.parametrize("sequence", ["sobol", "halton"])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_one_sequence_however_it_is_cut(sequence, sizes):
    uncut, cut = (LowDiscrepancySampler(3, sequence, seed=6) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pieces = torch.cat([cut.sample(size) for size in sizes])
    assert torch.equal(pieces, uncut.sample(sum(sizes)))


def test_an_invalid_option_raises_and_is_named():
    with pytest.raises(ValueError, match="sequence is 'Sobol': choose 'sobol' or 'halton'"):
        LowDiscrepancySampler(2, "Sobol")
    with pytest.raises(ValueError, match="num_objectives is 0"):
        LowDiscrepancySampler(0)


def test_more_objectives_than_a_sequence_is_known_for_are_refused():
    with pytest.raises(ValueError, match="num_objectives is 21203: Sobol's sequence is known for 21202 at most"):
        LowDiscrepancySampler(21203)
    with pytest.raises(ValueError, match="too many to hold"):
        LowDiscrepancySampler(10**17, sequence="halton")
