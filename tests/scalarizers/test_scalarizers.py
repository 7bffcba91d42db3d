"""Scalarizers against plain-Python re-computations, hand values and algebraic properties."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref.scalarizers import (
    PBI,
    SCALARIZERS,
    AugmentedTchebycheff,
    Linear,
    ModifiedTchebycheff,
    SmoothTchebycheff,
    Tchebycheff,
)

NAMES = ("linear", "tchebycheff", "modified-tchebycheff", "augmented-tchebycheff", "smooth-tchebycheff", "pbi")
WITH_IDEAL = tuple(name for name in NAMES if name != "linear")
MONOTONE = tuple(name for name in NAMES if name != "pbi")
EPSILON, RHO, MU, THETA = 1e-3, 0.01, 0.01, 5.0


def reference(name: str, f: list[float], lam: list[float], z: list[float]) -> float:
    """The published formula in plain Python, with the documented default options."""
    d = [a - b for a, b in zip(f, z, strict=True)]
    weighted = [w * x for w, x in zip(lam, d, strict=True)]
    if name == "linear":
        return sum(w * a for w, a in zip(lam, f, strict=True))
    if name == "tchebycheff":
        return max(weighted)
    if name == "modified-tchebycheff":
        return max(x / max(w, EPSILON) for w, x in zip(lam, d, strict=True))
    if name == "augmented-tchebycheff":
        return max(weighted) + RHO * sum(d)
    if name == "smooth-tchebycheff":
        top = max(weighted)
        return top + MU * math.log(sum(math.exp((x - top) / MU) for x in weighted))
    if name == "pbi":
        norm = math.sqrt(sum(w * w for w in lam))
        unit = [w / norm for w in lam]
        d1 = sum(x * u for x, u in zip(d, unit, strict=True))
        d2 = math.sqrt(sum((x - d1 * u) ** 2 for x, u in zip(d, unit, strict=True)))
        return d1 + THETA * d2
    raise AssertionError(name)


def build(name: str, ideal: list[float] | torch.Tensor, **options: float):
    return Linear() if name == "linear" else SCALARIZERS.make(name, ideal=ideal, **options)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[float], list[float], list[float]]:
    """Losses, a preference (possibly with zeros) and an ideal point below the losses."""
    m = draw(st.integers(2, 5))
    f = draw(st.lists(st.floats(-5, 5), min_size=m, max_size=m))
    gaps = draw(st.lists(st.floats(0.01, 4), min_size=m, max_size=m))
    raw = draw(st.lists(st.integers(0, 20), min_size=m, max_size=m).filter(any))
    return f, [w / sum(raw) for w in raw], [a - g for a, g in zip(f, gaps, strict=True)]


def t(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_batch(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses and interior preferences of a shape (…, m), and an ideal point below all losses."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.randn(shape, generator=generator, dtype=torch.float64)
    raw = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05
    ideal = losses.reshape(-1, shape[-1]).min(dim=0).values - 0.3
    return losses, raw / raw.sum(-1, keepdim=True), ideal


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_formula(name, case):
    f, lam, z = case
    value = build(name, z)(t(f), t(lam))
    assert value.shape == ()
    assert value.item() == pytest.approx(reference(name, f, lam, z), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("scalarizer", "expected"),
    [
        # f = (3, 2), z = (1, 1), f − z = (2, 1), λ = (1/4, 3/4); worked out by hand.
        (Linear(), 2.25),
        (Tchebycheff(ideal=[1.0, 1.0]), 0.75),
        (ModifiedTchebycheff(ideal=[1.0, 1.0]), 8.0),
        (AugmentedTchebycheff(ideal=[1.0, 1.0], rho=0.1), 1.05),
        (SmoothTchebycheff(ideal=[1.0, 1.0], mu=0.25), 0.25 * math.log(math.e**2 + math.e**3)),
        # w = (1, 3)/√10, d1 = 5/√10, and in the plane d2 = |2·3 − 1·1|/√10 = 5/√10
        (PBI(ideal=[1.0, 1.0], theta=5.0), 30 / math.sqrt(10)),
        (PBI(ideal=[1.0, 1.0], theta=0.0), 5 / math.sqrt(10)),
    ],
)
def test_hand_values(scalarizer, expected):
    value = scalarizer(t([3.0, 2.0]), t([0.25, 0.75])).item()
    assert value == pytest.approx(expected, rel=1e-12)


def test_tchebycheff_returns_the_weighted_maximum_not_the_worst_loss():
    """f = (1, 10), λ = (.95, .05): the weighted maximum .95 belongs to objective 0; f[argmax] would be 1."""
    assert Tchebycheff(ideal=[0.0, 0.0])(t([1.0, 10.0]), t([0.95, 0.05])).item() == pytest.approx(0.95, abs=1e-12)


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_ideal_point_matters(name):
    """PBI (and the others) must not ignore z."""
    f, lam = t([1.0, 2.0]), t([0.4, 0.6])
    near, far = build(name, [0.5, 0.5])(f, lam).item(), build(name, [-1.0, -3.0])(f, lam).item()
    assert abs(near - far) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_loop_over_rows(name):
    losses, preferences, ideal = random_batch((3, 4, 3))
    g = build(name, ideal)
    batch = g(losses, preferences)
    assert batch.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            assert batch[i, j].item() == pytest.approx(g(losses[i, j], preferences[i, j]).item(), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(case=cases(), shift=st.floats(-3, 3), alpha=st.floats(0.1, 10), order=st.randoms(use_true_random=False))
def test_permutation_shift_and_scale(name, case, shift, alpha, order):
    """g is symmetric in the objectives, depends on f − z only, and is positively homogeneous in (f, z, μ)."""
    f, lam, z = case
    value = build(name, z)(t(f), t(lam)).item()
    permutation = list(range(len(f)))
    order.shuffle(permutation)
    permuted = build(name, [z[i] for i in permutation])(
        t([f[i] for i in permutation]), t([lam[i] for i in permutation])
    )
    assert permuted.item() == pytest.approx(value, rel=1e-9, abs=1e-9)

    shifted = build(name, [a + shift for a in z])(t([a + shift for a in f]), t(lam)).item()
    assert shifted == pytest.approx(value + (shift if name == "linear" else 0.0), rel=1e-7, abs=1e-7)

    options = {"mu": alpha * MU} if name == "smooth-tchebycheff" else {}
    scaled = build(name, [alpha * a for a in z], **options)(t([alpha * a for a in f]), t(lam)).item()
    assert scaled == pytest.approx(alpha * value, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", MONOTONE)
@settings(max_examples=30, deadline=None)
@given(case=cases(), worse=st.lists(st.floats(0, 3), min_size=5, max_size=5))
def test_a_dominated_point_is_never_better(name, case, worse):
    f, lam, z = case
    g = build(name, z)
    assert g(t([a + b for a, b in zip(f, worse, strict=False)]), t(lam)).item() >= g(t(f), t(lam)).item() - 1e-9


@settings(max_examples=60, deadline=None)
@given(case=cases(), mu=st.floats(0.01, 2))
def test_smooth_tchebycheff_bounds(case, mu):
    """max ≤ g ≤ max + μ log m."""
    f, lam, z = case
    hard = Tchebycheff(ideal=z)(t(f), t(lam)).item()
    smooth = SmoothTchebycheff(ideal=z, mu=mu)(t(f), t(lam)).item()
    assert hard - 1e-9 <= smooth <= hard + mu * math.log(len(f)) + 1e-9


def test_limits_to_tchebycheff():
    losses, preferences, ideal = random_batch((50, 4))
    hard = Tchebycheff(ideal=ideal)(losses, preferences)
    smooth = SmoothTchebycheff(ideal=ideal, mu=1e-7)(losses, preferences)
    augmented = AugmentedTchebycheff(ideal=ideal, rho=1e-8)(losses, preferences)
    torch.testing.assert_close(smooth, hard, atol=1e-6, rtol=0)
    torch.testing.assert_close(augmented, hard, atol=1e-6, rtol=0)


def test_smooth_tchebycheff_does_not_overflow():
    value = SmoothTchebycheff(ideal=[0.0, 0.0], mu=1e-3)(torch.tensor([1e4, 2e4]), torch.tensor([0.5, 0.5]))
    assert value.item() == pytest.approx(1e4, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_pbi_is_pythagoras(case):
    """d1 (θ = 0) and d2 (difference of θ = 1 and θ = 0) are orthogonal parts of f − z."""
    f, lam, z = case
    d1 = PBI(ideal=z, theta=0.0)(t(f), t(lam)).item()
    d2 = PBI(ideal=z, theta=1.0)(t(f), t(lam)).item() - d1
    assert d2 >= -1e-9
    assert d1**2 + d2**2 == pytest.approx(sum((a - b) ** 2 for a, b in zip(f, z, strict=True)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("vertex", [0, 1, 2])
def test_a_vertex_gives_a_finite_value_and_gradient(name, dtype, vertex):
    losses = torch.tensor([1.0, 2.0, 0.5], dtype=dtype, requires_grad=True)
    preference = torch.eye(3, dtype=dtype)[vertex]
    value = build(name, [0.0, -1.0, 0.25])(losses, preference)
    value.backward()
    assert value.dtype == dtype
    assert torch.isfinite(value)
    assert torch.isfinite(losses.grad).all()
    assert losses.grad[vertex] > 0 or name == "modified-tchebycheff"
    assert losses.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_finite_where_the_formula_has_a_kink(name):
    """All weighted gaps equal / f on PBI's own ray, where d2 = 0 and a naive √ has gradient 0/0."""
    for gap, preference in [([0.3, 0.7], [0.3, 0.7]), ([0.5, 0.5], [0.5, 0.5]), ([0.0, 0.0], [0.5, 0.5])]:
        losses = t(gap).requires_grad_()
        value = build(name, [0.0, 0.0])(losses, t(preference))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(losses.grad).all(), f"{name} at {gap}: {losses.grad}"


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    losses, preferences, ideal = random_batch((4, 3), seed=3)
    g = build(name, ideal)
    assert torch.autograd.gradcheck(lambda f: g(f, preferences), (losses.requires_grad_(),))


