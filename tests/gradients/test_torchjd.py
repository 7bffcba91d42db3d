"""The adapter of torchjd's aggregators: the same weights as theirs, and the preference where they take one."""

import sys

import pytest
import torch

from mopref.gradients import TorchJD


@pytest.fixture
def aggregation():
    return pytest.importorskip("torchjd.aggregation")


def draw(groups: int = 3, m: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    jacobians = torch.randn(groups, m, 5, generator=generator, dtype=torch.float64)
    lam = torch.rand(groups, m, generator=generator, dtype=torch.float64)
    lam /= lam.sum(dim=1, keepdim=True)
    return torch.rand(groups, m, generator=generator, dtype=torch.float64), jacobians @ jacobians.mT, lam, jacobians


@pytest.mark.parametrize("name", ["MGDA", "IMTLG", "AlignedMTL"])
def test_the_direction_is_the_aggregators_own(aggregation, name):
    """Σ_i w_i g_i equals what the aggregator makes of the whole Jacobian."""
    losses, gram, lam, jacobians = draw()
    weights = TorchJD(name)(losses, gram, lam)
    for g in range(len(losses)):
        aggregator = getattr(aggregation, name)()
        if name == "AlignedMTL":
            aggregator.pref_vector = lam[g]
        torch.testing.assert_close(weights[g] @ jacobians[g], aggregator(jacobians[g]), rtol=1e-6, atol=1e-8)


def test_name_aggregator_and_weighting_are_the_same(aggregation):
    losses, gram, lam, _ = draw()
    by_name = TorchJD("MGDA", max_iters=3)(losses, gram, lam)
    assert torch.equal(TorchJD(aggregation.MGDA(max_iters=3))(losses, gram, lam), by_name)
    assert torch.equal(TorchJD(aggregation.MGDAWeighting(max_iters=3))(losses, gram, lam), by_name)
    assert not torch.equal(TorchJD("MGDA", max_iters=1)(losses, gram, lam), by_name)


def test_upgrad_without_conflict_gives_the_preference(aggregation):
    """UPGrad projects nothing where all gradients agree: the weights are λ itself, row by row."""
    pytest.importorskip("quadprog")
    pytest.importorskip("qpsolvers")
    losses, _, lam, _ = draw()
    agreeing = torch.full((3, 3, 3), 0.5, dtype=torch.float64) + 0.5 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(TorchJD("UPGrad")(losses, agreeing, lam), lam, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(TorchJD("DualProj")(losses, agreeing, lam), lam, rtol=1e-6, atol=1e-8)


def test_upgrad_never_raises_a_loss(aggregation):
    pytest.importorskip("quadprog")
    pytest.importorskip("qpsolvers")
    losses, gram, lam, _ = draw(groups=20)
    weights = TorchJD("UPGrad")(losses, gram, lam)
    assert ((gram @ weights.unsqueeze(2)).squeeze(2) >= -1e-3 * gram.amax()).all()
    assert not torch.allclose(weights, TorchJD("UPGrad")(losses, gram, lam.flip(1)))


def test_what_was_given_is_not_changed(aggregation):
    losses, gram, lam, _ = draw()
    aggregator = aggregation.AlignedMTL()
    TorchJD(aggregator)(losses, gram, lam)
    assert aggregator.pref_vector is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: TorchJD("NoSuchMethod"), "no aggregator 'NoSuchMethod'"),
        (lambda a: TorchJD("MGDAWeighting"), "no aggregator 'MGDAWeighting'"),
        (lambda a: TorchJD(a.MGDA(), epsilon=0.1), "epsilon"),
        (lambda a: TorchJD("ConFIG"), "does not work on the Gramian"),
        (lambda a: TorchJD(3), "3 does not work on the Gramian"),
        (lambda a: TorchJD("GradVac"), "carries a state"),
        (lambda a: TorchJD(a.AlignedMTL(pref_vector=torch.ones(2))), "preference vector of its own"),
    ],
)
def test_unusable_methods_raise(aggregation, make, message):
    with pytest.raises(ValueError, match=message):
        make(aggregation)


def test_without_torchjd_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ImportError, match=r"torchjd is missing.*run pip install 'mopref\[torchjd\]'\."):
        TorchJD("MGDA")


def test_options_that_the_aggregator_refuses_are_named(aggregation):
    with pytest.raises(TypeError, match=r"the options of MGDA are \{'c': 1\}, which it refuses"):
        TorchJD("MGDA", c=1)
    with pytest.raises(ValueError, match=r"the options of Krum are \{'n_byzantine': -1\}, which it refuses"):
        TorchJD("Krum", n_byzantine=-1)


def test_constant_weights_are_of_the_objectives(aggregation):
    constant = TorchJD(aggregation.ConstantWeighting(torch.ones(2)))
    constant.check_objectives(2)
    TorchJD("MGDA").check_objectives(3)
    with pytest.raises(ValueError, match="weights of method has 2 numbers, but there are 3 objectives"):
        constant.check_objectives(3)
