"""SimPO's losses equal TRL's (its CPO trainer with ``loss_type="simpo"``) on the same policy and pairs."""

import copy

import pytest
from torch import nn
from trl_pairs import LABELS, NAMES, make_trl_trainer, our_losses, policy_pair, trl_loss

from mopref import PreferenceModel
from mopref.objectives import SimPO

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def rows(make_pairs) -> list[dict]:
    return make_pairs(LABELS, shortest_prompt=2)


@pytest.fixture(scope="module")
def models(make_llama, randomise, merge_by_hand) -> tuple[PreferenceModel, nn.Module]:
    return policy_pair(make_llama, randomise, merge_by_hand)


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 1.0), (0.7, 0.0), (2.5, 1.4)])
def test_losses_equal_trl(beta, gamma, models, rows, tmp_path):
    model, policy = models
    options = {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": beta, "simpo_gamma": gamma}
    trainer = make_trl_trainer("cpo", copy.deepcopy(policy), tmp_path, **options)
    losses = our_losses(SimPO(NAMES, beta=beta, gamma=gamma), model, rows)
    for objective in range(2):
        assert losses[objective].item() == pytest.approx(trl_loss(trainer, rows, objective), abs=1e-5, rel=1e-5)
    assert abs(losses[0] - losses[1]) > 1e-3, "the objectives' labels must matter"
