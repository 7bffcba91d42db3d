"""StratifiedSampler: one preference in each part of the simplex, refusals."""

import numpy as np
import pytest

from mopref.preferences import simplex_cells
from mopref.samplers import StratifiedSampler


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_a_stratified_draw_has_one_preference_in_each_interval(n):
    sampler = StratifiedSampler(2, seed=1)
    for _ in range(10):
        assert sorted(np.floor(sampler.sample(n)[:, 0].double().numpy() * n).tolist()) == list(range(n))


@pytest.mark.parametrize(("m", "n"), [(3, 2), (3, 10), (4, 17), (5, 6)])
def test_a_stratified_draw_has_one_preference_in_each_part(m, n):
    sampler, inside = StratifiedSampler(m, seed=2), np.linalg.inv(simplex_cells(m, n))
    firsts = []
    for _ in range(30):
        coordinates = np.einsum("gi,nij->gnj", sampler.sample(n).double().numpy(), inside)
        parts = coordinates.min(axis=-1).argmax(axis=-1)
        assert sorted(parts.tolist()) == list(range(n))
        firsts.append(int(parts[0]))
    assert len(set(firsts)) > 1, "no group of a batch has always the same part"


def test_an_invalid_count_raises_and_is_named():
    with pytest.raises(ValueError, match="num_objectives is 0"):
        StratifiedSampler(0)
    with pytest.raises(ValueError, match="cannot draw 0 preferences: ask for at least one"):
        StratifiedSampler(2).sample(0)
