"""EPO: its linear program by brute force, and where gradient descent with it ends, against exact points."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, fsolve

from mopref.gradients import EPO, MGDA
from mopref.objectives import VLMOP2


def t(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def descend(f, x, preferences, method, steps: int, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient descent on each row of x by itself, with a falling step: x and its losses."""
    x = x.clone().requires_grad_()
    for step in range(steps):
        losses = f(x)
        columns = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in losses.unbind(dim=1)]
        gradients = torch.stack(columns, dim=1)
        weights = method(losses, gradients @ gradients.mT, preferences)
        with torch.no_grad():
            x -= rate * (1 - step / steps) * torch.einsum("gm,gmn->gn", weights, gradients)
    return x.detach(), f(x).detach()


def shortest(f, x: torch.Tensor) -> torch.Tensor:
    """How far each row of x is from Pareto stationarity: the length of the shortest combination of its gradients."""
    x = x.clone().requires_grad_()
    losses = f(x)
    gradients = torch.stack(
        [torch.autograd.grad(c.sum(), x, retain_graph=True)[0] for c in losses.unbind(dim=1)], dim=1
    )
    gram = gradients @ gradients.mT
    weights = MGDA()(losses, gram, torch.full_like(losses, 1 / losses.shape[1]))
    return torch.einsum("gm,gmn->gn", weights, gradients).norm(dim=1)


def squared_distances(centers: torch.Tensor):
    return lambda x: (x.unsqueeze(1) - centers).square().sum(dim=2)


