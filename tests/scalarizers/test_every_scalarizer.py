"""What every scalarizer keeps to: batches, symmetry, scale, monotonicity, gradients, types, points, states."""

import math

import pytest
import torch
from _tensors import randn, tensor, tolerance
from hypothesis import assume, given, settings, strategies as st
from scalarizer_asserts import value_and_gradient
from scalarizer_inputs import (
    COSMOS_MU,
    MONOTONE,
    MU,
    NAMES,
    POINTS,
    RAYS,
    VARIANTS,
    WITH_CONVENTION,
    WITH_IDEAL,
    WITH_POINT,
    away_from_zero,
    build,
    cases,
    formula,
    has_ideal,
    random_batch,
)

from mopref.scalarizers import COSMOS, SCALARIZERS, InvertedPBI, Linear, Normalized, PNorm
from mopref.training.checkpoint import load_state, save_state

BELOW, ABOVE = (-1.0, 0.0, -2.0), (4.0, 3.0, 5.0)
# Each makes a scalarizer with its default options of a point below and one above all losses, lists or tensors.
MAKERS = {
    **{
        name: lambda below, above, name=name: SCALARIZERS[name](*([below] if name in WITH_IDEAL else []))
        for name in ("linear", "cosmos", *WITH_IDEAL)
    },
    "inverted-pbi": lambda below, above: InvertedPBI(nadir=above),
    "achievement": lambda below, above: SCALARIZERS["achievement"](above),
    "augmented-achievement": lambda below, above: SCALARIZERS["augmented-achievement"](above),
    "hypervolume": lambda below, above: SCALARIZERS["hypervolume"](above),
    "normalized": lambda below, above: Normalized(Linear(), ideal=below, nadir=above),
}
# Each makes a scalarizer of one point.
OF_A_POINT = {name: lambda point, name=name: build(name, point) for name in WITH_POINT} | {
    "normalized-ideal": lambda point: Normalized(Linear(), ideal=point),
    "normalized-nadir": lambda point: Normalized(Linear(), nadir=point),
}


def test_all_that_are_registered_are_tested_here():
    own = {name for name, kind in SCALARIZERS.items() if kind.__module__.startswith("mopref.")}
    assert {*NAMES, "normalized"} == own
    assert set(MAKERS) == own


# -- the formula --


