"""Normalized: hand values, the inner scalarizer on (f − z)/(nadir − z), units that do not matter, tracked points."""

import math

import pytest
import torch
from _tensors import rand, tensor, tolerance
from hypothesis import given, settings, strategies as st
from scalarizer_asserts import assert_value

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.indicators import scalarizer_cross_angle
from mopref.objectives import ZDT1
from mopref.scalarizers import (
    COSMOS,
    PBI,
    AchievementScalarizing,
    AugmentedAchievementScalarizing,
    Hypervolume,
    InvertedPBI,
    Linear,
    ModifiedTchebycheff,
    Normalized,
    PNorm,
    SmoothTchebycheff,
    Tchebycheff,
)
from mopref.training.checkpoint import load_state, save_state

# Each inner scalarizer of m objectives, with its points in normalised units.
INNER = {
    "linear": lambda m: Linear(),
    "tchebycheff": lambda m: Tchebycheff(ideal=[0.0] * m),
    "modified-tchebycheff": lambda m: ModifiedTchebycheff(ideal=[0.0] * m),
    "smooth-tchebycheff": lambda m: SmoothTchebycheff(ideal=[-0.1] * m, mu=0.1),
    "modified-tchebycheff ray": lambda m: ModifiedTchebycheff(ideal=[0.0] * m, convention="ray"),
    "pbi": lambda m: PBI(ideal=[0.0] * m),
    "pbi ray": lambda m: PBI(ideal=[0.0] * m, convention="ray"),
    "inverted-pbi": lambda m: InvertedPBI(nadir=[1.0] * m),
    "achievement": lambda m: AchievementScalarizing([0.5] * m),
    "augmented-achievement": lambda m: AugmentedAchievementScalarizing([0.5] * m),
    "p-norm": lambda m: PNorm(ideal=[-0.1] * m, p=2.0),
    "cosmos": lambda m: COSMOS(mu=0.5),
    "hypervolume": lambda m: Hypervolume([1.1] * m),
}


@st.composite
def cases(draw: st.DrawFn):
    """Losses inside and beyond the box of an ideal point and a nadir, and a preference (possibly with zeros)."""
    m = draw(st.integers(2, 4))
    vector = lambda low, high: draw(st.lists(st.floats(low, high), min_size=m, max_size=m))  # noqa: E731
    z, size, share = vector(-5, 5), vector(0.05, 20), vector(0.01, 1.5)
    raw = draw(st.lists(st.integers(0, 20), min_size=m, max_size=m).filter(any))
    f = [a + s * x for a, s, x in zip(z, size, share, strict=True)]
    return f, [w / sum(raw) for w in raw], z, [a + s for a, s in zip(z, size, strict=True)]


def batch(seed=0, shape=(40, 3), dtype=None):
    generator = torch.Generator().manual_seed(seed)
    losses, raw = rand(shape, generator, dtype), rand(shape, generator, dtype) + 0.05
    return losses, raw / raw.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("inner", "f", "expected"),
    [
        # z = (1, 10), nadir = (5, 30), λ = (1/4, 3/4). f = (3, 25): ((3 − 1)/4, (25 − 10)/20) = (1/2, 3/4)
        (Linear(), (3, 25), 11 / 16),  # 1/8 + 9/16
        (Tchebycheff(ideal=[0, 0]), (3, 25), 9 / 16),
        (ModifiedTchebycheff(ideal=[0, 0]), (3, 25), 9 / 16),
        (ModifiedTchebycheff(ideal=[0, 0], convention="ray"), (3, 25), 2.0),  # (1/2)/(1/4), beside (3/4)/(3/4)
        (AchievementScalarizing([1, 1]), (3, 25), -1 / 3),  # −(1/2)/(1/4) = −2, −(1/4)/(3/4)
        (Hypervolume([1, 1]), (3, 25), -1 / 9),  # min(2, 1/3)²
        # The ideal point is 0, the nadir 1, and beyond it goes on: f = (9, 50) is (2, 2).
        (Linear(), (1, 10), 0.0),
        (Linear(), (5, 30), 1.0),
        (Linear(), (9, 50), 2.0),
    ],
)
def test_hand_values(inner, f, expected):
    assert_value(Normalized(inner, ideal=[1, 10], nadir=[5, 30]), f, (0.25, 0.75), expected)


