"""The frame of a problem: what one of one's own inherits, what is known of its front, which outputs are refused."""

import math

import pytest
import torch
from _tensors import tensor
from torch import nn

from mopref.problem import Problem


class Parabolas(Problem):
    """Two parabolas of one variable, and nothing known of their front."""

    def __init__(self):
        super().__init__(num_variables=1, num_objectives=2, bounds=(-2.0, 2.0))

    def evaluate(self, x):
        return torch.cat([x**2, (x - 1) ** 2], dim=-1)


class Constant(nn.Module):
    """Returns the same x, whatever the preferences."""

    def __init__(self, x):
        super().__init__()
        self.x = tensor(x)

    def forward(self, preferences):
        return self.x


def test_a_user_defined_problem_needs_no_more_than_evaluate():
    problem = Parabolas()
    assert problem.names == ("f1", "f2")
    assert problem.num_objectives == 2
    assert problem.num_variables == 1
    assert problem.bounds.tolist() == [[-2.0], [2.0]]
    assert problem.ideal_point is None
    assert problem.nadir_point is None
    losses = problem.losses(Constant([[2.0], [0.5]]), None, tensor(torch.eye(2)))
    assert losses.tolist() == [[4.0, 1.0], [0.25, 0.25]]
    with pytest.raises(NotImplementedError, match="Pareto front of Parabolas"):
        problem.pareto_front(10)
    with pytest.raises(NotImplementedError, match="Pareto set of Parabolas"):
        problem.pareto_set(10)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0.0]], r"shape \(1, 1\), not \(2, 1\)"),
        ([[0.0, 1.0], [0.0, 1.0]], r"shape \(2, 2\), not \(2, 1\)"),
        ([0.0, 1.0], r"shape \(2,\), not \(2, 1\)"),
        ([[0.0], [2.1]], r"row 1 .* 2\.1 for variable 0, outside Parabolas's bounds \[-2, 2\]"),
        ([[-3.0], [0.0]], "row 0 .* -3 for variable 0"),
        ([[math.nan], [2.1]], r"row 1 .* 2\.1 for variable 0"),
    ],
)
def test_a_models_output_is_checked(x, message):
    with pytest.raises(ValueError, match=message):
        Parabolas().losses(Constant(x), None, tensor(torch.eye(2)))


def test_rounding_at_a_bound_is_allowed():
    Parabolas().losses(Constant([[2.00001], [-2.00001]]), None, tensor(torch.eye(2)))


def test_a_number_that_is_none_is_left_to_the_trainer_to_tell():
    losses = Parabolas().losses(Constant([[math.nan], [1.0]]), None, tensor(torch.eye(2)))
    assert losses.isnan().any(dim=1).tolist() == [True, False]


def test_names_are_counted():
    class Named(Parabolas):
        def __init__(self):
            Problem.__init__(self, 1, 2, names=("cost",))

    with pytest.raises(ValueError, match=r"2 objectives, but 1 names \(cost\)"):
        Named()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_variables": 0, "num_objectives": 2}, "num_variables is 0: it must be at least 1"),
        ({"num_variables": 1, "num_objectives": 0}, "num_objectives is 0: it must be at least 1"),
        ({"num_variables": 2, "num_objectives": 1, "bounds": (1.0, 0.0)}, "variable 0 has the bounds 1 and 0"),
    ],
)
def test_impossible_frames_are_refused(options, message):
    class Mine(Problem):
        def evaluate(self, x):
            return x

    with pytest.raises(ValueError, match=message):
        Mine(**options)


def test_bounds_may_be_a_tensor():
    class Mine(Problem):
        def evaluate(self, x):
            return x

    sides = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    torch.testing.assert_close(Mine(2, 2, bounds=sides).bounds, sides.double())


def test_a_front_that_is_known_as_a_set_is_its_values():
    class Line(Parabolas):
        def pareto_set(self, num_points):
            return torch.linspace(0, 1, num_points, dtype=torch.float64)[:, None]

    assert Line().pareto_front(3).tolist() == [[0.0, 1.0], [0.25, 0.25], [1.0, 0.0]]
