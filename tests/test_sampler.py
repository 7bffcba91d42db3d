"""Preference samplers and the evaluation lattice: on the simplex, seeded, resumable, and distributed as named."""

import math

import pytest
import torch

from mopref import simplex_lattice
from mopref.sampler import DirichletSampler, PreferenceSampler, UniformSampler, VertexBiasedSampler

MAKERS = {
    "uniform": lambda m, seed=0: UniformSampler(m, seed=seed),
    "dirichlet": lambda m, seed=0: DirichletSampler(m, 0.5, seed=seed),
    "vertex-biased": lambda m, seed=0: VertexBiasedSampler(m, seed=seed),
}


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


@pytest.mark.parametrize("m", [2, 3, 5])
def test_uniform_moments(m):
    """Uniform on the simplex: mean 1/m, variance (m − 1)/(m²(m + 1)); normalised uniforms would not match."""
    sample = UniformSampler(m, seed=0).sample(40_000).double()
    torch.testing.assert_close(sample.mean(0), torch.full((m,), 1 / m, dtype=torch.float64), atol=6e-3, rtol=0)
    variance = torch.full((m,), (m - 1) / (m**2 * (m + 1)), dtype=torch.float64)
    torch.testing.assert_close(sample.var(0), variance, atol=0, rtol=0.04)


def test_uniform_marginal_for_two_objectives_is_flat():
    counts = torch.histc(UniformSampler(2, seed=1).sample(20_000)[:, 0].float(), bins=10, min=0.0, max=1.0)
    assert (counts / 20_000 - 0.1).abs().max() < 0.012


@pytest.mark.parametrize("alpha", [0.3, 4.0, [1.0, 2.0, 5.0]])
def test_dirichlet_moments(alpha):
    a = torch.tensor(alpha if isinstance(alpha, list) else [alpha] * 3, dtype=torch.float64)
    sample = DirichletSampler(3, alpha, seed=0).sample(40_000).double()
    mean = a / a.sum()
    torch.testing.assert_close(sample.mean(0), mean, atol=6e-3, rtol=0)
    torch.testing.assert_close(sample.var(0), mean * (1 - mean) / (a.sum() + 1), atol=0, rtol=0.05)


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


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: UniformSampler(0),
        lambda: DirichletSampler(2, 0.0),
        lambda: DirichletSampler(2, -1.0),
        lambda: DirichletSampler(3, [1.0, 2.0]),
        lambda: VertexBiasedSampler(2, vertex_probability=1.5),
        lambda: VertexBiasedSampler(2, vertex_probability=-0.1),
    ],
)
def test_invalid_samplers_raise(wrong):
    with pytest.raises(ValueError):
        wrong()


@pytest.mark.parametrize("m", [2, 3, 4, 5])
@pytest.mark.parametrize("n", [5, 11, 21, 66])
def test_lattice_lies_on_the_simplex_with_its_corners(m, n):
    lattice = simplex_lattice(m, n)
    assert lattice.ndim == 2
    assert lattice.shape[1] == m
    assert m <= len(lattice) <= n
    assert (lattice >= 0).all()
    torch.testing.assert_close(lattice.double().sum(-1), torch.ones(len(lattice)).double(), atol=1e-6, rtol=0)
    assert len(torch.unique(lattice, dim=0)) == len(lattice), "no preference twice"
    for corner in torch.eye(m):
        assert (lattice.float() == corner).all(-1).any(), f"corner {corner.tolist()} is missing"


def test_lattice_is_as_fine_as_asked():
    """Two objectives: n equal steps. Three: the finest triangular lattice that fits, (h + 1)(h + 2)/2 points."""
    two = simplex_lattice(2, 11)
    torch.testing.assert_close(two[:, 0].sort().values.double(), torch.linspace(0, 1, 11, dtype=torch.float64))
    assert len(simplex_lattice(3, 66)) == 66
    assert len(simplex_lattice(3, 77)) == 66
    steps = simplex_lattice(3, 66).double() * 10
    torch.testing.assert_close(steps, steps.round(), atol=1e-5, rtol=0)


def test_a_lattice_smaller_than_its_corners_raises():
    with pytest.raises(ValueError):
        simplex_lattice(3, 2)
