"""PBI: its formula, hand values, the right angle of d1 and d2, refusals."""

import math

import pytest
from _tensors import tensor, tolerance
from hypothesis import given, settings
from scalarizer_asserts import assert_formula, assert_value
from scalarizer_inputs import cases

from mopref.scalarizers import PBI, SCALARIZERS


@pytest.mark.parametrize("name", ["pbi", "pbi ray"])
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(name, case):
    assert_formula(name, case)


@pytest.mark.parametrize(
    ("scalarizer", "expected"),
    [
        # f = (3, 2), z = (1, 1), f − z = (2, 1), λ = (1/4, 3/4): w = (1, 3)/√10, d1 = 5/√10, and in the plane
        # d2 = |2·3 − 1·1|/√10 = 5/√10. With the inverse, w = (3, 1)/√10: d1 = 7/√10 and d2 = |2·1 − 1·3|/√10 = 1/√10.
        (PBI(ideal=[1.0, 1.0], theta=5.0), 12 / math.sqrt(10)),
        (PBI(ideal=[1.0, 1.0], theta=0.0), 7 / math.sqrt(10)),
        (PBI(ideal=[1.0, 1.0], theta=5.0, convention="ray"), 30 / math.sqrt(10)),
        (PBI(ideal=[1.0, 1.0], theta=0.0, convention="ray"), 5 / math.sqrt(10)),
        (SCALARIZERS.make("pbi", ideal=[1.0, 1.0], theta=2.0, convention="ray"), 15 / math.sqrt(10)),
    ],
)
def test_hand_values(scalarizer, expected):
    assert_value(scalarizer, (3, 2), (0.25, 0.75), expected)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_pythagoras(case):
    """d1 (θ = 0) and d2 (difference of θ = 1 and θ = 0) are orthogonal parts of f − z."""
    f, lam, z = case.losses, case.preference, case.point("pbi")
    d1 = PBI(ideal=z, theta=0.0)(tensor(f), tensor(lam)).item()
    d2 = PBI(ideal=z, theta=1.0)(tensor(f), tensor(lam)).item() - d1
    squared_length = sum((a - b) ** 2 for a, b in zip(f, z, strict=True))
    assert d2 >= -tolerance(1e-9)
    assert d1**2 + d2**2 == pytest.approx(squared_length, rel=tolerance(1e-6), abs=tolerance(1e-6))


def test_it_may_prefer_a_dominated_point():
    """On the ray (1, 1): d1 = √2, d2 = 0. At (1, 0): d1 = d2 = 1/√2, and 6/√2 = 3√2."""
    g = PBI(ideal=[0, 0], theta=5)
    assert_value(g, (1, 1), (0.5, 0.5), math.sqrt(2))
    assert_value(g, (1, 0), (0.5, 0.5), 3 * math.sqrt(2))


@pytest.mark.parametrize("theta", [-0.25, -1.0, math.nan])
def test_a_negative_price_raises(theta):
    with pytest.raises(ValueError, match=rf"theta is {theta}: .* so it must be ≥ 0\."):
        PBI(theta=theta)