@pytest.mark.parametrize("name", VARIANTS)
def test_batch_equals_loop_over_rows(name):
    losses, preferences, point = random_batch((3, 4, 3), name)
    g = build(name, point)
    batch = g(losses, preferences)
    assert batch.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            row = g(losses[i, j], preferences[i, j]).item()
            assert batch[i, j].item() == pytest.approx(row, rel=tolerance(1e-12), abs=tolerance(1e-12))


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=60, deadline=None)
@given(case=cases(), shift=st.floats(-3, 3), alpha=st.floats(0.1, 10), order=st.randoms(use_true_random=False))
def test_permutation_shift_and_scale(name, case, shift, alpha, order):
    """Symmetric in the objectives; of f − z or r − f only; homogeneous (the hypervolume of degree m inside its box)."""
    assume(not name.startswith("cosmos") or away_from_zero(case))
    f, lam, point = case.losses, case.preference, case.point(name)

    def value(name, point, f, lam, **options):
        return build(name, point, **options)(tensor(f, torch.float64), tensor(lam, torch.float64)).item()

    before = value(name, point, f, lam)
    permutation = list(range(len(f)))
    order.shuffle(permutation)
    permuted = value(name, *([v[i] for i in permutation] for v in (point, f, lam)))
    assert permuted == pytest.approx(before, rel=1e-9, abs=1e-9)

    if not name.startswith("cosmos"):
        shifted = value(name, [a + shift for a in point], [a + shift for a in f], lam)
        precision = 1e-7 if has_ideal(name) or name == "linear" else 1e-6
        assert shifted == pytest.approx(before + (shift if name == "linear" else 0.0), rel=precision, abs=precision)

    degree = len(f) if name == "hypervolume" and before < 0 else 1
    scale = {"smooth-tchebycheff": {"mu": alpha * MU}, "cosmos": {"mu": alpha * COSMOS_MU}}
    options = scale.get(name.removesuffix(" ray"), {})
    scaled = value(name, [alpha * a for a in point], [alpha * a for a in f], lam, **options)
    assert scaled == pytest.approx(alpha**degree * before, rel=1e-7, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(case=cases(), alpha=st.floats(0.1, 10))
def test_scale_of_the_preference(case, alpha):
    """Directions (inverted PBI, the cosine) ignore it; the others have a degree in λ, so that they need Σλ = 1."""
    assume(away_from_zero(case))
    f, lam = tensor(case.losses, torch.float64), tensor(case.preference, torch.float64) + 0.02
    degrees = {"inverted-pbi": 0, "pbi ray": 0, "p-norm": 1, "achievement ray": -1, "hypervolume": -len(f)}
    for name, degree in degrees.items():
        g = build(name, case.point(name))
        before, after = g(f, lam).item(), g(f, alpha * lam).item()
        if name == "hypervolume" and before > 0:
            continue
        assert after == pytest.approx(alpha**degree * before, rel=1e-7, abs=1e-9), name
    cosmos = COSMOS(mu=1, convention="ray")
    cosine, scaled = (Linear()(f, weights) - cosmos(f, weights) for weights in (lam, alpha * lam))
    assert scaled.item() == pytest.approx(cosine.item(), abs=1e-9)


@pytest.mark.parametrize("name", MONOTONE)
@settings(max_examples=40, deadline=None)
@given(case=cases(), better=st.lists(st.floats(0, 3), min_size=5, max_size=5))
def test_a_lower_loss_never_costs(name, case, better):
    lower = [a - b for a, b in zip(case.losses, better, strict=False)]
    point = case._replace(losses=lower).point(name) if has_ideal(name) else case.point(name)
    g, lam = build(name, point), tensor(case.preference, torch.float64)
    before, after = (g(tensor(f, torch.float64), lam).item() for f in (case.losses, lower))
    assert after <= before + 1e-9 * (1 + (abs(before) if name == "hypervolume" else 0))


@pytest.mark.parametrize("name", [*WITH_IDEAL, *filter(has_ideal, RAYS)])
def test_ideal_point_matters(name):
    """PBI (and the others) must not ignore z."""
    f, lam = tensor([1.0, 2.0]), tensor([0.4, 0.6])
    near, far = build(name, [0.5, 0.5])(f, lam).item(), build(name, [-1.0, -3.0])(f, lam).item()
    assert abs(near - far) > 0.1


# -- gradients --


@pytest.mark.parametrize("name", VARIANTS)
def test_gradcheck(name):
    losses, preferences, point = random_batch((6, 3), name, seed=3, dtype=torch.float64)
    g = build(name, point)
    if name == "hypervolume":
        assert (g(losses, preferences) < 0).any(), "a row inside the box"
        assert (g(losses, preferences) > 0).any(), "a row outside"
    assert torch.autograd.gradcheck(lambda f: g(f, preferences), (losses.requires_grad_(),))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lam", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0), (1 - 1e-9, 1e-9, 0)])
def test_zero_weights_give_a_finite_value_and_gradient(name, dtype, lam):
    f = (1.0, 2.0, 0.5)
    points = [(0.0, -1.0, 0.25), (2.0, 4.0, 1.0), (2.0, 1.0, 1.0)]
    for point in points[:1] if has_ideal(name) else points:
        value, gradient = value_and_gradient(build(name, point), f, lam, dtype)
        assert value == pytest.approx(formula(name, f, lam, point), rel=1e-5)
        assert gradient.abs().sum() > 0
        if max(lam) == 1 and name in (
            "linear",
            "tchebycheff",
            "modified-tchebycheff",
            "augmented-tchebycheff",
            "smooth-tchebycheff",
            "pbi ray",
        ):
            assert gradient[lam.index(1)] > 0


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
@pytest.mark.parametrize("name", VARIANTS)
def test_gradient_is_finite_where_the_formula_has_a_kink(name, gap, lam, dtype):
    """All weighted gaps equal, or f on the ray of PBI, where d2 = 0 and a naive √ has gradient 0/0."""
    for point in [(0.0, 0.0)] if name.startswith("cosmos") else [(0.0, 0.0), (1.0, 2.0)]:
        for sign in (1,) if has_ideal(name) else (1, -1):
            f = [z + sign * g for z, g in zip(point, gap, strict=True)]
            value_and_gradient(build(name, point), f, lam, dtype)


# -- what a preference says --


@pytest.mark.parametrize("name", NAMES)
def test_a_preference_says_importance_unless_told_otherwise(name):
    kind, keyword = SCALARIZERS[name], POINTS[name]
    given = {} if keyword is None else {keyword: [3.0, 3.0]}
    plain = kind(**given)
    assert plain.convention == "importance"
    assert plain.options().get("convention") == ("importance" if name in WITH_CONVENTION else None)
    assert kind.conventions == (("importance", "ray") if name in WITH_CONVENTION else ("importance",))
    for convention in kind.conventions if name in WITH_CONVENTION else ():
        made = kind.between([0.0, 0.0], [1.0, 1.0], convention=convention)
        assert made.convention == convention
        again = kind(**made.options())
        assert (repr(again), again.convention) == (repr(made), convention)
        assert f"convention={convention!r}" in repr(made)
        assert Normalized(made).convention == convention
    if name in WITH_CONVENTION:
        with pytest.raises(ValueError, match=r"convention is 'rays': choose 'importance', .* or 'ray', .*\."):
            kind(**given, convention="rays")
        with pytest.raises(TypeError):
            kind(*given.values(), 0.1, 0.1, "ray")


@pytest.mark.parametrize("name", RAYS)
def test_the_smallest_weight_counts_in_importance(name):
    """Weights below ε count as ε: at ε = .2 the preferences (.1, .9) and (0, .9) are one."""
    name = name.removesuffix(" ray")
    g, f = build(name, [0.0, 0.0], epsilon=0.2), tensor([30.0, 2.0], torch.float64)
    small, zero, large = (g(f, tensor([w, 0.9], torch.float64)).item() for w in (0.1, 0.0, 0.5))
    # The weighted sum of COSMOS divides by nothing, and takes weights as they are.
    assert small - zero == pytest.approx(3.0 if name == "cosmos" else 0.0, abs=1e-12)
    assert abs(large - small) > 0.01
    for epsilon in (0.0, -0.25, math.nan):
        with pytest.raises(ValueError, match=rf"epsilon is {epsilon}: .* so it must be > 0\."):
            build(name, [0.0, 0.0], epsilon=epsilon)


# -- types, shapes, copies --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MAKERS)
def test_dtype_is_kept_and_nothing_is_modified(name, dtype):
    """Also the default options: each class works with none but its points."""
    below, above = tensor(BELOW, dtype), tensor(ABOVE, dtype)
    losses = tensor([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]], dtype)
    preferences = tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype)
    inputs = (below, above, losses, preferences)
    before = [x.clone() for x in inputs]
    g = MAKERS[name](below, above)
    g.observe(losses)
    value = g(losses, preferences)
    assert value.dtype == dtype
    assert value.device == losses.device
    assert value.isfinite().all()
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    # The float64 result is the truth; float32 differs from it by rounding only.
    truth = MAKERS[name](list(BELOW), list(ABOVE))(losses.double(), preferences.double())
    torch.testing.assert_close(value.double(), truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_preferences_of_another_dtype_are_taken_in_the_losses_own(name):
    g = MAKERS[name](list(BELOW), list(ABOVE))
    losses, corner = tensor([1.0, 2.0, 0.5], torch.float32), [0, 1, 0]
    value = g(losses, torch.tensor(corner))
    assert value.dtype == torch.float32
    assert torch.equal(value, g(losses, tensor(corner, torch.float64)))


@pytest.mark.parametrize("name", MAKERS)
def test_a_given_point_is_copied_and_stays(name):
    below, above = torch.tensor(BELOW, dtype=torch.float64), torch.tensor(ABOVE, dtype=torch.float64)
    g = MAKERS[name](below, above)
    losses, preferences = tensor([1.0, 2.0, 0.5]), tensor([0.2, 0.3, 0.5])
    value = g(losses, preferences).item()
    below -= 1
    above += 1
    g.observe(tensor([[-9.0, 90.0, 0.0], [90.0, -9.0, 0.0]]))
    assert g(losses, preferences).item() == value


@pytest.mark.parametrize("name", MAKERS)
def test_losses_and_preferences_of_different_lengths_raise(name):
    g = MAKERS[name](list(BELOW), list(ABOVE))
    with pytest.raises(ValueError, match=r"(2, 3).*(2, 2)"):
        g(torch.ones(2, 3), torch.full((2, 2), 0.5))


# -- points --


@pytest.mark.parametrize("name", OF_A_POINT)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_point_that_is_not_finite_raises(name, bad):
    with pytest.raises(ValueError, match=str(bad)):
        OF_A_POINT[name]([0.5, bad])


@pytest.mark.parametrize("name", OF_A_POINT)
def test_a_point_that_is_not_a_vector_raises(name):
    for bad in (3.0, [[1.0, 2.0]], []):
        with pytest.raises(ValueError, match="give one finite number per objective"):
            OF_A_POINT[name](bad)


@pytest.mark.parametrize("name", OF_A_POINT)
@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_point_of_the_wrong_length_raises(name, length):
    """One number would otherwise broadcast silently. Both lengths are named."""
    with pytest.raises(ValueError, match=rf"{length}\D+3|3\D+{length}"):  # noqa: PT012 - any of the three may refuse
        g = OF_A_POINT[name]([0.0] * length)
        g.observe(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
        g(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.2, 0.3, 0.5]))


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_a_given_ideal_point_above_a_loss_raises(name):
    """z above f with λ_i = 0 silently stops training, so it must be refused."""
    g = SCALARIZERS.make(name, ideal=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"ideal point's entry 1 is 1, above a loss of 0\.5.*\(ideal=None\)"):
        g(tensor([[0.5, 0.5]]), tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("name", WITH_POINT)
def test_between_two_points_each_measures_from_its_own(name):
    """The hypervolume's point lies a tenth beyond the nadir point."""
    ideal, nadir = [1.0, -2.0], [3.0, 8.0]
    expected = {"inverted-pbi": nadir, "hypervolume": [3.2, 9.0]}.get(name, ideal)
    made = SCALARIZERS[name].between(ideal, nadir)
    assert made.origin.tolist() == pytest.approx(expected, abs=1e-12)
    assert made.origin.dtype == torch.float64
    losses, preferences = tensor([[1.5, 0.0], [2.0, 3.0]]), tensor([[0.3, 0.7], [1.0, 0.0]])
    keyword = {"inverted-pbi": "nadir"}.get(name, "ideal" if name in WITH_IDEAL else "reference_point")
    by_hand = SCALARIZERS.make(name, **{keyword: expected})
    torch.testing.assert_close(made(losses, preferences), by_hand(losses, preferences))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_POINT])
