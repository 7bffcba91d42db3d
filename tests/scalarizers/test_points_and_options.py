"""What every scalarizer does with its points and options: copies, refusals with the offending value, tracking."""

import math

import pytest
import torch

from mopref.scalarizers import PBI, AugmentedTchebycheff, Linear, ModifiedTchebycheff, SmoothTchebycheff, Tchebycheff
from mopref.scalarizers.achievement import AchievementScalarizing, AugmentedAchievementScalarizing
from mopref.scalarizers.cosmos import COSMOS
from mopref.scalarizers.hypervolume import Hypervolume
from mopref.scalarizers.inverted_pbi import InvertedPBI
from mopref.scalarizers.normalized import Normalized
from mopref.scalarizers.p_norm import PNorm
from mopref.training.checkpoint import load_state, save_state

BELOW, ABOVE = (-1.0, 0.0, -2.0), (4.0, 3.0, 5.0)
# Each makes a scalarizer of its point or points, given as lists or tensors.
MAKERS = {
    "linear": lambda below, above: Linear(),
    "tchebycheff": lambda below, above: Tchebycheff(ideal=below),
    "modified-tchebycheff": lambda below, above: ModifiedTchebycheff(ideal=below),
    "augmented-tchebycheff": lambda below, above: AugmentedTchebycheff(ideal=below),
    "smooth-tchebycheff": lambda below, above: SmoothTchebycheff(ideal=below),
    "pbi": lambda below, above: PBI(ideal=below),
    "inverted-pbi": lambda below, above: InvertedPBI(nadir=above),
    "achievement": lambda below, above: AchievementScalarizing(above),
    "augmented-achievement": lambda below, above: AugmentedAchievementScalarizing(above),
    "p-norm": lambda below, above: PNorm(ideal=below),
    "cosmos": lambda below, above: COSMOS(),
    "hypervolume": lambda below, above: Hypervolume(above),
    "normalized": lambda below, above: Normalized(Linear(), ideal=below, nadir=above),
}
# A point: what makes a scalarizer of it.
POINTS = {
    "inverted-pbi": lambda point: InvertedPBI(nadir=point),
    "achievement": AchievementScalarizing,
    "augmented-achievement": AugmentedAchievementScalarizing,
    "p-norm": lambda point: PNorm(ideal=point),
    "hypervolume": Hypervolume,
    "normalized-ideal": lambda point: Normalized(Linear(), ideal=point),
    "normalized-nadir": lambda point: Normalized(Linear(), nadir=point),
}


def t(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MAKERS)
def test_dtype_is_kept_and_nothing_is_modified(name, dtype):
    """Also the default options: each class works with none but its points."""
    below, above = torch.tensor(BELOW, dtype=dtype), torch.tensor(ABOVE, dtype=dtype)
    losses = torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]], dtype=dtype)
    preferences = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=dtype)
    inputs = (below, above, losses, preferences)
    before = [x.clone() for x in inputs]
    g = MAKERS[name](below, above)
    g.observe(losses)
    value = g(losses, preferences)
    assert value.dtype == dtype
    assert value.isfinite().all()
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    # The float64 result is the truth; float32 differs from it by rounding only.
    truth = MAKERS[name](list(BELOW), list(ABOVE))(losses.double(), preferences.double())
    torch.testing.assert_close(value.double(), truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_preferences_of_another_dtype_are_taken_in_the_losses_own(name):
    g = MAKERS[name](list(BELOW), list(ABOVE))
    losses, corner = torch.tensor([1.0, 2.0, 0.5]), [0, 1, 0]
    value = g(losses, torch.tensor(corner))
    assert value.dtype == torch.float32
    assert torch.equal(value, g(losses, torch.tensor(corner, dtype=torch.float64)))


@pytest.mark.parametrize("name", MAKERS)
def test_a_given_point_is_copied_and_stays(name):
    below, above = t(BELOW), t(ABOVE)
    g = MAKERS[name](below, above)
    losses, preferences = t([1.0, 2.0, 0.5]), t([0.2, 0.3, 0.5])
    value = g(losses, preferences).item()
    below -= 1
    above += 1
    g.observe(t([[-9.0, 90.0, 0.0], [90.0, -9.0, 0.0]]))
    assert g(losses, preferences).item() == value


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_point_that_is_not_finite_raises(name, bad):
    with pytest.raises(ValueError, match=str(bad)):
        POINTS[name]([0.5, bad])


@pytest.mark.parametrize("name", POINTS)
def test_a_point_that_is_not_a_vector_raises(name):
    for bad in (3.0, [[1.0, 2.0]], []):
        with pytest.raises(ValueError):
            POINTS[name](bad)


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_point_of_the_wrong_length_raises(name, length):
    """One number would otherwise broadcast silently. Both lengths are named."""
    with pytest.raises(ValueError, match=rf"{length}\D+3|3\D+{length}"):  # noqa: PT012 - any of the three may refuse
        g = POINTS[name]([0.0] * length)
        g.observe(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
        g(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.2, 0.3, 0.5]))


