"""Linear: its formula and a hand value."""

from _tensors import tensor
from hypothesis import given, settings
from scalarizer_asserts import assert_formula, assert_value
from scalarizer_inputs import cases

from mopref.scalarizers import Linear


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(case):
    assert_formula("linear", case)


def test_hand_value():
    """f = (3, 2), λ = (1/4, 3/4)."""
    assert_value(Linear(), (3, 2), (0.25, 0.75), 2.25)


def test_every_row_has_its_own_sum():
    values = Linear()(tensor([[3.0, 2.0], [1.0, 4.0], [0.0, 8.0]]), tensor([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]))
    assert values.tolist() == [2.25, 1.0, 4.0]
