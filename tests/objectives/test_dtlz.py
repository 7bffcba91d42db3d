"""DTLZ1 to DTLZ4 and InvertedDTLZ1: values against pymoo and by hand, hypervolumes of the fronts, refusals."""

import math

import numpy as np
import pytest
import torch
from _tensors import tensor, tolerance
from hypothesis import given, settings, strategies as st
from synthetic_problems import hypervolume, label, random_x

from mopref.objectives import DTLZ1, DTLZ2, DTLZ3, DTLZ4, InvertedDTLZ1


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    m=st.integers(2, 6),
    extra=st.integers(0, 10),
    maker=st.sampled_from([DTLZ1, InvertedDTLZ1, DTLZ2, DTLZ3, DTLZ4]),
)
def test_values_equal_pymoo(seed, m, extra, maker):
    from pymoo.problems.many import dtlz

    problem = maker(m, m + extra)
    x = random_x(problem, 8, seed, dtype=torch.float64)
    x[0], x[1], x[2, m - 1 :] = 0, 1, 0.5
    peer = getattr(dtlz, maker.__name__)(n_var=m + extra, n_obj=m)
    np.testing.assert_allclose(problem.evaluate(x).cpu(), peer.evaluate(x.cpu().numpy()), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("problem", "x", "expected"),
    [
        # g = 100 · (1/16 + 1 − cos 5π) = 206.25
        (DTLZ1(3, 3), [0.5, 0.25, 0.75], [12.953125, 38.859375, 51.8125]),
        (InvertedDTLZ1(3, 3), [0.5, 0.25, 0.75], [90.671875, 64.765625, 51.8125]),
        (DTLZ3(2, 2), [0.5, 0.75], [207.25 / math.sqrt(2)] * 2),
        (DTLZ4(2, 2, alpha=2), [math.sqrt(0.5), 0.5], [1 / math.sqrt(2)] * 2),
    ],
    ids=label,
)
def test_values_by_hand(problem, x, expected):
    values = problem.evaluate(tensor([x]))
    torch.testing.assert_close(values, tensor([expected]), rtol=tolerance(1e-12), atol=tolerance(1e-12))


def test_the_number_of_variables_follows_the_number_of_objectives():
    assert [DTLZ1(5).num_variables, InvertedDTLZ1(3).num_variables, DTLZ2(5).num_variables] == [9, 7, 14]
    assert [DTLZ3(5).num_variables, DTLZ4(5).num_variables] == [14, 14]


@pytest.mark.parametrize(
    ("problem", "exact"),
    [(DTLZ1(2), 1.21 - 0.125), (InvertedDTLZ1(2), 1.21 - 0.125), (DTLZ2(2), 1.21 - math.pi / 4)],
    ids=label,
)
def test_hypervolume_of_the_front(problem, exact):
    area = hypervolume(problem.pareto_front(20_001), 1.1)
    assert exact - 5e-5 < area < exact + 1e-6


@pytest.mark.parametrize(
    ("problem", "exact"),
    [
        (DTLZ1(3), 1.331 - 0.5**3 / 6),
        # What is missing of the cube: a corner of the small cube [0, ½]³ cut by Σ f = 1, and a prism on each axis.
        (InvertedDTLZ1(3), 1.331 - 5 / 48 - 3 / 8 * 0.6),
        (DTLZ2(3), 1.331 - math.pi / 6),
        (DTLZ3(3), 1.331 - math.pi / 6),
        (DTLZ4(3), 1.331 - math.pi / 6),
    ],
    ids=label,
)
def test_hypervolume_of_the_surface(problem, exact):
    # The staircase under a surface is too small by a multiple of the lattice's step, which two lattices cancel.
    coarse, fine = (hypervolume(problem.pareto_front(math.comb(h + 2, 2)), 1.1) for h in (100, 200))
    assert coarse < fine < exact
    assert 2 * fine - coarse == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("problem", [DTLZ2(3), DTLZ3(3), DTLZ4(3)], ids=label)
def test_no_rounding_below_the_ideal_point_far_from_the_front(problem):
    # In float32 cos(π/2) is −4e-8, and DTLZ3's g is 1,000 and more.
    x = tensor(torch.ones(1, problem.num_variables), torch.float32)
    assert (problem.evaluate(x) >= 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DTLZ1(3, 2), "DTLZ1 was asked for 3 objectives of 2 variables"),
        (lambda: DTLZ2(3, 2), "DTLZ2 was asked for 3 objectives of 2 variables"),
        (lambda: DTLZ2(1, 5), "at least 2"),
        (lambda: DTLZ4(alpha=0), "alpha is 0: the power of DTLZ4 must be a whole number of at least 1"),
        (lambda: DTLZ4(alpha=2.5), "alpha is 2.5"),
        (lambda: DTLZ4(alpha=math.nan), "alpha is nan"),
    ],
)
def test_impossible_problems_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("alpha", ["100", None, [2]])
def test_a_power_that_is_no_number_is_refused_by_name(alpha):
    with pytest.raises(TypeError, match=r"alpha is .*, of type .*: give a number"):
        DTLZ4(alpha=alpha)
