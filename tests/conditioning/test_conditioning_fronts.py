"""Every conditioning learns a whole front that is known exactly, through the trainer.

One network y(x, λ) with targets t_i(x) that contradict each other, f_i = mean (y − t_i)²: the minimiser of Σ λ_i f_i is
y = Σ λ_i t_i, so f(λ) is known.
"""

import moocore
import numpy as np
import pytest
import torch
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, RowObjective, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.conditioning.concatenation import ConcatenationModel
from mopref.conditioning.decision_model import DecisionModel
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.hypernetwork import HypernetworkModel
from mopref.conditioning.mlp import make_mlp
from mopref.objective import RowLosses
from mopref.objectives import ZDT2
from mopref.scalarizers import Linear, ModifiedTchebycheff

NAMES = ("a", "b")


class TwoTargets(RowObjective):
    names = NAMES

    def num_rows(self, batch):
        return len(batch[0])

    def row_losses(self, model, batch, preferences):
        x, targets = batch
        values = (model(x, preferences=preferences) - targets).square()
        return RowLosses(values, torch.ones_like(values, dtype=torch.bool))


X = torch.linspace(-1, 1, 16)[:, None]
TARGETS = torch.cat([torch.sin(3 * X), X.square()], dim=1)
# From a base to a conditioned network, and the learning rate.
MODELS = {
    "concatenation": (
        lambda base: ConcatenationModel(make_mlp((3, 32, 32, 1), torch.Generator().manual_seed(0)), NAMES),
        0.03,
    ),
    "hypernetwork": (lambda base: HypernetworkModel(base, NAMES), 0.01),
    "film": (lambda base: FiLMModel(base, NAMES), 0.01),
    "film, frozen base": (lambda base: FiLMModel(base, NAMES, train_base=False), 0.01),
    "svd-lora": (lambda base: PreferenceModel(base, SVDLoRAConfig(NAMES)), 0.01),
}


def pretrained_base() -> nn.Module:
    """A plain network, trained on the mean of the targets."""
    base = make_mlp((1, 32, 32, 1), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(base.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        (base(X) - TARGETS.mean(dim=1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return base


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    return moocore.hypervolume(np.asarray(values, dtype=np.float64), ref=reference)


@pytest.mark.parametrize("name", MODELS)
def test_the_exact_front_of_conflicting_targets_is_recovered(name):
    make, rate = MODELS[name]
    config = TrainerConfig(
        steps=200, batch_size=128, preferences_per_step=16, learning_rate=rate, log_every=200, cpu=True, progress=False
    )
    rows = list(zip(X, TARGETS, strict=True))
    trainer = ParetoTrainer(make(pretrained_base()), TwoTargets(), Linear(), train_data=rows, config=config)
    preferences = simplex_lattice(2, 21)
    y = preferences.double() @ TARGETS.double().T
    exact = ((y[:, :, None] - TARGETS.double()) ** 2).mean(dim=1).numpy()
    reference = 1.1 * exact.max(axis=0)
    before = trainer.front(preferences).values
    trainer.train()
    after = trainer.front(preferences).values
    assert hypervolume(before, reference) < 0.9 * hypervolume(exact, reference)
    # Between .997 and .9998 with four seeds each.
    assert hypervolume(after, reference) > 0.98 * hypervolume(exact, reference)
    # Not only the front as a whole: each preference reaches its own point.
    assert np.abs(after - exact).max() < 0.1 * exact.max()


def test_a_decision_model_recovers_a_concave_front():
    problem = ZDT2(num_variables=5)
    network = FiLMModel(make_mlp((4, 32, 32, 5), torch.Generator().manual_seed(0)), 2)
    model = DecisionModel.for_problem(network, problem, anchor=torch.ones(4))
    config = TrainerConfig(
        steps=200, preferences_per_step=32, learning_rate=0.01, log_every=200, cpu=True, progress=False
    )
    trainer = ParetoTrainer(model, problem, ModifiedTchebycheff(ideal=[0, 0]), config=config)
    trainer.train()
    reference = np.array([1.1, 1.1])
    reached = hypervolume(trainer.front(21).values, reference)
    assert reached >= 0.98 * hypervolume(problem.pareto_front(21).numpy(), reference)
