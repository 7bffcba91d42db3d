"""ORPO's odds ratios equal those of TRL's ORPO on the same policy and pairs; its likelihood term is another one."""

import copy

import pytest
import torch
from torch import nn
from trl_pairs import LABELS, NAMES, make_trl_trainer, our_losses, policy_pair, trl_metrics

from mopref import PreferenceModel
from mopref.objectives import ORPO

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def rows(make_pairs) -> list[dict]:
    return make_pairs(LABELS, shortest_prompt=2)


@pytest.fixture(scope="module")
def models(make_llama, randomise, merge_by_hand) -> tuple[PreferenceModel, nn.Module]:
    return policy_pair(make_llama, randomise, merge_by_hand)


def token_log_probabilities(policy: nn.Module, row: dict, response: int) -> torch.Tensor:
    """log π of every token but the first, of prompt and response, from all logits."""
    ids = row["prompt_ids"] + row[f"response_{response}_ids"]
    with torch.no_grad():
        logits = policy(torch.tensor([ids])).logits[0, :-1].double()
    return torch.log_softmax(logits, -1)[range(len(ids) - 1), ids[1:]]


@pytest.mark.parametrize("weight", [0.1, 1.5])
def test_the_odds_ratio_term_equals_trl(weight, models, rows, tmp_path):
    """Ours less the same without weight; TRL's loss less its likelihood."""
    model, policy = models
    trainer = make_trl_trainer("orpo", copy.deepcopy(policy), tmp_path, beta=weight)
    ours = our_losses(ORPO(NAMES, weight=weight), model, rows) - our_losses(ORPO(NAMES, weight=0.0), model, rows)
    for objective in range(2):
        loss, metrics = trl_metrics(trainer, rows, objective)
        assert ours[objective].item() == pytest.approx(loss - metrics["nll_loss"], abs=1e-5, rel=1e-5)
        assert ours[objective].item() == pytest.approx(-weight * metrics["log_odds_ratio"], abs=1e-5, rel=1e-5)
    assert abs(ours[0] - ours[1]) > 1e-3, "the objectives' labels must matter"


def test_pair_losses_equal_trls_function(models, tmp_path):
    """TRL's ``odds_ratio_loss`` pair by pair, over all but certain responses."""
    trainer = make_trl_trainer("orpo", copy.deepcopy(models[1]), tmp_path, beta=0.3)
    scores = -torch.logspace(-4, 1.5, 12).view(6, 2)
    scores[3:] = scores[3:].flip(1)
    terms, *_ = trainer.odds_ratio_loss(scores[:, 0], scores[:, 1])
    values = ORPO(("a", "b"), weight=0.3).pair_losses(scores, torch.tensor([[0, -1]] * 6))
    torch.testing.assert_close(values[:, 0], -scores[:, 0] - terms, atol=1e-5, rtol=1e-5)


def test_the_likelihood_term_is_over_responses_and_trls_is_not(models, rows, tmp_path):
    """Ours: the mean over pairs of the mean over response tokens. TRL's: over all tokens of the batch, prompts' too."""
    model, policy = models
    trainer = make_trl_trainer("orpo", copy.deepcopy(policy), tmp_path)
    ours = our_losses(ORPO(NAMES, weight=0.0), model, rows)
    for objective in range(2):
        labelled = [row for row in rows if row["labels"][objective] >= 0]
        tokens = [token_log_probabilities(policy, row, row["labels"][objective]) for row in labelled]
        of_responses = [
            of_row[len(row["prompt_ids"]) - 1 :].mean() for of_row, row in zip(tokens, labelled, strict=True)
        ]
        _, metrics = trl_metrics(trainer, rows, objective)
        assert ours[objective].item() == pytest.approx(-torch.stack(of_responses).mean().item(), abs=1e-5, rel=1e-5)
        assert metrics["nll_loss"] == pytest.approx(-torch.cat(tokens).mean().item(), abs=1e-5, rel=1e-5)
        assert abs(ours[objective].item() - metrics["nll_loss"]) > 0.01
