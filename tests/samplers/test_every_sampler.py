"""What every preference sampler keeps to: on the simplex, seeded, resumable, and distributed as named."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, strategies as st
from sampler_inputs import MAKERS, UNIFORM
from scipy.stats import beta, kstest

from mopref import PreferenceSampler
from mopref.scalarizers import Linear
from mopref.training.checkpoint import load_state, save_state


@pytest.fixture(params=list(MAKERS))
def make(request):
    return MAKERS[request.param]


@pytest.mark.parametrize("m", [2, 3, 6])
def test_samples_lie_on_the_simplex(make, m):
    sampler = make(m)
    assert isinstance(sampler, PreferenceSampler)
    sample = sampler.sample(500)
    assert sample.shape == (500, m)
    assert (sample >= 0).all()
    torch.testing.assert_close(sample.double().sum(-1), torch.ones(500, dtype=torch.float64), atol=1e-6, rtol=0)


def test_seeds(make):
    assert torch.equal(make(3, seed=7).sample(10), make(3, seed=7).sample(10))
    assert not torch.equal(make(3, seed=7).sample(10), make(3, seed=8).sample(10))
    sampler = make(3, seed=7)
    assert not torch.equal(sampler.sample(10), sampler.sample(10)), "successive draws must differ"


def test_samplers_leave_the_global_generator_alone(make):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    make(3, seed=1).sample(10)
    assert torch.equal(torch.rand(4), expected)


def test_samplers_do_not_depend_on_the_global_generator(make):
    torch.manual_seed(0)
    first = make(3, seed=1).sample(10)
    torch.manual_seed(99)
    assert torch.equal(make(3, seed=1).sample(10), first)


def test_state_resumes_the_stream(make):
    sampler = make(3, seed=2)
    sampler.sample(5)
    state = sampler.state_dict()
    expected = torch.cat([sampler.sample(4), sampler.sample(4)])
    other = make(3, seed=77)
    other.sample(3)
    other.load_state_dict(state)
    assert torch.equal(torch.cat([other.sample(4), other.sample(4)]), expected)


def test_a_saved_state_is_a_snapshot(make):
    """Sampling on must not change a state taken before."""
    sampler = make(3, seed=2)
    state = sampler.state_dict()
    expected = sampler.sample(6)
    other = make(3, seed=5)
    other.load_state_dict(state)
    assert torch.equal(other.sample(6), expected)


@pytest.mark.parametrize("seed", [3, [3, 1]])
def test_a_checkpoint_continues_in_the_middle(make, seed, tmp_path):
    """Whatever was drawn before, in a new process, under another seed."""
    sampler = make(3)
    sampler.seed(seed)
    sampler.sample(7)
    save_state({"sampler": sampler.state_dict()}, tmp_path)
    other = make(3, seed=5)
    other.sample(2)
    other.load_state_dict(load_state(tmp_path)["sampler"])
    assert torch.equal(
        torch.cat([other.sample(5), other.sample(40)]), torch.cat([sampler.sample(5), sampler.sample(40)])
    )


def test_a_state_before_the_first_draw_resumes(make):
    sampler, other = make(3, seed=2), make(3, seed=9)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.sample(3), sampler.sample(3))


def test_processes_draw_differently(make):
    """The trainer seeds each process with the run's seed and the process's number."""
    first, again, other = make(3), make(3), make(3)
    first.seed([7, 0]), again.seed([7, 0]), other.seed([7, 1])
    again.sample(3)
    again.seed([7, 0])
    drawn = first.sample(12)
    assert torch.equal(again.sample(12), drawn), "a seed restarts"
    assert not torch.equal(other.sample(12), drawn)


def test_observing_changes_nothing_by_default(make):
    sampler, other = make(2, seed=1), make(2, seed=1)
    sampler.observe(sampler.sample(3), torch.rand(3, 2), Linear())
    other.sample(3)
    assert torch.equal(sampler.sample(5), other.sample(5))


@given(name=st.sampled_from(sorted(MAKERS)), m=st.integers(1, 6), draws=st.lists(st.integers(1, 40), max_size=3))
def test_every_draw_is_valid(name, m, draws):
    # Which has the pull beside one objective at least.
    assume(m > 1 or name != "cone")
    sampler = MAKERS[name](m)
    for n in draws:
        sample = sampler.sample(n)
        assert sample.shape == (n, m)
        assert (sample >= 0).all()
        assert (sample.double().sum(-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_moments(name, m):
    """Uniform on the simplex: mean 1/m, variance (m − 1)/(m²(m + 1)); normalised uniforms would not match."""
    sample = UNIFORM[name](m).sample(20_000).double()
    torch.testing.assert_close(sample.mean(0), torch.full((m,), 1 / m, dtype=torch.float64), atol=8e-3, rtol=0)
    variance = torch.full((m,), (m - 1) / (m**2 * (m + 1)), dtype=torch.float64)
    torch.testing.assert_close(sample.var(0), variance, atol=0, rtol=0.05)
    # E λ_1 λ_2 = 1/(m(m + 1)): the weights depend on each other as they should.
    assert (sample[:, 0] * sample[:, -1]).mean().item() == pytest.approx(1 / (m * (m + 1)), rel=0.05)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("name", UNIFORM)
def test_every_weight_is_beta_distributed(name, m):
    """λ_i ~ Beta(1, m − 1): by Kolmogorov and Smirnov's distance, over draws of 50."""
    sampler = UNIFORM[name](m, seed=4)
    sample = torch.cat([sampler.sample(50) for _ in range(40)]).double().numpy()
    for weights in sample.T:
        # 1.95/√n is passed by one random sample in a thousand.
        assert kstest(weights, beta(1, max(m - 1, 1)).cdf).statistic < 1.95 / math.sqrt(len(sample))


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("name", ["sobol", "halton", "stratified"])
def test_each_single_preference_is_uniform_over_the_seeds(name, m):
    """No point of the sequence is always in the same place."""
    drawn = np.stack([UNIFORM[name](m, seed=seed).sample(3)[2].double().numpy() for seed in range(300)])
    for weights in drawn.T:
        assert kstest(weights, beta(1, m - 1).cdf).pvalue > 1e-3


