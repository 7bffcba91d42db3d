"""Box bounds: one layout, and the map into the box."""

import math

import pytest
import torch
from _tensors import tensor

from mopref import Problem
from mopref.bounds import BoxProblem, box_bounds, map_to_box


def test_a_number_serves_all_variables():
    bounds = box_bounds((-1, 2.5), 3)
    assert bounds.dtype == torch.float64
    assert bounds.tolist() == [[-1.0] * 3, [2.5] * 3]


def test_each_variable_may_have_its_own():
    assert box_bounds(([0.0, -1.0], 1.0), 2).tolist() == [[0.0, -1.0], [1.0, 1.0]]
    assert box_bounds([0, torch.tensor([1, 2])], 2).tolist() == [[0.0, 0.0], [1.0, 2.0]]


def test_the_callers_tensor_is_copied():
    sides = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    bounds = box_bounds(sides, 2)
    assert not bounds.requires_grad
    bounds.zero_()
    assert sides.tolist() == [[0.0, 1.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((1.0, 0.0), "variable 0 has the bounds 1 and 0: both must be finite, the lower below the upper"),
        (([0.0, 1.0, 0.0], [1.0, 1.0, 1.0]), "variable 1 has the bounds 1 and 1"),
        ((0.0, math.inf), "variable 0 has the bounds 0 and inf"),
        ((math.nan, 1.0), "variable 0 has the bounds nan and 1"),
        ((0.0, [1.0, 2.0]), r"upper bounds have shape \(2,\), but there are 3 variables: give one number"),
        (([[0.0] * 3], 1.0), r"lower bounds have shape \(1, 3\)"),
        ([(0.0, 1.0)] * 3, r"3 entries: give the pair \(lower, upper\)"),
    ],
)
def test_what_is_no_box_is_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        box_bounds(bounds, 3)


def test_the_sine_reaches_both_bounds_by_hand():
    raw = tensor([[-0.5, 0.0, 0.5, 1 / 6, 1.5, 2.0]])
    x = map_to_box(raw, tensor([-1.0] * 6), tensor([3.0] * 6))
    torch.testing.assert_close(x, tensor([[-1.0, 1.0, 3.0, 2.0, -1.0, 1.0]]))


def test_rounding_does_not_leave_the_box():
    lower = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    upper = lower + torch.rand(1000, generator=torch.Generator().manual_seed(1))
    for raw in (-0.5, 0.5):
        unclamped = (lower + upper) / 2 + (upper - lower) / 2 * math.sin(math.pi * raw)
        assert ((unclamped < lower) | (unclamped > upper)).any(), "the test would be vacuous"
        sides = tensor(lower, torch.float32), tensor(upper, torch.float32)
        x = map_to_box(tensor([raw] * 1000, torch.float32), *sides)
        assert ((x >= sides[0]) & (x <= sides[1])).all()


def test_gradients_into_the_box_are_right():
    raw = torch.linspace(-1.2, 1.2, 7, dtype=torch.float64).requires_grad_()
    lower, upper = box_bounds((-2.0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), 7)
    assert torch.autograd.gradcheck(lambda raw: map_to_box(raw, lower, upper), (raw,))


def test_a_problem_is_what_models_of_variables_need():
    class Parabola(Problem):
        def __init__(self) -> None:
            super().__init__(num_variables=2, num_objectives=1, bounds=(-1.0, 1.0))

        def evaluate(self, x):
            return x.square().sum(dim=1, keepdim=True)

    problem: BoxProblem = Parabola()
    assert (problem.num_variables, problem.num_objectives) == (2, 1)
    assert problem.bounds.tolist() == [[-1.0, -1.0], [1.0, 1.0]]
