"""Margins of pairs as functions of λ."""

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from mopref.personal import PairMargins, margin_nodes

NAMES = ("helpful", "harmless", "brief")


def polynomial(points: torch.Tensor, degree: int, seed: int) -> torch.Tensor:
    """A random polynomial of that degree in λ, by plain powers: ``(N,)``."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(points), dtype=torch.float64)
    for _ in range(4):
        powers = torch.randint(0, degree + 1, (points.shape[1],), generator=generator)
        while powers.sum() > degree:
            powers[powers.argmax()] -= 1
        total += torch.randn((), generator=generator, dtype=torch.float64) * (points**powers).prod(dim=1)
    return total


@given(m=st.integers(2, 5), steps=st.integers(1, 5))
def test_nodes_are_the_lattice_on_the_simplex(m, steps):
    nodes = margin_nodes(m, steps)
    assert nodes.shape == (comb(m + steps - 1, steps), m)
    assert nodes.dtype == torch.float64
    assert len(nodes.unique(dim=0)) == len(nodes)
    torch.testing.assert_close(nodes.sum(dim=1), torch.ones(len(nodes), dtype=torch.float64))
    assert torch.equal((nodes * steps).round() / steps, nodes)
    assert torch.equal(nodes[0], torch.eye(m, dtype=torch.float64)[0])


def test_the_nodes_of_one_step_are_the_corners_in_order():
    assert torch.equal(margin_nodes(4, 1), torch.eye(4, dtype=torch.float64))


@given(m=st.integers(2, 4), steps=st.integers(1, 5), seed=st.integers(0, 20))
def test_any_polynomial_of_that_degree_is_met_everywhere(m, steps, seed):
    values = polynomial(margin_nodes(m, steps), steps, seed)
    points = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(m), size=7))
    margins = PairMargins(torch.stack([values, -values]), [f"f{i}" for i in range(m)])
    assert margins.steps == steps
    expected = polynomial(points, steps, seed)
    torch.testing.assert_close(margins.at(points), torch.stack([expected, -expected]), rtol=1e-9, atol=1e-9)


def test_values_at_the_nodes_are_those_that_were_given():
    values = torch.randn(5, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    margins = PairMargins(values, NAMES)
    torch.testing.assert_close(margins.at(margin_nodes(3, 4)), values)


def test_differences_of_rewards_are_linear_and_lambda_may_come_by_name():
    rewards = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)
    at = PairMargins(rewards, NAMES).at({"brief": 0.1, "harmless": 0.2, "helpful": 0.7})
    torch.testing.assert_close(at[:, 0], rewards @ torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64))


def test_it_says_what_it_is():
    assert repr(PairMargins([[1.0, 2.0]], ("a", "b"))) == "PairMargins(1 pairs, names=('a', 'b'), steps=1)"
    assert len(PairMargins([[1.0, 2.0]] * 3, ("a", "b"))) == 3


@pytest.mark.parametrize(
    ("values", "names", "keys", "message"),
    [
        ([[1.0, 2.0, 3.0, 4.0]], NAMES, None, "4 columns"),
        ([[1.0]], ("helpful",), None, "one objective"),
        ([[1.0, float("nan")]], ("a", "b"), None, "nan"),
        ([[1.0, -1e101]], ("a", "b"), None, "1e\\+101"),
        ([1.0, 2.0], ("a", "b"), None, "shape"),
        ([[1.0, 2.0]], ("a", "a"), None, "distinct"),
        ([[1.0, 2.0]], ("a", "b"), ["x", "y"], "2 keys and 1 pairs"),
    ],
)
def test_what_cannot_be_margins_is_refused(values, names, keys, message):
    with pytest.raises(ValueError, match=message):
        PairMargins(values, names, keys)


def test_a_key_that_cannot_be_compared_is_refused():
    with pytest.raises(TypeError, match="hash"):
        PairMargins([[1.0, 2.0]], ("a", "b"), [[1]])


@pytest.mark.parametrize(
    ("m", "steps", "message"), [(1, 2, "nothing to find"), (2, 0, "at least 1"), (30, 30, "2\\^31")]
)
def test_nodes_that_cannot_be_are_refused(m, steps, message):
    with pytest.raises(ValueError, match=message):
        margin_nodes(m, steps)
