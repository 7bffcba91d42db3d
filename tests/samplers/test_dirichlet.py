"""DirichletSampler and UniformSampler: moments and marginals, refusals."""

import math

import pytest
import torch

from mopref.samplers import DirichletSampler, UniformSampler


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformSampler(0), "num_objectives is 0: at least one objective is needed"),
        (lambda: DirichletSampler(2, 0.0), r"alpha is \[0\.0, 0\.0\]: every concentration must be positive"),
        (lambda: DirichletSampler(2, -1.0), r"alpha is \[-1\.0, -1\.0\]"),
        (lambda: DirichletSampler(2, math.inf), r"alpha is \[inf, inf\]"),
        (lambda: DirichletSampler(3, [1.0, 2.0]), r"alpha has shape \(2,\): give one number or 3 of them"),
    ],
)
def test_an_invalid_option_raises_and_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
