"""DecisionModel: from a conditioned network into the box of a problem."""

import math

import pytest
import torch
from _tensors import DEVICE, DTYPE, tensor
from torch import nn

from mopref import ParetoSetModel, simplex_lattice
from mopref.conditioning.concatenation import ConcatenationModel
from mopref.conditioning.decision_model import DecisionModel
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.mlp import make_mlp
from mopref.objectives import Quadratic


class Constant(nn.Module):
    """Returns what it is told to, whatever comes in, and remembers its inputs."""

    def __init__(self, raw: torch.Tensor) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, x, preferences):
        self.seen = (x, preferences)
        return self.raw


def film(inputs: int, outputs: int, m: int) -> nn.Module:
    return FiLMModel(make_mlp((inputs, 8, outputs), torch.Generator().manual_seed(0)), m)


def test_the_network_sees_the_anchor_in_every_row():
    network = Constant(torch.zeros(4, 2))
    model = DecisionModel(network, 2, bounds=([0.0, -1.0], [2.0, 0.0]), anchor=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    preferences = simplex_lattice(2, 4)
    x = model(preferences)
    torch.testing.assert_close(x, torch.tensor([[1.0, -0.5]]).expand(4, 2))
    seen, seen_preferences = network.seen
    assert seen.shape == (4, 3, 2)
    assert all(torch.equal(row, torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])) for row in seen)
    assert torch.equal(seen_preferences, preferences)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_outputs_respect_the_bounds_whatever_the_weights(scale):
    lower, upper = torch.rand(50, generator=torch.Generator().manual_seed(0)), torch.tensor(1.5)
    model = DecisionModel(film(4, 50, 3), 50, bounds=(lower, upper), anchor=torch.ones(4)).to(DEVICE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1).mul_(scale)
    x = model(simplex_lattice(3, 100).to(DEVICE))
    assert ((x >= lower.to(DEVICE)) & (x <= upper.to(DEVICE))).all()


def test_concatenation_with_an_empty_anchor_is_a_pareto_set_model():
    expected = ParetoSetModel(3, 12, bounds=(-2.0, 5.0), hidden=(16, 16), seed=7)
    network = ConcatenationModel(make_mlp((3, 16, 16, 12), torch.Generator().manual_seed(7)), 3)
    model = DecisionModel(network, 12, bounds=(-2.0, 5.0), anchor=[])
    preferences = tensor(simplex_lattice(3, 50))
    x, expected_x = model.to(DEVICE, DTYPE)(preferences), expected.to(DEVICE, DTYPE)(preferences)
    assert torch.equal(x, expected_x)


def test_for_problem_takes_variables_and_bounds_and_gives_losses():
    problem = Quadratic([[0.0, 0.0], [1.0, 5.0], [2.0, 2.0]])
    model = DecisionModel.for_problem(film(4, 2, 3), problem, anchor=torch.ones(4))
    torch.testing.assert_close(torch.stack([model.lower, model.upper]), problem.bounds.float())
    preferences = simplex_lattice(3, 10)
    losses = problem.losses(model, None, preferences)
    torch.testing.assert_close(losses, problem.evaluate(model(preferences)))
    losses.sum().backward()
    assert any((parameter.grad != 0).any() for parameter in model.parameters())


def test_state_round_trip_includes_bounds_and_anchor():
    model = DecisionModel(film(4, 3, 2), 3, bounds=(-1.0, 4.0), anchor=torch.arange(4.0))
    other = DecisionModel(film(4, 3, 2), 3, anchor=torch.zeros(4))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(simplex_lattice(2, 5)), other(simplex_lattice(2, 5)))


def test_only_the_network_is_trained():
    model = DecisionModel(film(4, 3, 2), 3, anchor=torch.ones(4))
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"network"}
    assert {buffer.dtype for buffer in model.double().buffers()} == {torch.float64}
    assert model(simplex_lattice(2, 5).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        # One column would be broadcast to all variables.
        (lambda: DecisionModel(Constant(torch.zeros(3, 1)), 2, anchor=[1.0])(simplex_lattice(2, 3)), r"not \(3, 2\)"),
        (lambda: DecisionModel(Constant(torch.zeros(1, 2)), 2, anchor=[1.0])(simplex_lattice(2, 3)), r"shape \(1, 2\)"),
        (lambda: DecisionModel(film(1, 2, 2), 2, anchor=[1.0])(torch.tensor([0.5, 0.5])), "give a matrix"),
        (lambda: DecisionModel(film(1, 2, 2), 2, anchor=[1.0])(simplex_lattice(3, 3)), "2 objectives"),
        (lambda: DecisionModel(film(1, 2, 2), 2, anchor=[math.inf]), "not finite"),
        (lambda: DecisionModel(film(1, 2, 2), 2, bounds=(1.0, 1.0), anchor=[1.0]), "variable 0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_it_tells_its_sizes():
    assert "num_variables=3, anchor=(4,)" in repr(DecisionModel(film(4, 3, 2), 3, anchor=torch.ones(4)))


def test_what_is_no_number_is_named():
    with pytest.raises(TypeError, match=r"num_variables is 2\.0, of type float: give a whole number"):
        DecisionModel(film(1, 2, 2), 2.0, anchor=[1.0])
    for anchor in ("1.0", ["1.0"], {1.0}, [1j], None):
        with pytest.raises(ValueError, match="anchor is "):
            DecisionModel(film(1, 2, 2), 2, anchor=anchor)