@pytest.mark.parametrize("name", INNER)
@settings(max_examples=40, deadline=None)
@given(case=cases(), units=st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4), shift=st.floats(-5, 5))
def test_inner_scalarizer_of_normalized_losses_in_any_unit(name, case, units, shift):
    f, lam, z, nadir = case
    m = len(f)

    def value(g, losses):
        return g(tensor(losses, torch.float64), tensor(lam, torch.float64)).item()

    normalized = [(a - b) / (c - b) for a, b, c in zip(f, z, nadir, strict=True)]
    expected = value(INNER[name](m), normalized)
    assert value(Normalized(INNER[name](m), z, nadir), f) == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def convert(v):
        return [u * (x + shift) for u, x in zip(units, v, strict=False)]

    g = Normalized(INNER[name](m), ideal=convert(z), nadir=convert(nadir))
    assert value(g, convert(f)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", INNER)
def test_batch_loop_permutation_and_gradient(name):
    losses, preferences = batch(shape=(3, 4, 3), dtype=torch.float64)
    ideal, nadir, order = tensor([-0.1, -0.3, -0.2]), tensor([1.2, 3.0, 0.9]), [2, 0, 1]
    g = Normalized(INNER[name](3), ideal, nadir)
    values = g(losses, preferences)
    assert values.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            assert values[i, j].item() == pytest.approx(g(losses[i, j], preferences[i, j]).item(), abs=1e-12)
    permuted = Normalized(INNER[name](3), ideal[order], nadir[order])(losses[..., order], preferences[..., order])
    torch.testing.assert_close(permuted, values)
    assert torch.autograd.gradcheck(lambda f: g(f, preferences), (losses.requires_grad_(),))


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_corners_ties_and_the_ideal_point_itself(name, dtype):
    g = Normalized(INNER[name](2), ideal=[1, 10], nadir=[5, 30])
    for f in ((1.0, 10.0), (3.0, 20.0), (5.0, 30.0), (1.0, 20.0)):
        for lam in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
            losses = tensor(f, dtype).requires_grad_()
            value = g(losses, tensor(lam, dtype))
            value.backward()
            assert value.dtype == dtype
            assert value.isfinite()
            assert losses.grad.isfinite().all(), f"{losses.grad} at {f}, λ = {lam}"


def test_gradient_is_divided_by_the_range():
    losses = tensor([3.0, 25.0]).requires_grad_()
    Normalized(Linear(), ideal=[1, 10], nadir=[5, 30])(losses, tensor([0.25, 0.75])).backward()
    assert losses.grad.tolist() == pytest.approx([0.25 / 4, 0.75 / 20])


def linear_of(g, f, lam=(0.25, 0.75)) -> float:
    return g(tensor(f), tensor(lam)).item()


def test_tracked_points_are_the_ideal_and_the_maximum_over_the_non_dominated_rows():
    g = Normalized(Linear())
    # (5, 60) is dominated: z = (0, 10), nadir = (3, 50), so (3/2, 30) is the middle and (3, 50) is 1.
    g.observe(tensor([[0.0, 50.0], [3.0, 10.0], [5.0, 60.0]]).requires_grad_())
    assert linear_of(g, (0, 10)) == pytest.approx(0, abs=tolerance(1e-6))
    assert linear_of(g, (1.5, 30)) == pytest.approx(0.5, rel=tolerance(1e-6))
    assert linear_of(g, (3, 50)) == pytest.approx(1, rel=tolerance(1e-6))
    # 1/4 · (3/2)/3: each objective has its own range.
    assert linear_of(g, (1.5, 10)) == pytest.approx(0.125, rel=tolerance(1e-6))
    assert not g(tensor([1.0, 20.0]), tensor([0.5, 0.5])).requires_grad, "no graph of the observed losses"


def test_non_dominated_rows_are_those_of_several_steps_together():
    g = Normalized(Linear())
    g.observe(tensor([[0.0, 4.0]]))
    g.observe(tensor([[2.0, 0.0]]))
    assert linear_of(g, (2, 4)) == pytest.approx(1, rel=tolerance(1e-6))
    # Both are dominated by the new ones: z = (−1, −1), nadir = (1, 3), although 2 and 4 were seen.
    g.observe(tensor([[-1.0, 3.0], [1.0, -1.0]]))
    assert linear_of(g, (1, 3)) == pytest.approx(1, rel=tolerance(1e-6))
    assert linear_of(g, (0, 1)) == pytest.approx(0.5, rel=tolerance(1e-6))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=12), split=st.integers(0, 12))
