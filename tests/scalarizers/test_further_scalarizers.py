"""InvertedPBI, achievement, p-norm, COSMOS and hypervolume scalarization: hand values, formulas, limits, properties."""

import math

import moocore
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref.scalarizers import PBI, Linear, ModifiedTchebycheff, Tchebycheff
from mopref.scalarizers.achievement import AchievementScalarizing, AugmentedAchievementScalarizing
from mopref.scalarizers.cosmos import COSMOS
from mopref.scalarizers.hypervolume import Hypervolume
from mopref.scalarizers.inverted_pbi import InvertedPBI
from mopref.scalarizers.p_norm import PNorm

EPSILON, THETA, RHO, P, MU = 1e-3, 0.1, 0.05, 3.0, 0.5
# Class, the keyword of its point, its options.
KINDS = {
    "inverted-pbi": (InvertedPBI, "nadir", {"theta": THETA}),
    "achievement": (AchievementScalarizing, "reference_point", {"epsilon": EPSILON}),
    "augmented-achievement": (AugmentedAchievementScalarizing, "reference_point", {"rho": RHO, "epsilon": EPSILON}),
    "p-norm": (PNorm, "ideal", {"p": P}),
    "cosmos": (COSMOS, None, {"mu": MU}),
    "hypervolume": (Hypervolume, "reference_point", {"epsilon": EPSILON}),
}
NAMES = tuple(KINDS)
WITH_POINT = tuple(name for name in NAMES if name != "cosmos")
MONOTONE = ("achievement", "augmented-achievement", "p-norm", "hypervolume")


def build(name, point, **options):
    kind, keyword, defaults = KINDS[name]
    return kind(**({} if keyword is None else {keyword: point}), **(defaults | options))


def t(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def distances(v: list[float], lam: list[float]) -> tuple[float, float]:
    """Length of v along λ, and its distance from the ray."""
    norm = math.sqrt(sum(w * w for w in lam))
    d1 = sum(x * w for x, w in zip(v, lam, strict=True)) / norm
    return d1, math.sqrt(sum((x - d1 * w / norm) ** 2 for x, w in zip(v, lam, strict=True)))


def reference(name: str, f: list[float], lam: list[float], point: list[float]) -> float:
    """The formula in plain Python."""
    up = [a - b for a, b in zip(f, point, strict=True)]
    cut = [max(w, EPSILON) for w in lam]
    if name == "inverted-pbi":
        d1, d2 = distances([-x for x in up], lam)
        return -(d1 - THETA * d2)
    if name == "achievement":
        return max(x / w for x, w in zip(up, cut, strict=True))
    if name == "augmented-achievement":
        return reference("achievement", f, lam, point) + RHO * sum(x / w for x, w in zip(up, cut, strict=True))
    if name == "p-norm":
        return sum((w * x) ** P for x, w in zip(up, lam, strict=True)) ** (1 / P)
    if name == "cosmos":
        dot = sum(a * w for a, w in zip(f, lam, strict=True))
        return dot - MU * dot / math.hypot(*f) / math.hypot(*lam)
    if name == "hypervolume":
        s = min(-x / w for x, w in zip(up, cut, strict=True))
        return -(s ** len(f)) if s >= 0 else -s
    raise AssertionError(name)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[float], list[float], list[float], list[bool]]:
    """Losses, a preference (possibly with zeros), distances of the point from the losses and their signs."""
    m = draw(st.integers(2, 5))
    f = draw(st.lists(st.floats(-5, 5), min_size=m, max_size=m).filter(lambda f: math.hypot(*f) > 1e-2))
    gaps = draw(st.lists(st.floats(0.01, 4), min_size=m, max_size=m))
    raw = draw(st.lists(st.integers(0, 20), min_size=m, max_size=m).filter(any))
    above = draw(st.just([True] * m) | st.just([False] * m) | st.lists(st.booleans(), min_size=m, max_size=m))
    return f, [w / sum(raw) for w in raw], gaps, above


def point_of(name, case) -> list[float]:
    """Below all losses where the formula needs it, else on any side of any of them."""
    f, _, gaps, above = case
    return [a + g if side and name != "p-norm" else a - g for a, g, side in zip(f, gaps, above, strict=True)]


