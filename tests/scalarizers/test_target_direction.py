"""Where the minimiser lies, on dense fronts whose formulas stand here, and what target_direction says of it."""

import math

import pytest
import torch
from _tensors import tensor

from mopref.scalarizers import (
    COSMOS,
    PBI,
    AchievementScalarizing,
    AugmentedAchievementScalarizing,
    AugmentedTchebycheff,
    Hypervolume,
    InvertedPBI,
    Linear,
    ModifiedTchebycheff,
    Normalized,
    PNorm,
    SmoothTchebycheff,
    Tchebycheff,
)


def t(values) -> torch.Tensor:
    """In float64: a minimiser is looked for among thousands of points that lie close together."""
    return tensor(values, torch.float64)


def sphere(steps: int) -> torch.Tensor:
    """The positive part of the unit sphere: DTLZ2's front."""
    a, b = torch.meshgrid(*[t(torch.linspace(0, math.pi / 2, steps, dtype=torch.float64))] * 2, indexing="ij")
    return torch.stack([a.cos() * b.cos(), a.cos() * b.sin(), a.sin()], -1).reshape(-1, 3)


X = t(torch.linspace(0, 1, 20_001, dtype=torch.float64))
FRONTS = {
    "convex": torch.stack([X.square(), 1 - X], -1),  # ZDT1: f2 = 1 − √f1
    "concave": torch.stack([X, 1 - X.square()], -1),  # ZDT2: f2 = 1 − f1²
    "sphere": sphere(301),
}
# Preferences away from the ends, and how near a point of the front lies to every direction.
PREFERENCES = {2: [(0.3, 0.7), (0.5, 0.5), (0.7, 0.3)], 3: [(0.2, 0.3, 0.5), (0.4, 0.4, 0.2), (0.6, 0.2, 0.2)]}
ALLOWED = {2: 1e-3, 3: 0.01}
CASES = [(front, lam) for front, points in FRONTS.items() for lam in PREFERENCES[points.shape[1]]]


def angle(a, b) -> float:
    a, b = a / a.norm(), b / b.norm()
    return 2 * math.atan2((a - b).norm().item(), (a + b).norm().item())


def minimiser(g, front, lam):
    points = FRONTS[front]
    return points[g(points, t(lam).expand_as(points)).argmin()]


def zeros(lam):
    return [0.0] * len(lam)


@pytest.mark.parametrize(("front", "lam"), CASES)
@pytest.mark.parametrize(
    ("make", "power"),
    [
        (lambda z: ModifiedTchebycheff(ideal=z), -1),
        (lambda z: PBI(ideal=z, theta=5), -1),
        (AchievementScalarizing, -1),
        (lambda z: ModifiedTchebycheff(ideal=z, convention="ray"), 1),
        (lambda z: PBI(ideal=z, theta=5, convention="ray"), 1),
        (lambda z: AchievementScalarizing(z, convention="ray"), 1),
        (lambda z: Tchebycheff(ideal=z), -1),
        (lambda z: SmoothTchebycheff(ideal=z, mu=1e-4), -1),
    ],
)
def test_the_minimiser_lies_on_the_target_direction(make, power, front, lam):
    g = make(zeros(lam))
    expected, direction = t(lam) ** power, g.target_direction(t(lam))
    assert direction.shape == expected.shape
    assert angle(direction, expected) < 1e-6
    assert angle(minimiser(g, front, lam), expected) < ALLOWED[len(lam)]


@pytest.mark.parametrize(("front", "lam"), CASES)
@pytest.mark.parametrize(
    "make",
    [
        lambda z: Linear(),
        lambda z: COSMOS(mu=0.5),
        lambda z: COSMOS(mu=50.0),
        lambda z: COSMOS(mu=50.0, convention="ray"),
        lambda z: PNorm(ideal=z, p=2),
        lambda z: PNorm(ideal=z, p=50),
        lambda z: AugmentedTchebycheff(ideal=z, rho=0.01),
        lambda z: AugmentedAchievementScalarizing(z, rho=0.01),
        lambda z: AugmentedAchievementScalarizing(z, rho=0.01, convention="ray"),
        lambda z: Hypervolume([1.5] * len(z)),
        lambda z: InvertedPBI(nadir=[1.5] * len(z)),
        lambda z: Normalized(Linear(), ideal=z, nadir=[4.0, 1.0, 2.0][: len(z)]),
        lambda z: Normalized(ModifiedTchebycheff(ideal=z), ideal=z, nadir=[4.0, 1.0, 2.0][: len(z)]),
        lambda z: Normalized(Tchebycheff(ideal=z), ideal=z, nadir=[4.0, 1.0, 2.0][: len(z)]),
        lambda z: Normalized(PBI(ideal=z), ideal=z, nadir=[4.0, 1.0, 2.0][: len(z)]),
        lambda z: Normalized(PBI(ideal=z, convention="ray"), ideal=z, nadir=[4.0, 1.0, 2.0][: len(z)]),
    ],
)
def test_a_direction_that_is_promised_is_kept(make, front, lam):
    """Most have none; the angle of a front to a wrong one would be a wrong number."""
    g = make(zeros(lam))
    direction = g.target_direction(t(lam))
    if isinstance(g, Linear):
        assert direction is None
    if direction is not None:
        assert angle(minimiser(g, front, lam), direction) < ALLOWED[len(lam)]


