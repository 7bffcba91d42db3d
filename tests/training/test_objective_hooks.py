"""An objective's hooks: several updates from one draw, an auxiliary loss, metrics, parts that are trained with it."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from mopref import Objective, ParetoTrainer, TrainerConfig
from mopref.objective import Losses, Metric, Update
from mopref.scalarizers import Linear


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, preferences: torch.Tensor) -> torch.Tensor:
        return preferences * self.weight


class Draw(NamedTuple):
    """What a draw was, for which of its uses, and a value to be logged."""

    number: torch.Tensor
    use: int


class Sampling(Objective):
    """Uses each draw for three steps, and trains a part of its own."""

    names = ("left", "right")
    record_types = (Draw,)

    def __init__(self) -> None:
        self.draws, self.steps = [], []

    def prepare_model(self, model):
        model.extra = nn.Linear(1, 1)

    def updates(self, model, batch, preferences):
        self.draws.append(preferences.clone())
        number = len(self.draws)
        first = Update(Draw(torch.tensor(number), 0), preferences, {"draw": Metric(number), "weighted": Metric(7.0, 2)})
        return [first, *(Update(Draw(torch.tensor(number), use), preferences) for use in (1, 2))]

    def losses(self, model, batch, preferences):
        return (model(preferences) - 1).square()

    def training_losses(self, model, batch, preferences):
        self.steps.append((int(batch.number), batch.use, preferences.clone()))
        auxiliary = 7.0 * model.extra(torch.ones(1)).square().sum()
        return Losses(self.losses(model, batch, preferences), auxiliary)


def make_trainer(steps: int, objective: Objective | None = None, **settings) -> ParetoTrainer:
    torch.manual_seed(0)
    settings = {"preferences_per_step": 2, "learning_rate": 0.1, "log_every": 2, "progress": False} | settings
    return ParetoTrainer(Line(), objective or Sampling(), Linear(), config=TrainerConfig(steps=steps, **settings))


def train(steps: int, accumulation: int = 1) -> tuple[Line, Sampling, list]:
    trainer = make_trainer(steps, gradient_accumulation_steps=accumulation)
    return trainer.model, trainer.objective, trainer.train()


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


def test_metrics_are_means_over_the_draws_of_an_interval():
    """Draws fall on steps 1, 4 and 7; with two accumulated forwards each step has two of them."""
    _, _, history = train(steps=8)
    assert [entry.get("draw") for entry in history] == [1.0, 2.0, None, 3.0]
    _, _, history = train(steps=4, accumulation=2)
    assert [entry["draw"] for entry in history] == [1.5, 3.5]


def test_metrics_count_by_their_weights():
    """(3 · 1 + 1 · 5) / 4 = 2; and what has no weight at all says nothing."""

    class Weighing(Sampling):
        weights = iter([(1.0, 3.0), (5.0, 1.0), (9.0, 0.0)])

        def updates(self, model, batch, preferences):
            update = Update(Draw(torch.tensor(0), 0), preferences, {"mean": Metric(*next(self.weights))})
            return [update]

    history = make_trainer(3, Weighing()).train()
    assert history[0]["mean"] == 2.0
    assert "mean" not in history[1]


def test_metrics_that_wait_with_their_updates_are_in_the_checkpoint(tmp_path):
    """Here every update has its own: those of the steps after a resume are logged all the same."""

    class Telling(Sampling):
        def updates(self, model, batch, preferences):
            updates = super().updates(model, batch, preferences)
            return [u._replace(metrics={"use": Metric(u.batch.use, 0.5)}) for u in updates]

    reference = make_trainer(6, Telling(), log_every=1, output_dir=tmp_path, checkpoint_every=1).train()
    assert [entry["use"] for entry in reference] == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]
    for step in (1, 2, 3):
        trainer = make_trainer(6, Telling(), log_every=1)
        assert trainer.train(resume_from=tmp_path / f"checkpoint-{step}") == reference


def silent() -> Sampling:
    """One that does not say which records its updates hold."""
    objective = Sampling()
    objective.record_types = ()
    return objective


def test_a_batch_that_could_not_be_read_again_is_not_written(tmp_path):
    trainer = make_trainer(2, silent(), output_dir=tmp_path, checkpoint_every=1)
    with pytest.raises(TypeError, match=r"is a Draw, a named tuple .* add it to the objective's record_types"):
        trainer.train()
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_objectives_records_is_refused(tmp_path):
    """A record is never made of its name alone."""
    make_trainer(2, output_dir=tmp_path, checkpoint_every=1).train()
    with pytest.raises(ValueError, match="the checkpoint holds a Draw, which this objective's batches do not"):
        make_trainer(2, silent()).train(resume_from=tmp_path / "checkpoint-1")


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


def test_an_objective_without_any_update_is_refused():
    class Idle(Objective):
        names = ("left", "right")

        def updates(self, model, batch, preferences):
            return []

        def losses(self, model, batch, preferences):
            return model(preferences)

    config = TrainerConfig(steps=1, preferences_per_step=2, progress=False)
    with pytest.raises(ValueError, match=r"Idle\.updates returned no update"):
        ParetoTrainer(Line(), Idle(), Linear(), config=config).train()


def test_metrics_may_be_plain_numbers():
    class Counting(Objective):
        names = ("left", "right")
        asked = 0

        def updates(self, model, batch, preferences):
            type(self).asked += 1
            return [Update(batch, preferences, {"asked": self.asked, "heavy": Metric(self.asked, weight=self.asked)})]

        def losses(self, model, batch, preferences):
            return (model(preferences) - 1).square()

    config = TrainerConfig(steps=2, preferences_per_step=2, log_every=2, progress=False)
    (entry,) = ParetoTrainer(Line(), Counting(), Linear(), config=config).train()
    assert entry["asked"] == 1.5
    assert entry["heavy"] == (1 * 1 + 2 * 2) / 3
