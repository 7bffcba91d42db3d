"""Linear: its formula and a hand value."""

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
