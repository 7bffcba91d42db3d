"""MGDA against hand values, a brute-force grid, a certificate of optimality and torchjd."""

import itertools

import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref.gradients import MGDA


def weigh(gradients, preferences=None) -> torch.Tensor:
    """MGDA's weights for the gradients (m, n) of one group."""
    jacobian = torch.as_tensor(gradients, dtype=torch.float64)
    m = len(jacobian)
    lam = torch.full((m,), 1 / m) if preferences is None else torch.tensor(preferences)
    return MGDA()(torch.ones(1, m, dtype=torch.float64), (jacobian @ jacobian.T).unsqueeze(0), lam.unsqueeze(0))[0]


def random_gradients(m: int, n: int, seed: int) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("gradients", "expected"),
    [
        # the foot of the perpendicular from 0 on the line from (2, 0) to (0, 1): (.4, .8)
        ([[2.0, 0.0], [0.0, 1.0]], [0.2, 0.8]),
        ([[1.0, 0.0], [-3.0, 0.0]], [0.75, 0.25]),
        # the foot lies outside the segment: the shorter gradient alone
        ([[1.0, 0.0], [5.0, 1.0]], [1.0, 0.0]),
        ([[4.0, 4.0], [1.0, 1.0]], [0.0, 1.0]),
        ([[0.0, 0.0], [1.0, 1.0]], [1.0, 0.0]),
        ([[1.0, 2.0], [1.0, 2.0]], [0.5, 0.5]),
        # three: the plane through (3, 0, 0), (0, 3, 0) and (0, 0, 1) is nearest to 0 at (1, 1, 3) · 3/11
        ([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]], [1 / 11, 1 / 11, 9 / 11]),
        # the third one helps nothing
        ([[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]], [0.2, 0.8, 0.0]),
        ([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]], [1.0, 0.0, 0.0]),
        # 0 is in the triangle
        ([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]], [0.5, 0.25, 0.25]),
    ],
)
def test_hand_values(gradients, expected):
    torch.testing.assert_close(weigh(gradients), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_no_point_of_a_grid_is_shorter(seed):
    gradients = random_gradients(3, 2 + seed % 3, seed)
    steps = 60
    grid = (
        torch.tensor([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]).double() / steps
    )
    lengths = (grid @ gradients).square().sum(dim=1)
    shortest = (weigh(gradients) @ gradients).square().sum()
    assert shortest <= lengths.min() + 1e-12
    # The grid comes near it, so this is no bound from far below.
    assert shortest >= lengths.min() - 0.05 * gradients.square().sum(dim=1).max()


@settings(max_examples=100, deadline=None)
@given(m=st.integers(2, 6), n=st.integers(1, 7), seed=st.integers(0, 10_000), spread=st.floats(0, 2))
def test_the_certificate_of_the_shortest_point(m, n, seed, spread):
    """d is the shortest point of the hull exactly if ⟨g_i, d⟩ ≥ ‖d‖² for all i: every loss falls at least that fast."""
    gradients = random_gradients(m, n, seed)
    gradients *= 10 ** (spread * torch.linspace(-1, 1, m, dtype=torch.float64)).unsqueeze(1)
    direction = weigh(gradients) @ gradients
    lengths = gradients.norm(dim=1)
    assert ((gradients @ direction - direction.square().sum()) / lengths / lengths.min() >= -1e-9).all()


@pytest.mark.parametrize("m", [2, 3, 5])
def test_the_direction_vanishes_at_a_pareto_stationary_point(m):
    """The last gradient is minus a positive combination of the others."""
    gradients = random_gradients(m, 6, seed=m)
    share = torch.linspace(0.2, 1.5, m - 1, dtype=torch.float64)
    gradients[-1] = -(share @ gradients[:-1])
    weights = weigh(gradients)
    assert (weights @ gradients).norm() < 1e-7
    torch.testing.assert_close(weights[:-1] / weights[-1], share, rtol=1e-6, atol=0)


def test_the_preference_is_not_looked_at():
    for m in (2, 3):
        gradients = random_gradients(m, 4, seed=1)
        corner = [1.0] + [0.0] * (m - 1)
        assert torch.equal(weigh(gradients, corner), weigh(gradients))


def test_two_of_many_equal_the_closed_form():
    """m > 2 takes another way than m = 2: a third gradient that is far off must change nothing."""
    for seed in range(20):
        pair = random_gradients(2, 3, seed)
        far = 100 * (pair.sum(dim=0) / pair.sum(dim=0).norm())
        expected = weigh(pair)
        if (pair @ far).min() > 0:
            weights = weigh(torch.cat([pair, far.unsqueeze(0)]))
            torch.testing.assert_close(weights, torch.cat([expected, torch.zeros(1)]), rtol=0, atol=1e-9)


def test_not_longer_than_torchjds_approximation():
    """torchjd's MGDA is a Frank-Wolfe method: near the shortest point, and never below it."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    peer = aggregation.MGDAWeighting(epsilon=1e-6, max_iters=300)
    for m, seed in itertools.product((2, 3, 4), range(4)):
        gradients = random_gradients(m, 3, seed)
        theirs = (peer(gradients @ gradients.T) @ gradients).norm()
        ours = (weigh(gradients) @ gradients).norm()
        assert ours <= theirs + 1e-9
        assert ours == pytest.approx(theirs.item(), abs=0.05)


def test_descends_to_the_pareto_set():
    """f_i = ‖x − a_i‖²: the Pareto set is the triangle of the a_i; every loss falls at every step."""
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.3, 0.8]], dtype=torch.float64)
    x = torch.tensor([2.0, 2.0], dtype=torch.float64)
    losses = (x - centers).square().sum(dim=1)
    for _ in range(200):
        gradients = 2 * (x - centers)
        x = x - 0.1 * weigh(gradients) @ gradients
        now = (x - centers).square().sum(dim=1)
        assert (now <= losses + 1e-12).all()
        losses = now
    coordinates = torch.linalg.solve(torch.cat([centers.T, torch.ones(1, 3)]), torch.cat([x, torch.ones(1)]))
    assert (coordinates >= -1e-6).all(), "inside the triangle, or on its edge"
