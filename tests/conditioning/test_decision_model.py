"""DecisionModel and ConcatenationModel: from a conditioned network into the box of a problem."""

import math

import pytest
import torch
from torch import nn

from mopref import ParetoSetModel, simplex_lattice
from mopref.conditioning.box import map_to_box
from mopref.conditioning.concatenation import ConcatenationModel
from mopref.conditioning.decision_model import DecisionModel
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.mlp import make_mlp
from mopref.objectives import Quadratic


class Given(nn.Module):
    """Returns what it is told to, whatever comes in, and remembers its inputs."""

    def __init__(self, raw: torch.Tensor) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, x, preferences):
        self.seen = (x, preferences)
        return self.raw


def film(inputs: int, outputs: int, m: int) -> nn.Module:
    return FiLMModel(make_mlp((inputs, 8, outputs), torch.Generator().manual_seed(0)), m)


def test_the_sine_reaches_both_bounds_by_hand():
    raw = torch.tensor([[-0.5, 0.0, 0.5, 1 / 6, 1.5, 2.0]], dtype=torch.float64)
    lower, upper = torch.full((6,), -1.0).double(), torch.full((6,), 3.0).double()
    expected = torch.tensor([[-1.0, 1.0, 3.0, 2.0, -1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(map_to_box(raw, lower, upper), expected)


def test_the_network_sees_the_anchor_in_every_row():
    network = Given(torch.zeros(4, 2))
    model = DecisionModel(network, 2, bounds=([0.0, -1.0], [2.0, 0.0]), anchor=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    preferences = simplex_lattice(2, 4)
    x = model(preferences)
    torch.testing.assert_close(x, torch.tensor([[1.0, -0.5]]).expand(4, 2))
    seen, given = network.seen
    assert seen.shape == (4, 3, 2)
    assert all(torch.equal(row, torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])) for row in seen)
    assert torch.equal(given, preferences)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_outputs_respect_the_bounds_whatever_the_weights(scale):
    lower, upper = torch.rand(50, generator=torch.Generator().manual_seed(0)), torch.tensor(1.5)
    model = DecisionModel(film(4, 50, 3), 50, bounds=(lower, upper), anchor=torch.ones(4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1).mul_(scale)
    x = model(simplex_lattice(3, 100))
    assert ((x >= lower) & (x <= upper)).all()


def test_concatenation_with_an_empty_anchor_is_a_pareto_set_model():
    expected = ParetoSetModel(3, 12, bounds=(-2.0, 5.0), hidden=(16, 16), seed=7)
    network = ConcatenationModel(make_mlp((3, 16, 16, 12), torch.Generator().manual_seed(7)), 3)
    model = DecisionModel(network, 12, bounds=(-2.0, 5.0), anchor=[])
    assert torch.equal(model(simplex_lattice(3, 50)), expected(simplex_lattice(3, 50)))


def test_concatenation_by_hand():
    base = nn.Linear(3, 1)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
        base.bias.zero_()
    # λ = (1, 0) is λ̃ = (√3, −√3).
    y = ConcatenationModel(base, 2)(torch.tensor([[2.0], [3.0]]), preferences=[[1.0, 0.0], [0.5, 0.5]])
    torch.testing.assert_close(y, torch.tensor([[2 - 90 * math.sqrt(3)], [3.0]]))


def test_concatenation_passes_other_arguments_on():
    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x, other, factor):
            return self.layer(x) * factor, other

    y, other = ConcatenationModel(Base(), 2)(torch.ones(2, 1), "other", preferences=[0.5, 0.5], factor=0.0)
    assert other == "other"
    assert (y == 0).all()


@pytest.mark.parametrize("x", [torch.tensor(1.0), torch.ones(3), torch.ones(3, 1, dtype=torch.long)])
def test_concatenation_needs_rows_of_features(x):
    with pytest.raises(ValueError, match="floating-point of shape"):
        ConcatenationModel(nn.Linear(3, 1), 2)(x, preferences=[0.5, 0.5])


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
        (lambda: DecisionModel(Given(torch.zeros(3, 1)), 2, anchor=[1.0])(simplex_lattice(2, 3)), r"not \(3, 2\)"),
        (lambda: DecisionModel(Given(torch.zeros(1, 2)), 2, anchor=[1.0])(simplex_lattice(2, 3)), r"shape \(1, 2\)"),
        (lambda: DecisionModel(film(1, 2, 2), 2, anchor=[1.0])(torch.tensor([0.5, 0.5])), "give a matrix"),
        (lambda: DecisionModel(film(1, 2, 2), 2, anchor=[1.0])(simplex_lattice(3, 3)), "2 objectives"),
        (lambda: DecisionModel(film(1, 2, 2), 2, anchor=[math.inf]), "not finite"),
        (lambda: DecisionModel(film(1, 2, 2), 2, bounds=(1.0, 1.0), anchor=[1.0]), "variable 0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
