"""ParetoSetModel: bounds, seeds, live gradients. Whole fronts: tests/known_fronts/test_synthetic_fronts.py."""

import math

import pytest
import torch
from _tensors import DEVICE, DTYPE, tensor

from mopref import ParetoSetModel, simplex_lattice
from mopref.objectives import Quadratic


@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 2.0), ([0.1, -5.0, 1e4], [0.7, -4.9, 1e6])])
def test_outputs_respect_the_bounds_whatever_the_weights(bounds, scale):
    model = ParetoSetModel(3, 3, bounds=bounds, hidden=(16,)).to(DEVICE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    x = model(simplex_lattice(3, 200).to(DEVICE))
    lower, upper = (tensor(side, torch.float32) for side in bounds)
    assert ((x >= lower) & (x <= upper)).all()


def test_rounding_at_a_bound_does_not_leave_the_box():
    # (l + u)/2 ± (u − l)/2 alone is above u or below l for one variable in eight.
    lower = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    upper = lower + torch.rand(1000, generator=torch.Generator().manual_seed(1))
    model = ParetoSetModel(2, 1000, bounds=(lower, upper), hidden=(4,))
    for raw in (-0.5, 0.5):
        with torch.no_grad():
            model.net[-1].weight.zero_()
            model.net[-1].bias.fill_(raw)
        x = model(torch.tensor([[0.3, 0.7]]))
        assert ((x >= lower) & (x <= upper)).all()


def test_both_bounds_can_be_reached_exactly_enough():
    model = ParetoSetModel(2, 1, bounds=(-1.0, 3.0), hidden=(4,)).to(DEVICE, DTYPE)
    output = model.net[-1]
    for raw, expected in ((-0.5, -1.0), (0.0, 1.0), (0.5, 3.0)):
        with torch.no_grad():
            output.weight.zero_()
            output.bias.fill_(raw)
        assert model(tensor([[0.3, 0.7]])).item() == pytest.approx(expected, abs=1e-6)


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    preferences = simplex_lattice(2, 11)
    torch.manual_seed(0)
    first = ParetoSetModel(2, 10, seed=3)(preferences)
    untouched = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1) == untouched
    assert torch.equal(ParetoSetModel(2, 10, seed=3)(preferences), first)
    assert not torch.equal(ParetoSetModel(2, 10, seed=4)(preferences), first)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_preferences_are_standardised_under_the_uniform_distribution(m):
    model = ParetoSetModel(m, 2, hidden=(8,)).to(DEVICE)
    seen = []
    model.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    drawn = torch.distributions.Dirichlet(torch.ones(m)).sample((20_000,))
    model(drawn.to(DEVICE))
    torch.testing.assert_close(seen[0].mean(dim=0).cpu(), torch.zeros(m), atol=0.05, rtol=0)
    torch.testing.assert_close(seen[0].std(dim=0).cpu(), torch.ones(m), atol=0.05, rtol=0)


def test_one_objective_works():
    assert ParetoSetModel(1, 2)(torch.ones(3, 1)).shape == (3, 2)


def test_the_output_saturates_nowhere():
    # A sigmoid's or a clamp's slope is nearly 0 on most of this range, and training stops there.
    model = ParetoSetModel(2, 2001, hidden=(4,))
    output = model.net[-1]
    with torch.no_grad():
        output.weight.zero_()
        output.bias.copy_(torch.linspace(-10, 10, 2001))
    model(torch.tensor([[0.3, 0.7]])).sum().backward()
    assert (output.bias.grad.abs() > 0.1).double().mean() > 0.95


def test_gradients_reach_every_parameter_from_the_start():
    model = ParetoSetModel(2, 5).to(DEVICE, DTYPE)
    model(tensor(simplex_lattice(2, 9))).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_gradients_are_right():
    model = ParetoSetModel(2, 3, hidden=(5,)).to(DEVICE, torch.float64)
    preferences = tensor([[0.2, 0.8], [0.6, 0.4]], torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(model, (preferences,))


def test_type_follows_the_model_not_the_preferences():
    preferences = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    assert ParetoSetModel(2, 3)(preferences).dtype == torch.float32
    assert ParetoSetModel(2, 3).double()(preferences.float()).dtype == torch.float64


def test_state_round_trip_includes_the_bounds():
    model = ParetoSetModel(2, 3, bounds=(-1.0, 4.0), seed=1)
    other = ParetoSetModel(2, 3, seed=2)
    other.load_state_dict(model.state_dict())
    preferences = simplex_lattice(2, 5)
    assert torch.equal(model(preferences), other(preferences))


def test_for_problem_takes_the_problems_shape_and_bounds():
    problem = Quadratic([[0.0, 0.0], [1.0, 5.0], [2.0, 2.0]])
    model = ParetoSetModel.for_problem(problem, hidden=(7,), seed=5)
    assert (model.num_objectives, model.num_variables) == (3, 2)
    torch.testing.assert_close(torch.stack([model.lower, model.upper]), problem.bounds.float())
    assert model.net[0].out_features == 7
    problem.losses(model, None, simplex_lattice(3, 10))


def test_width_of_the_initial_weights_is_that_of_a_linear_layer():
    model = ParetoSetModel(2, 10)
    for layer in (module for module in model.net if isinstance(module, torch.nn.Linear)):
        limit = 1 / math.sqrt(layer.in_features)
        assert 0.5 * limit < layer.weight.abs().max() <= limit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParetoSetModel(0, 3), "num_objectives"),
        (lambda: ParetoSetModel(2, 3, hidden=(0,)), "at least 1"),
        (lambda: ParetoSetModel(2, 3, bounds=(1.0, 1.0)), "variable 0 has the bounds 1 and 1"),
        (lambda: ParetoSetModel(2, 3)(torch.tensor([0.5, 0.5])), r"shape \(2,\)"),
        (lambda: ParetoSetModel(2, 3)(torch.ones(4, 3) / 3), r"shape \(4, 3\).*2 columns"),
    ],
)
def test_wrong_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_it_tells_its_sizes():
    assert "num_objectives=2, num_variables=3" in repr(ParetoSetModel(2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_objectives": "2"}, "num_objectives is '2'"),
        ({"num_variables": 3.0}, r"num_variables is 3\.0"),
        ({"hidden": 8}, "hidden is 8, of type int: give a list of whole numbers"),
        ({"hidden": (8.0,)}, r"hidden\[0\] is 8\.0"),
        ({"seed": "x"}, "seed is 'x'"),
    ],
)
def test_options_of_another_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        ParetoSetModel(**({"num_objectives": 2, "num_variables": 3} | options))