@pytest.mark.parametrize("name", MAKERS)
def test_losses_and_preferences_of_different_lengths_raise(name):
    g = MAKERS[name](list(BELOW), list(ABOVE))
    with pytest.raises(ValueError, match=r"(2, 3).*(2, 2)"):
        g(torch.ones(2, 3), torch.full((2, 2), 0.5))


@pytest.mark.parametrize(
    ("make", "offending"),
    [
        (lambda: InvertedPBI(theta=-0.25), "-0.25"),
        (lambda: InvertedPBI(theta=math.nan), "nan"),
        (lambda: InvertedPBI(margin=-0.25), "-0.25"),
        (lambda: AchievementScalarizing([0, 0], epsilon=0.0), "0.0"),
        (lambda: AchievementScalarizing([0, 0], epsilon=-0.25), "-0.25"),
        (lambda: AchievementScalarizing([0, 0], epsilon=math.nan), "nan"),
        (lambda: AugmentedAchievementScalarizing([0, 0], rho=-0.25), "-0.25"),
        (lambda: AugmentedAchievementScalarizing([0, 0], rho=math.nan), "nan"),
        (lambda: AugmentedAchievementScalarizing([0, 0], epsilon=-0.25), "-0.25"),
        (lambda: PNorm(p=0.75), "0.75"),
        (lambda: PNorm(p=math.nan), "nan"),
        (lambda: PNorm(p=math.inf), "inf"),
        (lambda: PNorm(margin=-0.25), "-0.25"),
        (lambda: COSMOS(mu=-0.25), "-0.25"),
        (lambda: COSMOS(mu=math.nan), "nan"),
        (lambda: Hypervolume([0, 0], epsilon=0.0), "0.0"),
        (lambda: Hypervolume([0, 0], epsilon=-0.25), "-0.25"),
        (lambda: Hypervolume([0, 0], epsilon=math.nan), "nan"),
        # The offending entry is the second: 2.5 is not above 2.5, and 1.5 not above 2.5.
        (lambda: Normalized(Linear(), ideal=[0, 2.5], nadir=[1, 2.5]), "2.5"),
        (lambda: Normalized(Linear(), ideal=[0, 2.5], nadir=[1, 1.5]), "1.5"),
        (lambda: Normalized(Linear(), ideal=[0, 0], nadir=[1, 1, 1]), "3"),
        (lambda: Normalized(Linear(), window=0), "0"),
        (lambda: Normalized(Linear(), minimum_range=0.0), "0.0"),
        (lambda: Normalized(Linear(), minimum_range=-0.25), "-0.25"),
        (lambda: Normalized(Linear(), minimum_range=math.nan), "nan"),
        # The older ones.
        (lambda: SmoothTchebycheff(mu=-0.25), "-0.25"),
        (lambda: AugmentedTchebycheff(rho=-0.25), "-0.25"),
        (lambda: ModifiedTchebycheff(epsilon=-0.25), "-0.25"),
        (lambda: PBI(theta=-0.25), "-0.25"),
        (lambda: Tchebycheff(margin=-0.25), "-0.25"),
    ],
)
def test_an_invalid_option_raises_and_is_named(make, offending):
    with pytest.raises(ValueError, match=offending.replace(".", r"\.")):
        make()