def test_between_two_points_a_formula_without_one_looks_at_neither(name):
    made = SCALARIZERS[name].between([1.0, -2.0], [3.0, 8.0])
    assert made.origin is None
    losses, preferences = tensor([[1.5, 0.0], [2.0, 3.0]]), tensor([[0.3, 0.7], [1.0, 0.0]])
    assert torch.equal(made(losses, preferences), SCALARIZERS.make(name)(losses, preferences))


# -- tracked points and states --


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_tracked_ideal_point_is_the_running_minimum_minus_the_margin(name):
    generator = torch.Generator().manual_seed(1)
    g = SCALARIZERS.make(name, margin=0.1)
    batches = []
    for _ in range(5):
        losses = randn((3, 2), generator)
        g.observe(losses)
        batches.append(losses)
        observed = torch.cat(batches).double().cpu()
        torch.testing.assert_close(g.ideal_point, observed.min(dim=0).values - 0.1)
        assert (g.ideal_point <= observed).all()
        assert torch.equal(g.origin, g.ideal_point)
    fixed = SCALARIZERS.make(name, ideal=g.ideal_point)
    preference = tensor([0.3, 0.7]).expand(3, 2)
    torch.testing.assert_close(g(losses, preference), fixed(losses, preference))


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_state_restores_the_tracked_ideal_point(name):
    g = SCALARIZERS.make(name)
    g.observe(tensor([[1.0, 5.0], [2.0, -3.0]]))
    other = SCALARIZERS.make(name)
    other.load_state_dict(g.state_dict())
    assert torch.equal(other.ideal_point, g.ideal_point)
    other.observe(tensor([[1.5, 0.0]]))
    assert torch.equal(other.ideal_point, g.ideal_point), "a worse loss must not move a restored ideal point"


