"""The bandit of noisy labels against DPO itself, on rows that hold the shares."""

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.known_fronts import LabelBandit, tiny_llama
from mopref.objectives import DPO

NAMES = ("f1", "f2", "f3")


def test_losses_are_those_of_dpo_on_rows_with_the_shares(randomise):
    base = tiny_llama(vocabulary=12, hidden=16)
    bandit = LabelBandit.random(base, 3, prompts=4)
    model = randomise(PreferenceModel(base, SVDLoRAConfig(NAMES, rank=2, preference_rank=1))).eval()
    preferences = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    dpo = DPO(NAMES, beta=bandit.beta)
    expected = dpo.mean_losses(model, bandit.rows(), preferences, batch_size=8)
    with torch.no_grad():
        losses = bandit.losses(model, None, preferences)
    torch.testing.assert_close(losses.double(), expected.double(), atol=1e-5, rtol=0)
    assert (losses[0] - losses[1]).abs().max() > 1e-3, "λ matters, or the test is vacuous"


def test_rows_hold_the_shares():
    bandit = LabelBandit.random(tiny_llama(), 2, prompts=3)
    labels = torch.tensor([row["labels"] for row in bandit.rows()], dtype=torch.float64).view(3, 8, 2)
    assert torch.equal(1 - labels.mean(dim=1), bandit.shares)


def test_the_optimum_is_where_the_margin_says_the_mixed_share():
    """A policy with σ(β d) = Σ λ_i p_i on every prompt, made by hand, has the losses of the closed form."""
    bandit = LabelBandit.random(tiny_llama(), 2, prompts=3)
    preference = torch.tensor([0.3, 0.7], dtype=torch.float64)
    wanted = (bandit.shares @ preference).logit() / bandit.beta
    logits = bandit.reference.clone()
    for prompt, (first, _) in enumerate(bandit.pairs.tolist()):
        logits[prompt, first] += wanted[prompt]
    policies = logits.log_softmax(-1)
    torch.testing.assert_close(torch.sigmoid(bandit.beta * bandit.margins(policies)), bandit.shares @ preference)
    torch.testing.assert_close(bandit.losses_of(policies), bandit.optimum(preference).values[0])


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, float("nan")])
def test_shares_without_a_finite_optimum_are_refused(share):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        LabelBandit(tiny_llama(), [[3]], [[4, 5]], torch.tensor([[0.5, share]]))


@pytest.mark.parametrize("pairs", [[[4, 4]], [[4]], [[4, 24]], [[-1, 4]], [[0.5, 1.5]]])
def test_pairs_that_are_none_are_refused(pairs):
    with pytest.raises(ValueError, match="pairs"):
        LabelBandit(tiny_llama(), [[3]], pairs, torch.tensor([[0.5, 0.25]]))


def test_rows_of_other_shares_are_refused():
    bandit = LabelBandit(tiny_llama(), [[3]], [[4, 5]], torch.tensor([[0.3, 0.25]]))
    with pytest.raises(ValueError, match="round them"):
        bandit.rows()