def test_normalized_needs_a_scalarizer():
    with pytest.raises(TypeError, match="linear"):
        Normalized("linear")


def test_p_norm_refuses_an_ideal_point_above_a_loss():
    with pytest.raises(ValueError, match=r"(?i)ideal.*1"):
        PNorm(ideal=[0, 1])(t([[0.5, 0.5]]), t([[1.0, 0.0]]))


@pytest.mark.parametrize("kind", [InvertedPBI, PNorm])
def test_a_tracked_point_that_nothing_was_observed_for_raises(kind):
    with pytest.raises(ValueError, match="observe"):
        kind()(t([1.0, 2.0]), t([0.5, 0.5]))


def test_tracked_nadir_of_inverted_pbi():
    """Rows that dominate nothing: the nadir is their maximum, plus the margin; it grows with what is seen later."""
    f, lam = t([1.0, 1.0]), t([0.3, 0.7])
    for margin in (0.0, 0.5):
        g = InvertedPBI(margin=margin)
        g.observe(torch.tensor([[1.0, 3.0], [2.0, 1.0]], requires_grad=True))
        assert g(f, lam).item() == pytest.approx(InvertedPBI(nadir=[2 + margin, 3 + margin])(f, lam).item(), abs=1e-12)
        assert not g(f, lam).requires_grad, "no graph of the observed losses"
        g.observe(t([[3.0, 0.5]]))
        assert g(f, lam).item() == pytest.approx(InvertedPBI(nadir=[3 + margin, 3 + margin])(f, lam).item(), abs=1e-12)


def test_tracked_nadir_of_inverted_pbi_is_one_of_recent_non_dominated_rows():
    f, lam, g = t([1.0, 1.0]), t([0.3, 0.7]), InvertedPBI(margin=0.0)

    def nadir_is(*nadir):
        return g(f, lam).item() == pytest.approx(InvertedPBI(nadir=nadir)(f, lam).item(), abs=1e-12)

    g.observe(t([[1.0, 9.0], [5.0, 5.0], [2.0, 1.0], [6.0, 9.5]]))  # (2, 1) dominates two
    assert nadir_is(2, 9)
    g.observe(t([[1.5, 3.0]]).expand(254, 2))
    assert nadir_is(2, 3), "(2, 1) is the first of the last 256 rows"
    g.observe(t([[1.5, 3.0]]))
    assert nadir_is(1.5, 3)


def test_tracked_ideal_point_of_p_norm():
    f, lam = t([1.0, 1.0]), t([0.3, 0.7])
    g = PNorm(p=2, margin=0.5)
    g.observe(torch.tensor([[1.0, 3.0], [2.0, 1.0]]))
    g.observe(torch.tensor([[0.5, 9.0]]))
    assert g(f, lam).item() == pytest.approx(PNorm(ideal=[0.0, 0.5], p=2)(f, lam).item(), abs=1e-12)


@pytest.mark.parametrize("margin", [{}, {"margin": 0.0}])
def test_tracked_inverted_pbi_pulls_from_the_first_row_on(margin):
    """The only row seen may be the nadir itself: d1 = d2 = 0, but −d1 still falls with each loss."""
    g = InvertedPBI(**margin)
    losses = t([[1.0, 3.0]]).requires_grad_()
    g.observe(losses)
    value = g(losses, t([[0.4, 0.6]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert losses.grad.isfinite().all()
    assert (losses.grad > 0).all()


@pytest.mark.parametrize("kind", [InvertedPBI, PNorm])
def test_state_of_a_tracked_point_goes_through_a_file(kind, tmp_path):
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(4, 3, generator=generator) for _ in range(4)]
    lam = torch.tensor([0.2, 0.3, 0.5]).expand(4, 3)
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
