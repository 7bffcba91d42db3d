"""The posterior of λ and β_u."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from personal_inputs import margins, plain_posterior, rewards

from mopref.personal.margins import PairMargins
from mopref.personal.posterior import DECISIVENESS, checked_choices, posterior

CHOICES = {0: 0, 3: 1, 4: 1, 6: 0}


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 3.0])
def test_it_is_what_loops_over_plain_numbers_give(m, alpha):
    betas = [0.5, 2.0, 7.0]
    found = posterior(margins(8, m), CHOICES, alpha=alpha, decisiveness=betas)
    expected = plain_posterior(rewards(8, m), CHOICES, found.points.tolist(), betas, alpha)
    np.testing.assert_allclose(found.probabilities.numpy(), expected, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("alpha", [1.0, 0.7, 4.0])
def test_without_choices_it_is_the_prior(m, alpha):
    found = posterior(margins(3, m), {}, alpha=alpha)
    torch.testing.assert_close(found.mean(), torch.full((m,), 1 / m, dtype=torch.float64))
    of_betas = found.probabilities.sum(dim=0)
    torch.testing.assert_close(of_betas, torch.full_like(of_betas, 1 / len(DECISIVENESS)))
    variance = found.of_points() @ (found.points[:, 0] - 1 / m).square()
    # Of Dirichlet(α, …, α).
    assert float(variance) == pytest.approx((m - 1) / m**2 / (m * alpha + 1), rel=0.05)


def test_with_many_objectives_points_of_a_sequence_serve():
    found = posterior(margins(3, 5), {}, alpha=2.0)
    torch.testing.assert_close(found.mean(), torch.full((5,), 0.2, dtype=torch.float64), rtol=0, atol=2e-3)
    points = found.points.sum(dim=1)
    torch.testing.assert_close(points, torch.ones_like(points), rtol=0, atol=1e-9)


@pytest.mark.parametrize("m", [2, 3])
def test_points_are_even_and_inside(m):
    points = posterior(margins(1, m), {}).points
    assert (points > 0).all()
    torch.testing.assert_close(points.sum(dim=1), torch.ones(len(points), dtype=torch.float64))
    # The same set whichever way objectives are counted.
    turned = points.roll(1, dims=1)
    assert torch.equal(turned.mul(1e6).round().unique(dim=0), points.mul(1e6).round().unique(dim=0))


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), m=st.sampled_from([2, 3]), data=st.data())
def test_objectives_in_another_order_give_the_same_in_that_order(seed, m, data):
    order = data.draw(st.permutations(range(m)))
    bits = data.draw(st.lists(st.integers(0, 1), min_size=6, max_size=6))
    choices, table = dict(enumerate(bits)), rewards(6, m, seed)
    names = [f"f{i}" for i in range(m)]
    straight = posterior(PairMargins(table, names), choices)
    permuted = posterior(PairMargins(table[:, order], [names[i] for i in order]), choices)
    torch.testing.assert_close(permuted.mean(), straight.mean()[list(order)], rtol=1e-9, atol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), bits=st.lists(st.integers(0, 1), min_size=5, max_size=5))
def test_another_choice_is_the_same_as_responses_in_another_order(seed, bits):
    table = rewards(5, 3, seed)
    names = ("a", "b", "c")
    flipped = posterior(PairMargins(table, names), {n: 1 - bit for n, bit in enumerate(bits)})
    swapped = posterior(PairMargins(-table, names), dict(enumerate(bits)))
    torch.testing.assert_close(flipped.probabilities, swapped.probabilities, rtol=1e-12, atol=0)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_many_consistent_choices_lead_to_the_truth(m):
    truth = np.random.default_rng(1).dirichlet(np.full(m, 3.0))
    table = rewards(300, m)
    choices = {n: int(d < 0) for n, d in enumerate(table @ truth)}
    names = [f"f{i}" for i in range(m)]
    # So many answers leave few of the points of a sequence.
    if m > 3:
        with pytest.warns(UserWarning, match="rests on"):
            found = posterior(PairMargins(table, names), choices)
    else:
        found = posterior(PairMargins(table, names), choices)
    np.testing.assert_allclose(found.mean().numpy(), truth, atol=0.03)
    # Who never errs is decided.
    assert float(found.probabilities.sum(dim=0) @ found.decisiveness) > 20


def test_contradicting_choices_leave_the_prior_and_an_undecided_person():
    both = PairMargins(np.array([[1.0, -1.0], [-1.0, 1.0]] * 10), ("a", "b"))
    found = posterior(both, dict.fromkeys(range(20), 0))
    torch.testing.assert_close(found.mean(), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert float(found.probabilities.sum(dim=0) @ found.decisiveness) < 20


def test_huge_margins_give_no_nan():
    found = posterior(PairMargins([[1e6, -1e6], [-1e6, 1e6]], ("a", "b")), {0: 0, 1: 0})
    assert found.probabilities.isfinite().all()
    assert float(found.probabilities.sum()) == pytest.approx(1)


@pytest.mark.parametrize("options", [{"alpha": 1e100}, {"alpha": 1e-300}, {"decisiveness": [1e100, 1e-300]}])
def test_the_largest_and_smallest_numbers_leave_a_distribution(options):
    pairs = PairMargins([[1e100, -1e100], [-1e100, 1e100], [1e100, 1e100]], ("a", "b"))
    found = posterior(pairs, {0: 0, 1: 0, 2: 1}, **options)
    assert float(found.probabilities.sum()) == pytest.approx(1)
    assert float(found.mean().sum()) == pytest.approx(1)


def test_choices_become_numbers_and_signs():
    pairs, signs = checked_choices(margins(8, 2), {5: 1, np.int64(2): np.int64(0)})
    assert pairs.tolist() == [5, 2]
    assert signs.tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"choices": {0: 2}}, ValueError, r"choices\[0\] is 2"),
        ({"choices": {0: -1}}, ValueError, "leave a pair out"),
        ({"choices": {9: 0}}, ValueError, "pair 9"),
        ({"choices": {-1: 0}}, ValueError, "pair -1"),
        ({"choices": {0: True}}, TypeError, "whole number"),
        ({"choices": {"0": 1}}, TypeError, "whole number"),
        ({"choices": [0, 1]}, TypeError, "give a dict"),
        ({"alpha": 0.0}, ValueError, "alpha is 0"),
        ({"alpha": math.inf}, ValueError, "alpha is inf"),
        ({"alpha": 1e200}, ValueError, "1e100 at most"),
        ({"decisiveness": [1e101]}, ValueError, "1e100 at most"),
        ({"decisiveness": []}, ValueError, "empty"),
        ({"decisiveness": [1.0, -2.0]}, ValueError, r"decisiveness\[1\] is -2"),
        ({"decisiveness": 1.0}, TypeError, "list of numbers"),
    ],
)
def test_what_is_wrong_is_named(options, error, message):
    with pytest.raises(error, match=message):
        posterior(margins(5, 2), **({"choices": {}} | options))