def test_tracked_points_by_brute_force(rows, split):
    """Small integers: many ties and equal rows. Split into two steps or not, in any order."""
    front = [a for a in rows if not any(all(y <= x for x, y in zip(a, b, strict=True)) and a != b for b in rows)]
    z, nadir = [min(x) for x in zip(*rows, strict=True)], [max(x) for x in zip(*front, strict=True)]
    g = Normalized(Linear())
    for part in (rows[:split], rows[split:]):
        if part:
            g.observe(tensor(part, torch.float32))
    for i in range(3):
        value = g(
            tensor([n if j == i else a for j, (a, n) in enumerate(zip(z, nadir, strict=True))]), tensor([1 / 3] * 3)
        )
        assert value.isfinite()
        assert value.item() == pytest.approx(1 / 3 if nadir[i] > z[i] else 0, abs=tolerance(1e-6))


def test_the_nadir_forgets_and_the_ideal_point_does_not():
    """The window counts rows: (0, 9) and (9, 0) are non-dominated, but out of the last four after four more."""
    g, later = Normalized(Linear(), window=4), [[1.0, 3.0], [3.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
    g.observe(tensor([[0.0, 9.0], [9.0, 0.0]]))
    g.observe(tensor(later[:2]))
    assert linear_of(g, (9, 9)) == pytest.approx(1, rel=tolerance(1e-6))
    g.observe(tensor(later[2:3]))  # (0, 9) is gone: n = (9, 3)
    assert linear_of(g, (9, 3)) == pytest.approx(1, rel=tolerance(1e-6))
    assert linear_of(g, (9, 0)) == pytest.approx(0.25, rel=tolerance(1e-6))
    g.observe(tensor(later[3:]))
    assert linear_of(g, (3, 3)) == pytest.approx(1, rel=tolerance(1e-6))
    assert linear_of(g, (0, 0)) == pytest.approx(0, abs=tolerance(1e-6))
    # A step of more rows than the window holds: its last ones.
    g.observe(tensor([[0.0, 7.0], [7.0, 0.0], *later]))
    assert linear_of(g, (3, 3)) == pytest.approx(1, rel=tolerance(1e-6))


def test_a_tracked_range_is_cut_off_below():
    """In objective 0 n − z = .2, less than .1 % or 1 % of 1000.2; objective 1 has its own range of 2."""

    def value(g, f, lam):
        return g(tensor(f, torch.float64), tensor(lam, torch.float64)).item()

    for options, expected in (({}, 1.0002), ({"minimum_range": 0.01}, 10.002), ({"minimum_range": 1e-6}, 0.2)):
        g = Normalized(Linear(), **options)
        g.observe(tensor([[1000.0, 3.0], [1000.2, 1.0]], torch.float64))
        assert value(g, (1000.5, 1), (1, 0)) == pytest.approx(0.5 / expected, rel=1e-6)
        assert value(g, (1000, 2), (0, 1)) == pytest.approx(0.5, rel=1e-6)
        # Also where the losses are negative: the size counts.
        g = Normalized(Linear(), **options)
        g.observe(tensor([[-1000.2, 3.0], [-1000.0, 1.0]], torch.float64))
        assert value(g, (-999.7, 1), (1, 0)) == pytest.approx(0.5 / expected, rel=1e-6)
    # Two given points are taken as they are.
    g = Normalized(Linear(), ideal=[1000, 0], nadir=[1000.2, 1], minimum_range=0.01)
    assert value(g, (1000.1, 0), (1, 0)) == pytest.approx(0.5, rel=1e-6)


def test_the_origin_is_the_inner_ones_in_units_of_the_losses():
    """n − z = (4, 20): the point (1/2, 1/4) of the normalised losses is (1 + 2, 10 + 5)."""
    points = {"ideal": [1, 10], "nadir": [5, 30]}
    assert Normalized(Tchebycheff(ideal=[0, 0]), **points).origin.tolist() == [1, 10]
    assert Normalized(AchievementScalarizing([0.5, 0.25]), **points).origin.tolist() == [3, 15]
    assert Normalized(InvertedPBI(nadir=[1, 1]), **points).origin.tolist() == [5, 30]
    assert Normalized(Linear(), **points).origin is None
    tracked = Normalized(Tchebycheff(ideal=[0, 0]))
    assert tracked.origin is None, "no range is known yet"
    tracked.observe(tensor([[0.0, 50.0], [3.0, 10.0]]))
    assert tracked.origin.tolist() == tracked.ideal_point.tolist() == [0, 10]
    # Seen from there, a value on the ray (4/λ1, 20/λ2), or (4 λ1, 20 λ2) as a "ray", has no angle; nor has one that
    # lies on (−4 λ1, −20 λ2).
    for convention, up in (("importance", (4 / 0.3, 20 / 0.7)), ("ray", (4 * 0.3, 20 * 0.7))):
        g = Normalized(AchievementScalarizing([0.5, 0.25], convention=convention), **points)
        assert g.convention == convention
        for step in (up, (-4 * 0.3, -20 * 0.7)):
            value = [[3 + step[0], 15 + step[1]]]
            assert scalarizer_cross_angle(value, [[0.3, 0.7]], g) == pytest.approx(0, abs=1e-6)


def test_between_two_points_it_normalises_by_them():
    made = Normalized.between([1, 10], [5, 30], scalarizer=Linear())
    assert made.ideal_point.tolist() == [1, 10]
    assert made.nadir_point.tolist() == [5, 30]


def test_target_direction_is_turned_by_tracked_ranges():
    """n − z = (3, 40): (f − z)/(n − z) ∝ λ is f − z ∝ (3 λ1, 40 λ2); Tchebycheff's is ∝ (3/λ1, 40/λ2)."""
    along, against = (3 / 4, 40 * 3 / 4), (3 * 4, 40 * 4 / 3)
    for inner, expected in (
        (ModifiedTchebycheff(ideal=[0, 0], convention="ray"), along),
        (ModifiedTchebycheff(ideal=[0, 0]), against),
        (Tchebycheff(ideal=[0, 0]), against),
    ):
        g = Normalized(inner)
        assert g.target_direction(tensor([0.25, 0.75])) is None, "no range is known yet"
        assert g.backward_direction(tensor([0.25, 0.75])) is None
        g.observe(tensor([[0.0, 50.0], [3.0, 10.0], [5.0, 60.0]]))
        direction = g.target_direction(tensor([0.25, 0.75]))
        assert (direction[1] / direction[0]).item() == pytest.approx(expected[1] / expected[0], rel=tolerance(1e-6))
    assert Normalized(Linear(), ideal=[0, 0], nadir=[1, 2]).target_direction(tensor([0.25, 0.75])) is None


def test_given_and_tracked_points_mix():
    observed = tensor([[1.0, 50.0], [3.0, 10.0]])
    given_ideal, given_nadir = Normalized(Linear(), ideal=[0, 0]), Normalized(Linear(), nadir=[5, 90])
    given_ideal.observe(observed)  # nadir (3, 50)
    given_nadir.observe(observed)  # z (1, 10)
    assert linear_of(given_ideal, (1.5, 25)) == pytest.approx(0.5, rel=tolerance(1e-6))
    assert linear_of(given_nadir, (3, 50)) == pytest.approx(0.5, rel=tolerance(1e-6))


def test_tracked_units_do_not_matter_either():
    """Three objectives in units of 1, 1000 and 1/1000 train as if they had the same."""
    losses, preferences = batch(dtype=torch.float64)
    units, shift = tensor([1.0, 1e3, 1e-3]), tensor([0.0, -7.0, 3.0])
    for inner in (lambda: Linear(), lambda: Tchebycheff(ideal=[0, 0, 0]), lambda: PNorm(ideal=[0, 0, 0], p=3)):
        plain, scaled = Normalized(inner()), Normalized(inner())
        for rows in losses.split(8):
            plain.observe(rows)
            scaled.observe(units * (rows + shift))
        torch.testing.assert_close(
            scaled(units * (losses + shift), preferences), plain(losses, preferences), rtol=1e-6, atol=1e-6
        )


DEGENERATE = {
    "one row": [[1.0, 3.0]],
    "equal rows": [[1.0, 3.0], [1.0, 3.0]],
    "one row dominates": [[1.0, 3.0], [2.0, 4.0]],
    "a constant objective": [[1.0, 3.0], [2.0, 3.0]],
    "zeros": [[0.0, 0.0]],
    "large": [[1e6, 1e-6]],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("inner", [Linear, lambda: Tchebycheff(ideal=[0, 0]), lambda: AchievementScalarizing([0, 0])])
def test_it_works_from_the_first_observation_on(inner, rows, dtype):
    """One preference a step is one row: nadir and ideal point are equal, and the range is 0."""
    g = Normalized(inner())
    losses = tensor(rows, dtype).requires_grad_()
    g.observe(losses)
    value = g(losses, tensor([0.4, 0.6], dtype).expand_as(losses))
    value.sum().backward()
    assert value.dtype == dtype
    assert value.isfinite().all()
    assert losses.grad.isfinite().all()
    assert (losses.grad.abs().sum(-1) > 0).all(), "training must not stop in silence"


@pytest.mark.parametrize("rows", [[[0.0, 3.0]], [[0.0, 3.0], [0.0, 1.0]]])
def test_a_loss_that_was_0_so_far_is_not_divided_by_almost_nothing(rows):
    """A hinge loss or a divergence from the start: the first .001 of it must not outweigh all else by millions."""
    g = Normalized(Linear())
    g.observe(tensor(rows))
    losses = tensor([1e-3, 2.0]).requires_grad_()
    g(losses, tensor([0.5, 0.5])).backward()
    assert 0 < losses.grad[0].item() <= 1e4 * losses.grad[1].item()


def test_the_inner_refusal_says_that_its_losses_are_normalised():
    g = Normalized(Tchebycheff(ideal=[0, 0]), ideal=[1, 10], nadir=[5, 30])
    with pytest.raises(ValueError, match=r"(?i)ideal") as caught:
        g(tensor([0.0, 20.0]), tensor([0.5, 0.5]))  # (−1/4, 1/2)
    assert "-0.25" in str(caught.value)
    assert "normalised" in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_an_inner_scalarizer_may_track_its_own_ideal_point():
    """In normalised units."""
    g = Normalized(Tchebycheff(margin=0.0))
    g.observe(tensor([[0.0, 50.0], [3.0, 10.0]]))
    # z = (0, 10), nadir = (3, 50): (0, 1) and (1, 0), inner ideal point (0, 0). f = (3/2, 20) is (1/2, 1/4).
    assert linear_of(g, (1.5, 20)) == pytest.approx(3 / 16, rel=tolerance(1e-6))


def test_nothing_observed_yet_raises():
    for g in (Normalized(Linear()), Normalized(Linear(), ideal=[0, 0]), Normalized(Linear(), nadir=[1, 1])):
        with pytest.raises(ValueError, match="observe"):
            g(tensor([1.0, 2.0]), tensor([0.5, 0.5]))


def test_a_given_nadir_that_the_tracked_ideal_point_passes_raises_or_stays_finite():
    """Losses above a given nadir are the start of many a training run: each must give a number with a slope."""
    g = Normalized(Linear(), nadir=[0.5, 0.5])
    losses = tensor([[1.0, 2.0]]).requires_grad_()
    try:
        g.observe(losses)
        value = g(losses, tensor([[0.5, 0.5]]))
    except ValueError as error:
        assert "0.5" in str(error)  # noqa: PT017 - refusing is one of two right answers
        return
    value.sum().backward()
    assert value.isfinite().all()
    assert (losses.grad > 0).all(), "lower losses must stay better"


@pytest.mark.parametrize("inner", [Linear, lambda: Tchebycheff(ideal=[0, 0, 0]), lambda: PNorm(p=2)])
def test_state_goes_through_a_file_and_continues_identically(inner, tmp_path):
    losses, preferences = batch(seed=4, shape=(60, 3))
    losses[:30] *= 3
    steps = losses.split(5)
    through, resumed = Normalized(inner()), Normalized(inner())
    for step in steps[:6]:
        through.observe(step)
    save_state(through.state_dict(), tmp_path)
    resumed.load_state_dict(load_state(tmp_path))
    assert torch.equal(resumed(losses[:30], preferences[:30]), through(losses[:30], preferences[:30]))
    for step in steps[6:]:
        through.observe(step)
        resumed.observe(step)
        assert torch.equal(resumed(step, preferences[:5]), through(step, preferences[:5]))
    fresh = Normalized(inner())
    for step in steps[6:]:
        fresh.observe(step)
    assert not torch.equal(fresh(steps[-1], preferences[:5]), through(steps[-1], preferences[:5])), "the state matters"


def test_a_state_is_a_copy_and_one_of_nothing_seen_is_one_too():
    g = Normalized(Linear())
    g.observe(tensor([[0.0, 4.0], [2.0, 0.0]]))
    state, other = g.state_dict(), Normalized(Linear())
    g.observe(tensor([[-9.0, 4.0], [2.0, -9.0]]))
    other.load_state_dict(state)
    assert linear_of(other, (1, 2)) == pytest.approx(0.5, rel=tolerance(1e-6))
    unseen = Normalized(Linear())
    unseen.load_state_dict(Normalized(Linear()).state_dict())
    with pytest.raises(ValueError, match="observe"):
        unseen(tensor([1.0, 2.0]), tensor([0.5, 0.5]))


@pytest.mark.parametrize("preferences_per_step", [1, 4])
def test_it_trains(preferences_per_step):
    """From the first step on, where one preference is one row; the loss in the log is a number at every step."""
    problem = ZDT1(num_variables=4)
    config = TrainerConfig(
        steps=8, preferences_per_step=preferences_per_step, cpu=True, progress=False, log_every=1, learning_rate=1e-2
    )
    model = ParetoSetModel.for_problem(problem, seed=0)
    before = [p.detach().clone() for p in model.parameters()]
    trainer = ParetoTrainer(model, problem, Normalized(Tchebycheff(ideal=[0, 0])), config=config)
    trainer.train()
    after = [p.detach() for p in model.parameters()]
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(p, q) for p, q in zip(before, after, strict=True))
    assert math.isfinite(trainer.front(5).values.sum())


def test_the_inner_one_has_to_be_a_scalarizer():
    with pytest.raises(TypeError, match="linear"):
        Normalized("linear")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # The offending entry is the second: 2.5 is not above 2.5, and 1.5 not above 2.5.
        ({"ideal": [0, 2.5], "nadir": [1, 2.5]}, r"nadir's entry 1 is 2\.5, not above ideal's 2\.5"),
        ({"ideal": [0, 2.5], "nadir": [1, 1.5]}, r"nadir's entry 1 is 1\.5, not above ideal's 2\.5"),
        ({"ideal": [0, 0], "nadir": [1, 1, 1]}, "ideal has 2 numbers and nadir 3"),
        ({"window": 0}, "window is 0: at least one row"),
        ({"minimum_range": 0.0}, r"minimum_range is 0\.0: .* so it must be > 0\."),
        ({"minimum_range": -0.25}, r"minimum_range is -0\.25"),
        ({"minimum_range": math.nan}, "minimum_range is nan"),
    ],
)
def test_an_invalid_option_raises_and_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Normalized(Linear(), **options)


def test_a_repr_shows_the_inner_one_and_what_belongs_to_tracking():
    inner = "scalarizer=Tchebycheff(ideal=[0.0, 0.0])"
    assert repr(Normalized(Tchebycheff(ideal=[0, 0]), [1, 10], [5, 30])) == (
        f"Normalized({inner}, ideal=[1.0, 10.0], nadir=[5.0, 30.0])"
    )
    assert repr(Normalized(Tchebycheff(ideal=[0, 0]), nadir=[5, 30])) == (
        f"Normalized({inner}, ideal=None, nadir=[5.0, 30.0], window=256, minimum_range=0.001)"
    )