@pytest.mark.parametrize(("front", "lam"), CASES)
@pytest.mark.parametrize(
    "make",
    [
        lambda r: Hypervolume(r),
        lambda r: InvertedPBI(nadir=r, theta=5),
        # A reference point that no point of the front reaches down from: f − z = −tλ, and t is as large as possible.
        lambda r: AchievementScalarizing(r),
        lambda r: AchievementScalarizing(r, convention="ray"),
    ],
    ids=["hypervolume", "inverted-pbi", "achievement", "achievement-ray"],
)
def test_from_a_point_above_the_front_the_minimiser_lies_along_the_preference(make, front, lam):
    r = 1.0
    g = make([r] * len(lam))
    assert angle(r - minimiser(g, front, lam), t(lam)) < ALLOWED[len(lam)]
    if isinstance(g, AchievementScalarizing):
        assert angle(-g.backward_direction(t(lam)), t(lam)) < 1e-6


def test_the_way_back_goes_on_along_the_line_where_a_scalarizer_does_not_say_otherwise():
    lam = t([0.2, 0.8])
    for g in (Tchebycheff(ideal=[0, 0]), PBI(ideal=[0, 0])):
        assert torch.equal(g.backward_direction(lam), -g.target_direction(lam))
    assert Linear().backward_direction(lam) is None


@pytest.mark.parametrize(("front", "lam"), [case for case in CASES if case[0] != "sphere"])
def test_normalization_turns_the_ray_of_the_minimiser(front, lam):
    """With nadir (4, 1), (f1/4, f2/1) ∝ 1/λ: f ∝ (4/λ1, 1/λ2); as a "ray" f ∝ (4 λ1, λ2)."""
    for convention, power in (("importance", -1), ("ray", 1)):
        inner = ModifiedTchebycheff(ideal=[0, 0], convention=convention)
        g = Normalized(inner, ideal=[0, 0], nadir=[4, 1])
        assert angle(minimiser(g, front, lam), t([4 * lam[0] ** power, lam[1] ** power])) < ALLOWED[2]


def test_p_norm_reaches_into_a_concave_front_where_the_weighted_sum_does_not():
    """p = 2, λ = (1/2, 1/2): f1² + (1 − f1²)² is least at f1² = 1/2, f = (1/√2, 1/2); p = 1 finds an end."""
    assert minimiser(PNorm(ideal=[0, 0], p=2), "concave", (0.5, 0.5)).tolist() == pytest.approx(
        [math.sqrt(0.5), 0.5], abs=1e-3
    )
    for g in (PNorm(ideal=[0, 0], p=1), Linear()):
        assert minimiser(g, "concave", (0.49, 0.51)).tolist() == [1.0, 0.0]


def test_cosmos_reaches_into_a_concave_front_by_its_cosine():
    """With a large μ the minimiser lies on the ray f ∝ 1/λ, or f ∝ λ as a "ray"; with μ = 0 at an end."""
    for lam in PREFERENCES[2]:
        assert angle(minimiser(COSMOS(mu=1e4), "concave", lam), 1 / t(lam)) < 1e-2
        assert angle(minimiser(COSMOS(mu=1e4, convention="ray"), "concave", lam), t(lam)) < 1e-2
    assert minimiser(COSMOS(mu=0), "concave", (0.49, 0.51)).tolist() == [1.0, 0.0]


DIRECTED = {
    "modified-tchebycheff": lambda: ModifiedTchebycheff(ideal=[0, 0, 0]),
    "pbi": lambda: PBI(ideal=[0, 0, 0]),
    "achievement": lambda: AchievementScalarizing([0, 0, 0]),
    "modified-tchebycheff ray": lambda: ModifiedTchebycheff(ideal=[0, 0, 0], convention="ray"),
    "pbi ray": lambda: PBI(ideal=[0, 0, 0], convention="ray"),
    "achievement ray": lambda: AchievementScalarizing([0, 0, 0], convention="ray"),
    "tchebycheff": lambda: Tchebycheff(ideal=[0, 0, 0]),
    "smooth-tchebycheff": lambda: SmoothTchebycheff(ideal=[0, 0, 0]),
}


@pytest.mark.parametrize("name", DIRECTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_target_directions_of_a_batch(name, dtype):
    """Row by row, finite also with zeros; a weight of 1 in (max λ_i f_i) holds its own loss down, not the others."""
    lam = tensor([[[1, 0, 0], [0.2, 0.3, 0.5]], [[0.5, 0.5, 0], [0, 0, 1]]], dtype)
    before, g = lam.clone(), DIRECTED[name]()
    directions = g.target_direction(lam)
    assert directions.shape == lam.shape
    assert directions.dtype == dtype
    assert directions.isfinite().all()
    assert (directions >= 0).all()
    assert (directions.sum(-1) > 0).all()
    assert torch.equal(lam, before)
    rows = zip(directions.reshape(-1, 3), lam.reshape(-1, 3), strict=True)
    for direction, row in rows:
        # Row by row up to length: only the direction means something.
        assert angle(direction, g.target_direction(row)) < 1e-3
    along = {0: (1, 0, 0), 2: (1, 1, 0), 3: (0, 0, 1)}
    against = {0: (0, 1, 1), 2: (0, 0, 1), 3: (1, 1, 0)}
    expected = along if name.endswith("ray") else against
    for index, direction in expected.items():
        assert angle(directions.reshape(-1, 3)[index].double(), t(direction)) < 0.01


@pytest.mark.parametrize("name", DIRECTED)
def test_target_direction_needs_no_ideal_point_yet(name):
    """It is asked for when a front is drawn; a direction does not depend on where it starts."""
    kinds = {
        "modified-tchebycheff": ModifiedTchebycheff,
        "pbi": PBI,
        "tchebycheff": Tchebycheff,
        "smooth-tchebycheff": SmoothTchebycheff,
    }
    if name in kinds:
        lam = t([[0.2, 0.3, 0.5]])
        assert torch.equal(kinds[name]().target_direction(lam), DIRECTED[name]().target_direction(lam))
