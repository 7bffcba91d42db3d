"""ConeSampler: balances uniform on their simplex, strengths log-uniform; refusals."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from mopref.samplers import ConeSampler, cone_preferences


def parts(preferences):
    """The balance λ and the strength s of preferences (s·λ, 1) / (1 + s)."""
    strengths = (1 - preferences[:, -1]) / preferences[:, -1]
    return preferences[:, :-1] / (1 - preferences[:, -1:]), strengths


def test_balances_are_uniform_and_strengths_log_uniform():
    sample = ConeSampler(4, weakest=0.1, strongest=20.0).sample(20_000).double()
    balances, strengths = parts(sample)
    assert 0.1 - 1e-5 <= strengths.min() < 0.11
    assert 19 < strengths.max() <= 20 + 1e-2
    shares = (strengths.log() - math.log(0.1)) / math.log(200)
    assert kstest(shares.numpy(), "uniform").pvalue > 0.01
    # Each weight of a uniform balance of three has the density 2 (1 − x).
    assert kstest(balances[:, 1].numpy(), lambda x: 1 - (1 - x) ** 2).pvalue > 0.01
    assert abs(np.corrcoef(balances[:, 0], shares)[0, 1]) < 0.03


def test_one_reward_has_strengths_alone():
    sample = ConeSampler(2, weakest=0.5, strongest=2.0).sample(100)
    assert ((sample[:, 1] >= 1 / 3 - 1e-6) & (sample[:, 1] <= 2 / 3 + 1e-6)).all()


def test_preferences_of_a_balance_and_a_strength():
    found = cone_preferences({"b": 0.75, "a": 0.25}, [1.0, 4.0], ("a", "b"))
    expected = torch.tensor([[0.125, 0.375, 0.5], [0.2, 0.6, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    balances, strengths = parts(cone_preferences(torch.eye(3), 2.5, 3))
    torch.testing.assert_close(balances, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(strengths, torch.full((3,), 2.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("balances", "strengths", "message"),
    [
        ([0.5, 0.6], 1.0, "sum"),
        ([0.5, 0.5], 0.0, "strengths hold 0 to 0: they are finite and > 0"),
        ([0.5, 0.5], [1.0, math.inf], "strengths"),
        ([[0.5, 0.5]] * 3, [1.0, 2.0], r"strengths have shape \(2,\) for 3 balances"),
        ([0.5, 0.5], [[1.0]], r"strengths have shape \(1, 1\)"),
    ],
)
def test_what_is_no_point_of_the_cone_is_refused(balances, strengths, message):
    with pytest.raises(ValueError, match=message):
        cone_preferences(balances, strengths, 2)


@pytest.mark.parametrize(
    ("objectives", "options", "message"),
    [
        (1, {}, "num_objectives is 1: the last objective is the pull"),
        (3, {"weakest": 0.0}, "weakest is 0.0 and strongest 4.0"),
        (3, {"weakest": 5.0}, "weakest is 5.0 and strongest 4.0"),
        (3, {"strongest": math.inf}, "strongest inf"),
        (3, {"weakest": math.nan}, "weakest is nan"),
    ],
)
def test_bounds_out_of_their_range_are_refused(objectives, options, message):
    with pytest.raises(ValueError, match=message):
        ConeSampler(objectives, **options)