def test_tchebycheff_gradient_passes_through_the_argmax_only():
    losses, preferences, ideal = random_batch((20, 4), seed=5)
    losses.requires_grad_()
    Tchebycheff(ideal=ideal)(losses, preferences).sum().backward()
    worst = (preferences * (losses.detach() - ideal)).argmax(-1)
    expected = torch.zeros_like(losses).scatter_(1, worst[:, None], preferences.gather(1, worst[:, None]))
    torch.testing.assert_close(losses.grad, expected)


def test_smooth_tchebycheff_gradient_is_the_softmax_of_weighted_gaps():
    losses, preferences, ideal = random_batch((6, 3), seed=6)
    losses.requires_grad_()
    SmoothTchebycheff(ideal=ideal, mu=0.2)(losses, preferences).sum().backward()
    share = torch.softmax(preferences * (losses.detach() - ideal) / 0.2, dim=-1)
    torch.testing.assert_close(losses.grad, share * preferences)


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_tracked_ideal_point_is_the_running_minimum_minus_the_margin(name):
    generator = torch.Generator().manual_seed(1)
    g = SCALARIZERS.make(name, margin=0.1)
    seen = []
    for _ in range(5):
        losses = torch.randn(3, 2, generator=generator)
        g.observe(losses)
        seen.append(losses)
        expected = torch.cat(seen).min(dim=0).values - 0.1
        torch.testing.assert_close(g.ideal_point.float(), expected)
        assert (g.ideal_point <= torch.cat(seen)).all()
    fixed = SCALARIZERS.make(name, ideal=g.ideal_point)
    preference = torch.tensor([0.3, 0.7]).expand(3, 2)
    torch.testing.assert_close(g(losses, preference), fixed(losses, preference))


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_state_restores_the_tracked_ideal_point(name):
    g = SCALARIZERS.make(name)
    g.observe(torch.tensor([[1.0, 5.0], [2.0, -3.0]]))
    other = SCALARIZERS.make(name)
    other.load_state_dict(g.state_dict())
    assert torch.equal(other.ideal_point, g.ideal_point)
    other.observe(torch.tensor([[1.5, 0.0]]))
    assert torch.equal(other.ideal_point, g.ideal_point), "a worse loss must not move a restored ideal point"


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_observing_keeps_no_graph_and_a_given_ideal_point_stays(name):
    losses = torch.tensor([[1.0, 2.0]], requires_grad=True)
    tracked, given_point = SCALARIZERS.make(name), SCALARIZERS.make(name, ideal=[0.5, 0.5])
    tracked.observe(losses)
    given_point.observe(losses)
    assert not tracked.ideal_point.requires_grad
    assert given_point.ideal_point.tolist() == [0.5, 0.5]
    assert SCALARIZERS.make(name).ideal_point is None


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_a_given_ideal_point_above_a_loss_raises(name):
    """z above f with λ_i = 0 silently stops training, so it must be refused."""
    g = SCALARIZERS.make(name, ideal=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"(?i)ideal"):
        g(t([[0.5, 0.5]]), t([[1.0, 0.0]]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SCALARIZERS.make("no-such-name"),
        lambda: SmoothTchebycheff(mu=0.0),
        lambda: SmoothTchebycheff(mu=-1.0),
        lambda: AugmentedTchebycheff(rho=-0.1),
        lambda: ModifiedTchebycheff(epsilon=0.0),
        lambda: PBI(theta=-1.0),
        lambda: Tchebycheff(margin=-0.1),
        lambda: Tchebycheff(ideal=[0.0, math.nan]),
        lambda: Tchebycheff(ideal=[0.0, math.inf]),
    ],
)
def test_invalid_options_raise(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("name", NAMES)
def test_mismatched_shapes_raise(name):
    g = build(name, [0.0, 0.0])
    with pytest.raises(ValueError):
        g(torch.ones(2, 3), torch.full((2, 2), 0.5))


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_an_ideal_point_of_the_wrong_length_raises(name):
    """One number would otherwise broadcast silently."""
    with pytest.raises(ValueError):
        build(name, [0.0])(torch.ones(2, 2), torch.full((2, 2), 0.5))


def test_registry():
    assert set(NAMES) <= set(SCALARIZERS)
    for name, kind in zip(
        NAMES,
        (Linear, Tchebycheff, ModifiedTchebycheff, AugmentedTchebycheff, SmoothTchebycheff, PBI),
        strict=True,
    ):
        assert type(SCALARIZERS.make(name)) is kind


def test_options_reach_the_formula_by_name():
    value = SCALARIZERS.make("pbi", ideal=[1.0, 1.0], theta=2.0)(t([3.0, 2.0]), t([0.25, 0.75])).item()
    assert value == pytest.approx(15 / math.sqrt(10), rel=1e-12)
    value = SCALARIZERS.make("modified-tchebycheff", ideal=[0.0, 0.0], epsilon=0.1)(t([1.0, 1.0]), t([1.0, 0.0]))
    assert value.item() == pytest.approx(10.0, rel=1e-12)