def share_error(sample, directions):
    """Largest error of the share of preferences below each decile of ⟨direction, λ⟩, mean over directions."""
    dense = np.random.default_rng(5).dirichlet(np.ones(sample.shape[1]), 20_000)
    deciles = np.quantile(dense @ directions.T, np.linspace(0.1, 0.9, 9), axis=0)
    shares = (sample @ directions.T <= deciles[:, None]).mean(axis=1)
    return np.abs(shares - np.linspace(0.1, 0.9, 9)[:, None]).max(axis=0).mean()


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("n", [50, 64])
def test_spread_more_evenly_than_random(m, n):
    directions = np.concatenate([np.eye(m), np.random.default_rng(1).normal(size=(8, m))])
    error = {
        name: np.mean([share_error(UNIFORM[name](m, seed).sample(n).double().numpy(), directions) for seed in range(8)])
        for name in UNIFORM
    }
    for name in ("sobol", "halton", "stratified"):
        assert error[name] < 0.75 * error["uniform"], (name, error)


def test_names_in_place_of_a_number(make):
    """The same draws, and the names are kept for comparing."""
    names = ("helpful", "harmless", "brief")
    sampler, numbered = make(names, seed=3), make(3, seed=3)
    assert torch.equal(sampler.sample(7), numbered.sample(7))
    assert (sampler.num_objectives, sampler.names, numbered.names) == (3, names, None)
    assert f"num_objectives={names}" in repr(sampler)
    assert "num_objectives=3" in repr(numbered)
    assert " names=" not in repr(sampler)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "ab", (), ("a", "a"), None], ids=repr)
def test_what_is_no_number_of_objectives_is_refused(make, wrong):
    with pytest.raises(ValueError, match="num_objectives is "):
        make(wrong)