def program(f: np.ndarray, gram: np.ndarray, lam: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objective, right-hand sides and pull of the published program, in plain numpy."""
    m = len(f)
    shares = lam * f / (lam * f).sum()
    mu = sum(share * math.log(m * share) for share in shares)
    pull = gram @ np.array([lam[i] * (math.log(m * shares[i]) - mu) for i in range(m)])
    if mu <= 1e-4 or (pull <= 0).all():
        return gram.sum(axis=0), np.zeros(m), pull
    allowed = np.where(pull > 0, -np.inf, pull)
    allowed[(lam * f).argmax()] = 0.0
    return pull, allowed, pull


@pytest.mark.parametrize("case", ["far", "near", "balanced"])
def test_no_point_of_a_grid_solves_the_program_better(case):
    rng = np.random.default_rng({"far": 0, "near": 1, "balanced": 2}[case])
    steps = 80
    grid = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    balances = 0
    for _ in range(12):
        jacobian = rng.normal(size=(3, 5))
        # A Pareto-stationary point in half of the cases, where the constraints leave least room.
        if rng.random() < 0.5:
            jacobian[2] = -(rng.uniform(0.2, 1, size=2) @ jacobian[:2])
        gram, lam = jacobian @ jacobian.T, rng.dirichlet(np.ones(3)).clip(0.05)
        lam /= lam.sum()
        width = {"far": 3.0, "near": 0.3, "balanced": 1e-4}[case]
        f = np.exp(width * rng.normal(size=3)) / lam
        objective, allowed, pull = program(f, gram, lam)
        weights = EPO()(t([f.tolist()]), t(gram.tolist()).unsqueeze(0), t([lam.tolist()]))[0].numpy()
        size = np.abs(gram).max()
        assert (gram @ weights >= allowed - 1e-6 * size).all()
        feasible = (grid @ gram >= allowed).all(axis=1)
        if feasible.any():
            best = (grid[feasible] @ objective).max()
            assert weights @ objective >= best - 1e-6 * size
        balances += not np.array_equal(objective, gram.sum(axis=0))
        assert (pull > 0).any() or case != "near"
    assert balances == 0 if case == "balanced" else balances >= 6


def test_hand_value_with_a_bound_ascent():
    """Unit gradients with ⟨g1, g2⟩ = −.9, f = (3, 1), λ = (½, ½): all weight on f1 would raise f2 too fast.

    û = (¾, ¼), μ = ¾ log 3/2 − ¼ log 2, a = ½ (log 3/2 − μ, −log 2 − μ), p2 = −.9 a1 + a2 bounds −.9 w1 + w2.
    """
    mu = 0.75 * math.log(1.5) - 0.25 * math.log(2)
    a1, a2 = (math.log(1.5) - mu) / 2, (-math.log(2) - mu) / 2
    first = (1 - (-0.9 * a1 + a2)) / 1.9
    weights = EPO()(t([[3.0, 1.0]]), t([[[1.0, -0.9], [-0.9, 1.0]]]), t([[0.5, 0.5]]))
    torch.testing.assert_close(weights, t([[first, 1 - first]]), rtol=0, atol=1e-7)
    assert 0.8 < first < 0.81


def test_the_largest_weighted_loss_never_rises():
    generator = torch.Generator().manual_seed(0)
    jacobians = torch.randn(60, 4, 4, generator=generator, dtype=torch.float64)
    losses = torch.rand(60, 4, generator=generator, dtype=torch.float64)
    lam = torch.full((60, 4), 0.25, dtype=torch.float64)
    gram = jacobians @ jacobians.mT
    falls = (gram @ EPO()(losses, gram, lam).unsqueeze(2)).squeeze(2)
    assert (falls.gather(1, losses.argmax(dim=1, keepdim=True)) >= -1e-6 * gram.amax()).all()
    assert (falls < -0.01).any(), "some other loss may rise"


def test_two_parabolas():
    """f_i = ‖x − a_i‖²: at the point a1 + τ (a2 − a1) with τ = √λ2 / (√λ1 + √λ2), λ1 τ² = λ2 (1 − τ)².

    The published program ends at a1 from the first start; the last one is a1 itself.
    """
    lam = t([[0.1, 0.9], [0.35, 0.65], [0.5, 0.5], [0.9, 0.1]])
    starts = t([[-0.5, 0.3, 0.1], [1.6, -0.4, 0.5], [0.1, 0.0, 0.0], [0.9, 0.7, 0.0], [0.0, 0.0, 0.0]])
    start, lam = starts.repeat_interleave(len(lam), dim=0), lam.repeat(len(starts), 1)
    f = squared_distances(t([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    x, losses = descend(f, start, lam, EPO(balanced=1e-5), steps=250, rate=0.15)
    roots = lam.sqrt()
    torch.testing.assert_close(x[:, 0], roots[:, 1] / roots.sum(dim=1), rtol=0, atol=2e-3)
    assert x[:, 1:].abs().max() < 1e-6
    weighted = lam * losses
    torch.testing.assert_close(weighted[:, 0], weighted[:, 1], rtol=0.01, atol=0)
    assert shortest(f, x).max() < 1e-6


def test_three_parabolas():
    """The point of the triangle with λ1 f1 = λ2 f2 = λ3 f3, from a root finder."""
    centers, lam = t([[0.0, 0.0], [1.0, 0.0], [0.3, 0.8]]), t([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    f = squared_distances(centers)

    def unequal(x, weights):
        weighted = weights * np.square(x - centers.numpy()).sum(axis=1)
        return weighted[1:] - weighted[0]

    exact = t([fsolve(unequal, [0.45, 0.3], args=(weights,)).tolist() for weights in lam.numpy()]).repeat(3, 1)
    start, lam = t([[-1.0, 1.0], [0.3, 0.7], [1.5, 0.2]]).repeat_interleave(3, dim=0), lam.repeat(3, 1)
    x, losses = descend(f, start, lam, EPO(balanced=1e-5), steps=400, rate=0.15)
    torch.testing.assert_close(x, exact, rtol=0, atol=5e-3)
    assert ((lam * losses).amax(dim=1) / (lam * losses).amin(dim=1)).max() < 1.02
    assert shortest(f, x).max() < 1e-6


def test_without_a_balanced_point_it_ends_on_the_front():
    """Collinear centres 0, 1 and 3: f2 is small wherever f1 = f3. The least μ on [0, 3] is found by scanning."""
    f = squared_distances(t([[0.0], [1.0], [3.0]]))
    x, _ = descend(f, t([[1.2], [2.9]]), torch.full((2, 3), 1 / 3).double(), EPO(), steps=150, rate=0.1)
    scan = torch.linspace(0, 3, 3001, dtype=torch.float64).unsqueeze(1)
    shares = f(scan) / f(scan).sum(dim=1, keepdim=True)
    least = scan[torch.special.xlogy(shares, 3 * shares).sum(dim=1).argmin()].item()
    assert x[1].item() == pytest.approx(least, abs=0.01)
    assert 1 < x[0].item() < least


def test_an_inner_point_of_a_concave_front():
    """VLMOP2, where every minimiser of a weighted sum is an end of the front: f1 or f2 is 0 there."""
    problem = VLMOP2(num_variables=3)
    lam = t([[0.5, 0.5], [0.5, 0.5], [0.3, 0.7], [0.8, 0.2]])
    start = t([[0.35, 0.25, 0.3], [-0.4, -0.3, -0.35], [0.3, 0.3, 0.3], [0.0, -0.2, 0.1]])
    x, losses = descend(problem.evaluate, start, lam, EPO(balanced=1e-5), steps=300, rate=0.2)
    for weights, got in zip(lam.tolist(), losses.tolist(), strict=True):

        def unequal(s, weights=weights):
            return weights[0] * -math.expm1(-((s - 1) ** 2)) - weights[1] * -math.expm1(-((s + 1) ** 2))

        s = brentq(unequal, -1, 1)
        assert got == pytest.approx([-math.expm1(-((s - 1) ** 2)), -math.expm1(-((s + 1) ** 2))], abs=5e-3)
    assert shortest(problem.evaluate, x).max() < 1e-5
    _, ends = descend(problem.evaluate, start, lam, lambda losses, gramians, given: given, steps=300, rate=0.2)
    assert ends.amin(dim=1).max() < 0.05, "the weighted sum ends near a corner from every start"


def test_the_ideal_point_is_where_losses_are_measured_from():
    gram, lam = t([[[2.0, -0.5], [-0.5, 1.0]]]), t([[0.3, 0.7]])
    at_zero = EPO()(t([[3.0, 1.0]]), gram, lam)
    torch.testing.assert_close(EPO(ideal=[-1.0, 5.0])(t([[2.0, 6.0]]), gram, lam), at_zero)
    assert not torch.allclose(EPO(ideal=[2.9, 0.0])(t([[3.0, 1.0]]), gram, lam), at_zero)


@pytest.mark.parametrize("losses", [[0.0, 1.0], [0.0, 3e-9], [-1e-9, 3e-9]])
def test_a_loss_at_the_ideal_point(losses):
    """û = (0, 1): f2 is far too large, and f1 may rise. Descent would give (.2, .8)."""
    weights = EPO()(t([losses]), t([[[4.0, -1.0], [-1.0, 10.0]]]), t([[0.5, 0.5]]))
    torch.testing.assert_close(weights, t([[0.0, 1.0]]))


def test_all_losses_at_the_ideal_point_are_balanced():
    """Descent: max 3 w1 + 9 w2 with 4 w1 ≥ w2."""
    weights = EPO()(t([[0.0, 0.0]]), t([[[4.0, -1.0], [-1.0, 10.0]]]), t([[0.5, 0.5]]))
    torch.testing.assert_close(weights, t([[0.2, 0.8]]))


def test_a_weight_of_zero_counts_as_epsilon():
    # λ = (1, 0) counts as (1, ε): f1 is too large until f1 = ε f2.
    orthogonal = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    assert EPO(epsilon=0.01)(t([[0.02, 1.0]]), orthogonal, t([[1.0, 0.0]]))[0, 0] == 1
    assert EPO(epsilon=0.01)(t([[0.005, 1.0]]), orthogonal, t([[1.0, 0.0]]))[0, 0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balanced": 0.0}, "balanced is 0.0"),
        ({"balanced": math.nan}, "balanced is nan"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"epsilon": 1.0}, "epsilon is 1.0"),
        ({"ideal": [0.0, math.nan]}, "ideal is"),
        ({"ideal": 0.0}, "ideal is 0.0"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        EPO(**options)


@pytest.mark.parametrize(
    ("ideal", "losses", "message"),
    [
        (None, [[1.0, 1.0], [1.0, -0.5]], "entry 1 is 0, above a loss of -0.5"),
        ([0.0, 2.0], [[1.0, 1.0], [1.0, 3.0]], "entry 1 is 2, above a loss of 1"),
        ([0.0], [[1.0, 1.0], [1.0, 3.0]], "1 numbers, but there are 2 losses"),
    ],
)
def test_losses_below_the_ideal_point_raise(ideal, losses, message):
    with pytest.raises(ValueError, match=message):
        EPO(ideal=ideal)(t(losses), torch.eye(2).expand(2, 2, 2), torch.full((2, 2), 0.5))
