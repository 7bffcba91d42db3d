"""An objective's hooks: several updates from one draw, an auxiliary loss, metrics, parts that are trained with it."""

import torch
from torch import nn

from mopref import Objective, ParetoTrainer, TrainerConfig
from mopref.scalarizers import Linear


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, preferences: torch.Tensor) -> torch.Tensor:
        return preferences * self.weight


class Sampling(Objective):
    """Uses each draw for three steps, and trains a part of its own."""

    names = ("left", "right")

    def __init__(self) -> None:
        self.draws, self.steps, self.logged = [], [], 0

    def prepare_model(self, model):
        model.extra = nn.Linear(1, 1)

    def updates(self, model, batch, preferences):
        self.draws.append(preferences.clone())
        return [({"drawn": torch.tensor(len(self.draws)), "use": torch.tensor(use)}, preferences) for use in range(3)]

    def losses(self, model, batch, preferences):
        self.steps.append((int(batch["drawn"]), int(batch["use"]), preferences.clone()))
        self.auxiliary = 7.0 * model.extra(torch.ones(1)).square().sum()
        return (model(preferences) - 1).square()

    def auxiliary_loss(self):
        return self.auxiliary

    def metrics(self):
        new, self.logged = self.steps[self.logged :], len(self.steps)
        return {"uses": float(len(new))}


def train(steps: int, accumulation: int = 1) -> tuple[Line, Sampling, list]:
    torch.manual_seed(0)
    model, objective = Line(), Sampling()
    config = TrainerConfig(
        steps=steps,
        preferences_per_step=2,
        gradient_accumulation_steps=accumulation,
        learning_rate=0.1,
        log_every=2,
        progress=False,
    )
    return model, objective, ParetoTrainer(model, objective, Linear(), config=config).train()


def test_each_draw_is_used_as_often_as_the_objective_says():
    _, objective, _ = train(steps=7)
    assert [(drawn, use) for drawn, use, _ in objective.steps] == [
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 0),
        (2, 1),
        (2, 2),
        (3, 0),
    ]
    for drawn, _, preferences in objective.steps:
        assert torch.equal(preferences, objective.draws[drawn - 1]), "a draw keeps its preferences"


def test_accumulated_forwards_have_draws_of_their_own():
    _, objective, _ = train(steps=2, accumulation=2)
    assert [(drawn, use) for drawn, use, _ in objective.steps] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert not torch.equal(objective.draws[0], objective.draws[1])


def test_parts_added_to_the_model_are_trained_by_the_auxiliary_loss():
    model, _, history = train(steps=60)
    assert model.extra(torch.ones(1)).abs().item() < 0.05
    assert history[-1]["loss"] < history[0]["loss"]
    expected = [history[-1][f"loss/{name}"] for name in Sampling.names]
    assert history[-1]["loss"] <= max(expected) + 1e-6, "the auxiliary loss is no part of the logged one"


def test_metrics_are_logged():
    _, _, history = train(steps=4)
    assert [entry["uses"] for entry in history] == [2.0, 2.0]


def test_an_objective_without_hooks_is_asked_once_a_step():
    class Plain(Objective):
        names = ("left", "right")
        asked = 0

        def losses(self, model, batch, preferences):
            type(self).asked += 1
            return (model(preferences) - 1).square()

    model = Line()
    config = TrainerConfig(steps=5, preferences_per_step=2, progress=False)
    ParetoTrainer(model, Plain(), Linear(), config=config).train()
    assert Plain.asked == 5