def random_batch(shape, name, seed=0):
    """Losses and interior preferences of a shape (…, m), and a point: an ideal one, or one amid the losses."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.randn(shape, generator=generator, dtype=torch.float64)
    raw = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05
    rows = losses.reshape(-1, shape[-1])
    point = rows.amin(0) - 0.3 if name == "p-norm" else rows.median(0).values + 0.01
    return losses, raw / raw.sum(-1, keepdim=True), point


@pytest.mark.parametrize(
    ("scalarizer", "f", "lam", "expected"),
    [
        # f = (3, 2), λ = (1/4, 3/4). r = (5, 3): r − f = (2, 1), w = (1, 3)/√10, d1 = (2 + 3)/√10,
        # d2 = |2·3 − 1·1|/√10: both 5/√10, so g = −(1 − θ) 5/√10
        (InvertedPBI(nadir=[5, 3], theta=0.1), (3, 2), (0.25, 0.75), -4.5 / math.sqrt(10)),
        (InvertedPBI(nadir=[5, 3], theta=0.0), (3, 2), (0.25, 0.75), -5 / math.sqrt(10)),
        # r − f = (2, 0, 1), w = (1, 1, 1)/√3: d1 = 3/√3 = √3, d2² = 5 − 3
        (InvertedPBI(nadir=[2, 1, 3], theta=0.5), (0, 1, 2), (1 / 3, 1 / 3, 1 / 3), math.sqrt(2) / 2 - math.sqrt(3)),
        # z = (1, 1): 2/(1/4) = 8 and 1/(3/4) = 4/3. z = (4, 4), above f: −1/(1/4) = −4 and −2/(3/4) = −8/3
        (AchievementScalarizing([1, 1]), (3, 2), (0.25, 0.75), 8.0),
        (AchievementScalarizing([4, 4]), (3, 2), (0.25, 0.75), -8 / 3),
        # 1/1 and 1/ε = 100
        (AchievementScalarizing([0, 0], epsilon=0.01), (1, 1), (1, 0), 100.0),
        # 8 + .1 (8 + 4/3) = 134/15; −8/3 + .1 (−4 − 8/3) = −10/3; 100 + .1 · 101 = 110.1
        (AugmentedAchievementScalarizing([1, 1], rho=0.1), (3, 2), (0.25, 0.75), 134 / 15),
        (AugmentedAchievementScalarizing([4, 4], rho=0.1), (3, 2), (0.25, 0.75), -10 / 3),
        (AugmentedAchievementScalarizing([0, 0], rho=0.1, epsilon=0.01), (1, 1), (1, 0), 110.1),
        # λ (f − z) = (1/2, 3/4): 5/4; √(1/4 + 9/16) = √13/4; (1/8 + 27/64)^(1/3) = 35^(1/3)/4
        (PNorm(ideal=[1, 1], p=1), (3, 2), (0.25, 0.75), 1.25),
        (PNorm(ideal=[1, 1], p=2), (3, 2), (0.25, 0.75), math.sqrt(13) / 4),
        (PNorm(ideal=[1, 1], p=3), (3, 2), (0.25, 0.75), 35 ** (1 / 3) / 4),
        # Σ λ f = 3/4 + 3 = 15/4, ‖f‖ = 5, ‖λ‖ = √10/4, cos = 3/√10; at the corner 3 and cos = 3/5
        (COSMOS(mu=2), (3, 4), (0.25, 0.75), 3.75 - 6 / math.sqrt(10)),
        (COSMOS(mu=2), (3, 4), (1, 0), 3 - 1.2),
        # r = (5, 3): 2/(1/4) = 8 and 1/(3/4) = 4/3, squared 16/9. r = (2, 3), f outside: −1/(1/4) = −4
        (Hypervolume([5, 3]), (3, 2), (0.25, 0.75), -16 / 9),
        (Hypervolume([2, 3]), (3, 2), (0.25, 0.75), 4.0),
        # r − f = (1, 2, 3): 2, 8, 12, and 2³ = 8; at a corner 2 and 1/ε = 100, or with ε = 1 both divided by 1
        (Hypervolume([1, 2, 3]), (0, 0, 0), (0.5, 0.25, 0.25), -8.0),
        (Hypervolume([2, 1], epsilon=0.01), (0, 0), (1, 0), -4.0),
        (Hypervolume([2, 1], epsilon=1.0), (0, 0), (1, 0), -1.0),
    ],
)
def test_hand_values(scalarizer, f, lam, expected):
    assert scalarizer(t(f), t(lam)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(name, case):
    f, lam, _, _ = case
    point = point_of(name, case)
    value = build(name, point)(t(f), t(lam))
    assert value.shape == ()
    assert value.item() == pytest.approx(reference(name, f, lam, point), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_loop_over_rows(name):
    losses, preferences, point = random_batch((3, 4, 3), name)
    g = build(name, point)
    batch = g(losses, preferences)
    assert batch.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            assert batch[i, j].item() == pytest.approx(g(losses[i, j], preferences[i, j]).item(), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(case=cases(), shift=st.floats(-3, 3), alpha=st.floats(0.1, 10), order=st.randoms(use_true_random=False))
def test_permutation_shift_and_scale(name, case, shift, alpha, order):
    """Symmetric in the objectives; depends on f − z or r − f only; homogeneous: the hypervolume of degree m inside."""
    f, lam, _, _ = case
    point = point_of(name, case)
    value = build(name, point)(t(f), t(lam)).item()
    permutation = list(range(len(f)))
    order.shuffle(permutation)
    permuted = build(name, [point[i] for i in permutation])(
        t([f[i] for i in permutation]), t([lam[i] for i in permutation])
    )
    assert permuted.item() == pytest.approx(value, rel=1e-9, abs=1e-9)
    if name != "cosmos":
        shifted = build(name, [a + shift for a in point])(t([a + shift for a in f]), t(lam)).item()
        assert shifted == pytest.approx(value, rel=1e-6, abs=1e-6)
    degree = len(f) if name == "hypervolume" and value < 0 else 1
    options = {"mu": alpha * MU} if name == "cosmos" else {}
    scaled = build(name, [alpha * a for a in point], **options)(t([alpha * a for a in f]), t(lam)).item()
    assert scaled == pytest.approx(alpha**degree * value, rel=1e-7, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(case=cases(), alpha=st.floats(0.1, 10))
def test_scale_of_the_preference(case, alpha):
    """Directions (inverted PBI, the cosine) ignore it; the others have a degree in λ, so that they need Σλ = 1."""
    f, lam, _, _ = case
    lam, scaled = t([w + 0.02 for w in lam]), alpha * t([w + 0.02 for w in lam])
    for name, degree in {"inverted-pbi": 0, "p-norm": 1, "achievement": -1, "hypervolume": -len(f)}.items():
        g = build(name, point_of(name, case))
        before, after = g(t(f), lam).item(), g(t(f), scaled).item()
        degree = -1 if name == "hypervolume" and before > 0 else degree
        assert after == pytest.approx(alpha**degree * before, rel=1e-7, abs=1e-9), name
    cosine = Linear()(t(f), lam) - COSMOS(mu=1)(t(f), lam)
    assert (Linear()(t(f), scaled) - COSMOS(mu=1)(t(f), scaled)).item() == pytest.approx(cosine.item(), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(case=cases(), alpha=st.floats(1e-3, 1e3))
def test_the_cosine_of_cosmos_ignores_the_scale_of_the_losses(case, alpha):
    f, lam = t(case[0]), t(case[1])
    cosine = Linear()(f, lam) - COSMOS(mu=1)(f, lam)
    assert -1 - 1e-9 <= cosine.item() <= 1 + 1e-9
    assert (Linear()(alpha * f, lam) - COSMOS(mu=1)(alpha * f, lam)).item() == pytest.approx(cosine.item(), abs=1e-9)


@pytest.mark.parametrize("name", MONOTONE)
@settings(max_examples=40, deadline=None)
@given(case=cases(), better=st.lists(st.floats(0, 3), min_size=5, max_size=5))
def test_a_lower_loss_never_costs(name, case, better):
    f, lam, gaps, above = case
    lower = [a - b for a, b in zip(f, better, strict=False)]
    point = point_of(name, (lower if name == "p-norm" else f, lam, gaps, above))
    g = build(name, point)
    before, after = g(t(f), t(lam)).item(), g(t(lower), t(lam)).item()
    assert after <= before + 1e-9 * (1 + abs(before))
    if name == "augmented-achievement" and max(better[: len(f)]) > 1e-3:
        assert after < before, "the sum makes every lower loss count"


@pytest.mark.parametrize(
    ("scalarizer", "f", "lower", "lam", "values"),
    [
        # On the ray (1, 1): d1 = √2, d2 = 0. At (1, 0): d1 = d2 = 1/√2, and 6/√2 = 3√2.
        (PBI(ideal=[0, 0], theta=5), (1, 1), (1, 0), (0.5, 0.5), (math.sqrt(2), 3 * math.sqrt(2))),
        # cos = 1, so 1 − 5. At (1, 0): cos = 1/√2, so 1/2 − 5/√2 = −3.04.
        (COSMOS(mu=5), (1, 1), (1, 0), (0.5, 0.5), (-4.0, 0.5 - 5 / math.sqrt(2))),
        # d1 = 1 and d2 = 1: −.9. At (0, −1): d2 = 2, so −.8.
        (InvertedPBI(nadir=[1, 1], theta=0.1), (0, 0), (0, -1), (1, 0), (-0.9, -0.8)),
    ],
)
def test_scalarizers_that_may_prefer_a_dominated_point(scalarizer, f, lower, lam, values):
    assert [scalarizer(t(x), t(lam)).item() for x in (f, lower)] == pytest.approx(values, rel=1e-12)
    assert values[1] > values[0], "the dominating point is the worse one"


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    losses, preferences, point = random_batch((6, 3), name, seed=3)
    g = build(name, point)
    if name == "hypervolume":
        assert (g(losses, preferences) < 0).any(), "a row inside the box"
        assert (g(losses, preferences) > 0).any(), "a row outside"
    assert torch.autograd.gradcheck(lambda f: g(f, preferences), (losses.requires_grad_(),))


def value_and_gradient(g, f, lam, dtype=torch.float64):
    losses = torch.as_tensor(f, dtype=dtype).clone().requires_grad_()
    value = g(losses, torch.as_tensor(lam, dtype=dtype))
    value.backward()
    assert value.dtype == losses.grad.dtype == dtype
    assert value.isfinite(), f"value {value} at {f}, λ = {lam}"
    assert losses.grad.isfinite().all(), f"gradient {losses.grad} at {f}, λ = {lam}"
    return value.item(), losses.grad


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lam", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0), (1 - 1e-9, 1e-9, 0)])
def test_zero_weights_give_a_finite_value_and_gradient(name, dtype, lam):
    f = (1.0, 2.0, 0.5)
    for point in [(0.0, -1.0, 0.25)] if name == "p-norm" else [(0.0, -1.0, 0.25), (2.0, 4.0, 1.0), (2.0, 1.0, 1.0)]:
        value, gradient = value_and_gradient(build(name, point), f, lam, dtype)
        assert value == pytest.approx(reference(name, f, lam, point), rel=1e-5)
        assert gradient.abs().sum() > 0


# Distances from the point and λ: ties, the ray, the point itself, one distance 0, zero weights.
KINKS = [
    ((0.3, 0.7), (0.3, 0.7)),
    ((0.5, 0.5), (0.5, 0.5)),
    ((0.0, 0.0), (0.5, 0.5)),
    ((0.0, 0.5), (0.5, 0.5)),
    ((0.0, 0.0), (1.0, 0.0)),
    ((0.5, 0.0), (0.0, 1.0)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("gap", "lam"), KINKS)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_finite_where_the_formula_has_a_kink(name, gap, lam, dtype):
    point = (0.0, 0.0) if name == "cosmos" else (1.0, 2.0)
    for sign in (1,) if name == "p-norm" else (1, -1):
        value_and_gradient(build(name, point), [z + sign * g for z, g in zip(point, gap, strict=True)], lam, dtype)
    for p in (1.0, 1.5, 2.0, 50.0) if name == "p-norm" else ():
        value_and_gradient(PNorm(ideal=point, p=p), [z + g for z, g in zip(point, gap, strict=True)], lam, dtype)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 1e4])
def test_p_norm_bears_a_loss_that_rounding_put_below_the_ideal_point(p):
    """A naive power of −1e-7 is NaN for p = 1.5."""
    value, _ = value_and_gradient(PNorm(ideal=[1, 1], p=p), (1 - 1e-7, 3), (0.5, 0.5))
    assert value == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("p", [1.0, 2.5, 1e2, 1e4])
def test_p_norm_neither_overflows_nor_underflows(p, size, dtype):
    """λ (f − z) = (1/2, 1, 1) · size: size · (2 + 2^−p)^(1/p). z = 0, so g is homogeneous in f: ⟨∇g, f⟩ = g."""
    f = torch.tensor([2.0, 4.0, 2.0], dtype=dtype) * size
    value, gradient = value_and_gradient(PNorm(ideal=[0, 0, 0], p=p), f, (0.25, 0.25, 0.5), dtype)
    expected = size * (2 + 2.0**-p) ** (1 / p)
    assert value == pytest.approx(expected, rel=1e-5)
    assert (gradient * f).sum().item() == pytest.approx(expected, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(case=cases(), p=st.floats(1, 1e4), more=st.floats(1, 10))
def test_p_norm_lies_between_tchebycheff_and_the_weighted_sum(case, p, more):
    """max ≤ g ≤ m^(1/p) max, falling in p; p = 1 is the weighted sum of f − z, and numpy has the same norm."""
    f, lam, _, _ = case
    z = point_of("p-norm", case)
    hard = Tchebycheff(ideal=z)(t(f), t(lam)).item()
    value = PNorm(ideal=z, p=p)(t(f), t(lam)).item()
    assert hard * (1 - 1e-9) <= value <= hard * len(f) ** (1 / p) * (1 + 1e-9)
    assert PNorm(ideal=z, p=p * more)(t(f), t(lam)).item() <= value * (1 + 1e-9)
    weighted = [w * (a - b) for w, a, b in zip(lam, f, z, strict=True)]
    assert PNorm(ideal=z, p=1)(t(f), t(lam)).item() == pytest.approx(sum(weighted), rel=1e-9)
    assert PNorm(ideal=z, p=1 + 1e-9)(t(f), t(lam)).item() == pytest.approx(sum(weighted), rel=1e-6)
    if p < 20:
        assert value == pytest.approx(np.linalg.norm(weighted, ord=p), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(case=cases(), theta=st.floats(0, 10))
def test_special_cases_of_one_another(case, theta):
    f, lam, gaps, _ = case
    low, high = [a - g for a, g in zip(f, gaps, strict=True)], [a + g for a, g in zip(f, gaps, strict=True)]
    x, w = t(f), t(lam)
    assert COSMOS(mu=0)(x, w).item() == pytest.approx(Linear()(x, w).item(), rel=1e-12, abs=1e-12)
    for z in (low, high):
        plain = AchievementScalarizing(z, epsilon=0.02)(x, w)
        assert torch.equal(AugmentedAchievementScalarizing(z, rho=0, epsilon=0.02)(x, w), plain)
    assert torch.equal(
        AchievementScalarizing(low, epsilon=0.02)(x, w), ModifiedTchebycheff(ideal=low, epsilon=0.02)(x, w)
    )
    # Mirrored at 0, the nadir is PBI's ideal point: d1 and d2 are the same, θ has the other sign.
    mirrored = [-a for a in high]
    d1 = PBI(ideal=mirrored, theta=0)(-x, w).item()
    d2 = PBI(ideal=mirrored, theta=1)(-x, w).item() - d1
    assert InvertedPBI(nadir=high, theta=0)(x, w).item() == pytest.approx(-d1, rel=1e-9, abs=1e-9)
    assert InvertedPBI(nadir=high, theta=theta)(x, w).item() == pytest.approx(theta * d2 - d1, rel=1e-7, abs=1e-7)


def test_outside_its_box_the_hypervolume_still_pulls_the_losses_down():
    """min(0, ·)^m would be flat there; −s falls with slope 1/λ in the objective that is furthest out."""
    value, gradient = value_and_gradient(Hypervolume([1, 1]), (3.0, 2.0), (0.5, 0.5))
    assert value == pytest.approx(4.0)
    assert gradient.tolist() == pytest.approx([2.0, 0.0])
    inside = Hypervolume([1, 1])(t([[1 - 1e-6] * 2, [1.0] * 2, [1 + 1e-6] * 2]), t([[0.5, 0.5]] * 3))
    assert inside.tolist() == pytest.approx([-4e-12, 0.0, 2e-6], rel=1e-4, abs=1e-18)


@pytest.mark.parametrize(
    ("points", "reference_point", "by_hand"),
    [
        # Two strips of 1/2 that share a quarter.
        ([[0.0, 0.5], [0.5, 0.0]], [1.0, 1.0], 0.75),
        # 2 · 3 = 6; a dominated point and one outside the box add nothing.
        ([[0.0, 1.0], [1.0, 2.0], [-1.0, 5.0]], [2.0, 4.0], 6.0),
        # Three boxes of volume 1/2, each two and all three sharing 1/4, 1/4, 1/4 and 1/8: 3/2 − 3/4 + 1/8.
        ([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], [1.0, 1.0, 1.0], 0.875),
    ],
)
def test_mean_of_the_best_hypervolume_scalarization_is_the_hypervolume(points, reference_point, by_hand):
    """HV = c_m E_λ[max_f (min_i (r_i − f_i)/λ_i)₊^m], λ uniform on the positive unit sphere."""
    m = len(reference_point)
    directions = torch.randn(100_000, m, generator=torch.Generator().manual_seed(7), dtype=torch.float64).abs()
    directions = directions / directions.norm(dim=-1, keepdim=True)
    g = Hypervolume(reference_point, epsilon=1e-12)
    losses = t(points).expand(len(directions), -1, -1)
    best = -g(losses, directions.unsqueeze(1).expand_as(losses)).amin(dim=1)
    factor = math.pi ** (m / 2) / (2**m * math.gamma(m / 2 + 1))
    assert moocore.hypervolume(np.array(points), ref=reference_point) == pytest.approx(by_hand)
    assert factor * best.clamp(min=0).mean().item() == pytest.approx(by_hand, rel=0.01)
