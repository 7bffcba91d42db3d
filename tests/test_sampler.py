"""The sampler's frame: what one of one's own inherits by implementing ``draw``."""

import numpy as np
import pytest
import torch

from mopref import PreferenceSampler
from mopref.samplers import UniformSampler
from mopref.scalarizers import Linear


class Halves(PreferenceSampler):
    """λ_1 in {0, ½, 1}."""

    def __init__(self, num_objectives=2, largest=1.0, seed=0):
        super().__init__(num_objectives, seed)
        self.largest = largest

    def draw(self, n, generator):
        first = self.largest * generator.integers(3, size=n) / 2
        return np.stack([first, 1 - first], axis=1)


def test_seeds_types_and_states_are_handled():
    sampler = Halves(seed=1)
    first = sampler.sample(10)
    assert first.dtype == torch.get_default_dtype()
    assert first.shape == (10, 2)
    state, expected = sampler.state_dict(), sampler.sample(10)
    sampler.load_state_dict(state)
    assert torch.equal(sampler.sample(10), expected)
    sampler.seed(1)
    assert torch.equal(sampler.sample(10), first)


def test_observing_does_nothing_by_default():
    sampler, other = Halves(), Halves()
    sampler.observe(sampler.sample(3), torch.rand(3, 2), Linear())
    other.sample(3)
    assert torch.equal(sampler.sample(5), other.sample(5))


def test_a_repr_tells_what_is_drawn():
    assert repr(Halves(largest=0.5, seed=7)) == "Halves(num_objectives=2, largest=0.5)"


def test_counts_below_one_raise():
    with pytest.raises(ValueError, match="num_objectives is 0: at least one objective is needed"):
        Halves(0)
    with pytest.raises(ValueError, match="cannot draw 0 preferences: ask for at least one"):
        Halves().sample(0)


@pytest.mark.parametrize("seed", ["x", 2.5, None, True, [1, "2"], np.random.default_rng(0)])
def test_a_seed_is_a_whole_number_or_a_list_of_them(seed):
    for make in (lambda: UniformSampler(2, seed=seed), lambda: UniformSampler(2).seed(seed)):
        with pytest.raises(TypeError, match=r"seed.* is .*: give a whole number"):
            make()
    for wrong in (-1, [1, -1]):
        with pytest.raises(ValueError, match=r"seed is .*: it must be ≥ 0"):
            UniformSampler(2, seed=wrong)


@pytest.mark.parametrize("n", [2.0, "2", True, None])
def test_a_number_of_draws_is_a_whole_number(n):
    with pytest.raises(TypeError, match=r"n is .*: give a whole number"):
        UniformSampler(2).sample(n)
    assert UniformSampler(2).sample(np.int64(3)).shape == (3, 2)


@pytest.mark.parametrize("seed", [3, [3, 1], (3, 1), [3, 0, 1]])
def test_the_same_seed_is_numpys(seed):
    expected = np.random.default_rng(seed).dirichlet(np.ones(2), size=4)
    assert UniformSampler(2, seed=seed).sample(4).tolist() == torch.tensor(expected).float().tolist()
