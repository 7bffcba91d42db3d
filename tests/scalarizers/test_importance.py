"""λ is importance under every scalarizer: on known fronts, in the slope at the corners, and in a language model.

The expected minimisers are those of dense grids whose formulas stand here.
"""

import copy
import math

import pytest
import torch
from _tensors import tensor
from scalarizer_inputs import NAMES, RAYS

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.objectives import DPO
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import SCALARIZERS

X = torch.linspace(0, 1, 10_001, dtype=torch.float64)
ANGLE = X * math.pi / 2
SHARES = simplex_lattice(3, 5151).double()
LENGTHS = SHARES.norm(dim=1, keepdim=True)
FRONTS = {
    "convex": torch.stack([X, 1 - X.sqrt()], -1),
    "convex arc": torch.stack([1 - ANGLE.sin(), 1 - ANGLE.cos()], -1),
    "linear": torch.stack([X, 1 - X], -1),
    "concave": torch.stack([X, 1 - X.square()], -1),
    "convex 3": SHARES.square(),
    "linear 3": SHARES,
    "concave 3": SHARES / LENGTHS,
}


def made(name: str, m: int, **options) -> Scalarizer:
    """For losses between 0 and 1."""
    if name in RAYS:
        name, options = name.removesuffix(" ray"), {"convention": "ray", **options}
    return SCALARIZERS[name].between([0.0] * m, [1.0] * m, **options)


def minimisers(g: Scalarizer, front: torch.Tensor, preferences: torch.Tensor) -> torch.Tensor:
    points = tensor(front, torch.float64)
    rows = [points[g(points, tensor(lam, torch.float64).expand_as(points)).argmin()] for lam in preferences]
    return torch.stack(rows).cpu()


def path(m: int, objective: int, start: float, steps: int = 21) -> torch.Tensor:
    """Preferences from ``start`` to 1 of one objective, the others sharing the rest: the last is the corner."""
    weights = torch.linspace(start, 1, steps, dtype=torch.float64)
    preferences = ((1 - weights) / (m - 1)).unsqueeze(1).repeat(1, m)
    preferences[:, objective] = weights
    return preferences


# -- where the minimiser lies --


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_larger_weight_never_asks_for_a_larger_loss(name, front):
    """From the centre to the corner the own loss falls; at the corner it is the least of all preferences.

    The grids of three objectives are a hundredth wide. PBI stops where the own loss costs θ of the others: .01 off.
    """
    points = FRONTS[front]
    m = points.shape[1]
    allowed = 0.011 if m == 3 or name == "pbi" else 1e-3
    g = made(name, m)
    lattice = minimisers(g, points, simplex_lattice(m, 21).double())
    for objective in range(m):
        losses = minimisers(g, points, path(m, objective, 1 / m))[:, objective]
        assert (losses.diff() <= allowed).all(), losses
        assert losses[-1] <= lattice[:, objective].min() + allowed
        assert losses[-1] < losses[0] or name in ("linear", "cosmos", "inverted-pbi", "smooth-tchebycheff", "p-norm")


@pytest.mark.parametrize("front", ["convex", "linear", "concave", "linear 3", "concave 3"])
@pytest.mark.parametrize("name", RAYS)
def test_as_a_ray_the_corner_asks_for_a_large_loss(name, front):
    """What the literature writes, and no accident of these fronts: the convention has to be asked for."""
    points = FRONTS[front]
    m = points.shape[1]
    corners = minimisers(made(name, m), points, torch.eye(m, dtype=torch.float64)).diagonal()
    centre = minimisers(made(name, m), points, torch.full((1, m), 1 / m, dtype=torch.float64))[0]
    assert (corners > centre + 0.2).all()
    assert (
        minimisers(made(name.removesuffix(" ray"), m), points, torch.eye(m).double()).diagonal() < centre - 0.2
    ).all()


# -- the slope at the corners --


def slopes(g: Scalarizer, losses: torch.Tensor, preference: torch.Tensor) -> torch.Tensor:
    """Σ_i |∂g/∂f_i| of each row."""
    rows = tensor(losses, torch.float64).clone().requires_grad_()
    g(rows, tensor(preference, torch.float64).expand_as(rows)).sum().backward()
    return rows.grad.abs().sum(dim=1).cpu()


