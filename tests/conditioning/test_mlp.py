"""The small networks that read a preference: their seed, their start, and λ as they like their inputs."""

import math

import pytest
import torch
from _tensors import tensor
from torch import nn

from mopref.conditioning.mlp import make_mlp, mlp_shapes, standardise_preferences


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_layers_and_activations_alternate():
    network = make_mlp((2, 8, 4, 3), generator())
    assert [type(module) for module in network] == [nn.Linear, nn.LeakyReLU] * 2 + [nn.Linear]
    assert [tuple(module.weight.shape) for module in network if isinstance(module, nn.Linear)] == [
        (8, 2),
        (4, 8),
        (3, 4),
    ]
    assert len(make_mlp((2, 3), generator())) == 1


def test_weights_start_as_those_of_a_linear_layer_do():
    layer = make_mlp((100, 200), generator())[0]
    limit = 1 / math.sqrt(100)
    for parameter in layer.parameters():
        assert 0.9 * limit < parameter.abs().max() <= limit
        assert parameter.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)


def test_the_generator_decides_and_the_global_one_is_left_alone():
    before = torch.random.get_rng_state()
    first, again, other = (make_mlp((2, 8, 3), generator(seed)).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("widths", [(), (3,), (3, 0), (-1, 2)])
def test_widths_that_make_no_network_are_refused(widths):
    with pytest.raises(ValueError, match="at least an input and an output, each at least 1"):
        make_mlp(widths, generator())


@pytest.mark.parametrize("m", [2, 3, 6])
def test_standardised_preferences_have_mean_0_and_variance_1(m):
    drawn = torch.distributions.Dirichlet(torch.ones(m, dtype=torch.float64)).sample((50_000,))
    standardised = standardise_preferences(drawn)
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(m).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(standardised.var(dim=0), torch.ones(m).double(), atol=0.05, rtol=0)


def test_standardised_preferences_by_hand():
    # m = 3: (λ − 1/3) · 3 √(4/2).
    corner = standardise_preferences(tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(corner, math.sqrt(2) * tensor([2.0, -1.0, -1.0]))
    assert torch.equal(standardise_preferences(torch.ones(4, 1)), torch.zeros(4, 1))


@pytest.mark.parametrize("widths", [(2, 3), (1, 4, 4, 2), (3, 1, 5)])
def test_the_shapes_are_those_of_the_parameters(widths):
    network = make_mlp(widths, torch.Generator().manual_seed(0))
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert mlp_shapes(widths) == shapes
    assert list(mlp_shapes(widths)) == list(shapes)


def test_a_layer_too_large_to_hold_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match=r"a layer's inputs is 2 and its outputs 10\^30: that is more than 2\^31"):
        make_mlp((2, 10**30, 2), torch.Generator())
