"""VertexBiasedSampler: how often a corner comes, refusals."""

import math

import pytest
import torch

from mopref.samplers import VertexBiasedSampler


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_vertex_probability(probability):
    """The named share of the draws is a corner, and each corner is as likely as the others."""
    n, m = 20_000, 3
    sample = VertexBiasedSampler(m, vertex_probability=probability, seed=0).sample(n)
    corner = (sample == 1).any(-1)
    assert corner.double().mean().item() == pytest.approx(probability, abs=4 * math.sqrt(0.25 / n))
    assert torch.equal(sample[corner].sum(-1), torch.ones(int(corner.sum())))
    if probability:
        shares = (sample[corner] == 1).double().mean(0)
        torch.testing.assert_close(shares, torch.full((m,), 1 / m, dtype=torch.float64), atol=0.02, rtol=0)
    if probability < 1:
        interior = sample[~corner].double().mean(0)
        torch.testing.assert_close(interior, torch.full((m,), 1 / m, dtype=torch.float64), atol=0.02, rtol=0)


@pytest.mark.parametrize("probability", [1.5, -0.1, math.nan])
def test_what_is_no_probability_raises(probability):
    with pytest.raises(ValueError, match=rf"vertex_probability is {probability}: it is a probability"):
        VertexBiasedSampler(2, vertex_probability=probability)