@pytest.mark.parametrize("name", WITH_IDEAL)
def test_observing_keeps_no_graph_and_a_given_ideal_point_stays(name):
    losses = tensor([[1.0, 2.0]]).clone().requires_grad_()
    tracked, fixed = SCALARIZERS.make(name), SCALARIZERS.make(name, ideal=[0.5, 0.5])
    tracked.observe(losses)
    fixed.observe(losses)
    assert tracked.tracked
    assert not fixed.tracked
    assert not tracked.ideal_point.requires_grad
    assert fixed.ideal_point.tolist() == [0.5, 0.5]
    assert SCALARIZERS.make(name).ideal_point is None


@pytest.mark.parametrize("kind", [InvertedPBI, PNorm])
def test_a_tracked_point_that_nothing_was_observed_for_raises(kind):
    with pytest.raises(ValueError, match="observe"):
        kind()(tensor([1.0, 2.0]), tensor([0.5, 0.5]))


@pytest.mark.parametrize("kind", [InvertedPBI, PNorm])
def test_state_of_a_tracked_point_goes_through_a_file(kind, tmp_path):
    generator = torch.Generator().manual_seed(2)
    batches = [randn((4, 3), generator) for _ in range(4)]
    lam = tensor([0.2, 0.3, 0.5]).expand(4, 3)
    through, resumed = kind(), kind()
    for batch in batches[:2]:
        through.observe(batch)
    save_state(through.state_dict(), tmp_path)
    resumed.load_state_dict(load_state(tmp_path))
    for batch in batches[2:]:
        through.observe(batch)
        resumed.observe(batch)
        assert torch.equal(resumed(batch, lam), through(batch, lam))
    fresh = kind()
    fresh.observe(batches[3])
    assert not torch.equal(fresh(batches[3], lam), through(batches[3], lam)), "the state matters in this test"
    unseen = kind()
    unseen.load_state_dict(kind().state_dict())
    with pytest.raises(ValueError, match="observe"):
        unseen(batches[0], lam)


def test_a_given_point_has_no_state():
    for name in WITH_POINT:
        assert build(name, [0.0, 0.0]).state_dict() == {}
    assert SCALARIZERS.make("tchebycheff").state_dict() == {"lowest": None}
