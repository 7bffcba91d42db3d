"""Held-out fronts: accuracies by hand, losses equal to the objective's own."""

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.evaluation import preference_accuracies, preference_front
from mopref.objectives import DPO


def test_accuracies_by_hand():
    margins = torch.tensor([[1.0, -2.0, 3.0, 0.0], [-1.0, -2.0, 3.0, 5.0]])
    labels = torch.tensor([[0, 1], [0, -1], [1, -1], [0, -1]])
    expected = torch.tensor([[(1 + 0 + 0 + 0.5) / 4, 0.0], [(0 + 0 + 0 + 1) / 4, 1.0]])
    assert torch.equal(preference_accuracies(margins, labels), expected)


@pytest.fixture
def rows(make_pairs):
    return make_pairs([[0, 1], [1, 0], [0, -1], [-1, 1], [1, 1], [0, 0], [1, -1]])


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "hinge", "robust"])
def test_front_equals_the_group_losses(make_llama, randomise, rows, loss):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))))
    objective = DPO(("a", "b"), loss=loss)
    preferences = torch.tensor([[1.0, 0.0], [0.4, 0.6]])
    front = preference_front(model, objective, rows, preferences, batch_size=3)
    for preference, values in zip(preferences, front.values, strict=True):
        expected = objective.losses(model, objective.collate(rows), preference.view(1, -1))
        assert torch.allclose(torch.tensor(values, dtype=torch.float32), expected[0].detach(), atol=1e-5)
    assert set(front.extra) == {"accuracy_a", "accuracy_b"}


def test_accuracies_come_from_the_same_margins(make_llama, randomise, rows):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))))
    objective = DPO(("a", "b"))
    front = preference_front(model, objective, rows, torch.tensor([[0.5, 0.5]]))
    with torch.no_grad():
        margins = objective.margins(model, objective.collate(rows), torch.tensor([[0.5, 0.5]]).expand(len(rows), -1))
    on_a = [(row["labels"][0], margin) for row, margin in zip(rows, margins.tolist(), strict=True)]
    correct = [(margin > 0) == (label == 0) for label, margin in on_a if label >= 0]
    assert front.extra["accuracy_a"][0] == pytest.approx(sum(correct) / len(correct))


def test_mode_is_restored(make_llama, rows):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))).train()
    preference_front(model, DPO(("a", "b")), rows, torch.tensor([[0.5, 0.5]]))
    assert model.training