def box(m: int, low: float, high: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(m)
    return low + (high - low) * torch.rand(2000, m, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("name", [*NAMES, "achievement below", "augmented-achievement below", "hypervolume outside"])
def test_a_step_is_not_drowned_by_its_corners(name, m):
    """The mean slope at a corner is at most m times the one at the centre, and at least a small part of it.

    The losses lie in [.2, .8]^m, or in [1.2, 1.8]^m outside the hypervolume's box. Inside it corners weigh m^m times
    less than the centre. A reference point above the losses is (1, …, 1). Under COSMOS losses of a box lie further from
    the ray of a corner, so their slope is larger: up to four times.
    """
    kind, _, where = name.partition(" ")
    losses = box(m, 1.2, 1.8) if where == "outside" else box(m, 0.2, 0.8)
    g = made(kind, m) if where != "below" else SCALARIZERS[kind]([1.0] * m)
    centre = slopes(g, losses, torch.full((m,), 1 / m, dtype=torch.float64)).mean()
    corners = torch.stack([slopes(g, losses, corner).mean() for corner in torch.eye(m, dtype=torch.float64)])
    least = 1 / (2 * m**m) if name == "hypervolume" else 1 / (1.5 * m)
    most = 4 if name == "cosmos" else 1.01 * m
    assert (corners <= most * centre).all(), (corners / centre).tolist()
    assert (corners >= least * centre).all(), (corners / centre).tolist()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("achievement", "augmented-achievement")])
def test_no_preference_and_no_loss_has_a_steep_slope(name):
    """Everywhere from the ideal point on, also beside it and beside the rays: only two functions have thin layers."""
    m = 3
    near = torch.cat([box(m, 0.0, 1.0), 10.0 ** box(m, -6.0, 0.0)])
    g, preferences = made(name, m), torch.cat([simplex_lattice(m, 66).double(), torch.eye(m, dtype=torch.float64)])
    centre = slopes(g, box(m, 0.2, 0.8), torch.full((m,), 1 / m, dtype=torch.float64)).amax()
    if name == "cosmos":
        # The angle of losses of almost no length is nothing steady, whatever λ.
        near = near[near.norm(dim=1) > 0.5]
    steepest = torch.stack([slopes(g, near, lam).amax() for lam in preferences]).amax()
    assert steepest <= 1.01 * m * centre


@pytest.mark.parametrize("epsilon", [1e-3, 0.05])
def test_the_thin_layers_are_as_steep_as_stated(epsilon):
    """At e_1 a second loss just inside z or r, closer than ε times the gain of the first, has the slope 1/ε."""
    corner = torch.tensor([1.0, 0.0], dtype=torch.float64)
    inside, outside = torch.tensor([[[0.5, 1 - epsilon / 4]], [[0.5, 1 - 2 * epsilon]]], dtype=torch.float64)
    for name, factor in (("achievement", 1.0), ("hypervolume", 2 * 0.25)):
        g = SCALARIZERS[name]([1.0, 1.0], epsilon=epsilon)
        assert slopes(g, inside, corner).item() == pytest.approx(factor / epsilon)
        assert slopes(g, outside, corner).item() == pytest.approx(1.0)


# -- a language model's losses --


def dpo_losses(make_llama, make_pairs, name: str, m: int, seed: int, steps: int, points: int):
    """Training losses (points, m) of a tiny language model, and their preferences: each pair pleases one objective."""
    names = tuple("abc"[:m])
    labels = [[int(j != i % m) for j in range(m)] for i in range(12)]
    config = SVDLoRAConfig(objectives=names, rank=2, preference_rank=2)
    torch.manual_seed(seed)
    model = PreferenceModel(copy.deepcopy(make_llama()), config)
    settings = TrainerConfig(
        steps=steps, batch_size=24, preferences_per_step=4, learning_rate=2e-2, seed=seed, cpu=True, progress=False
    )
    g = SCALARIZERS[name].between([0.0] * m, [2.0] * m)
    trainer = ParetoTrainer(
        model, DPO(names, beta=0.5), g, "vertex-biased", train_data=make_pairs(labels), config=settings
    )
    trainer.train()
    front = trainer.front(simplex_lattice(m, points))
    return front.preferences, front.values


def check_corners(preferences, losses, tolerance=0.01):
    """The corner e_i has the lowest loss i of the whole lattice, and clearly less than the centre of the simplex."""
    for objective in range(losses.shape[1]):
        corner = preferences[:, objective].argmax()
        centre = abs(preferences - 1 / losses.shape[1]).max(axis=1).argmin()
        assert preferences[corner, objective] > 1 - 1e-6
        assert losses[corner, objective] <= losses[:, objective].min() + tolerance, losses
        assert losses[corner, objective] < losses[centre, objective] - 0.1, losses


@pytest.mark.parametrize("name", NAMES)
def test_a_language_model_is_best_at_what_its_preference_asks_for(name, make_llama, make_pairs):
    check_corners(*dpo_losses(make_llama, make_pairs, name, 2, seed=0, steps=25, points=11))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_language_model_is_best_at_what_its_preference_asks_for_in_every_seed(name, m, seed, make_llama, make_pairs):
    points = {2: 11, 3: 28}[m]
    check_corners(*dpo_losses(make_llama, make_pairs, name, m, seed, steps=100, points=points))
