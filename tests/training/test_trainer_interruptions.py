"""What is left after a step that broke off, or a training that ended: nothing of it, and the model as it came."""

import math

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker
from torch import nn

from mopref import Objective, ParetoTrainer, Scalarizer, TrainerCallback, TrainerConfig
from mopref.objective import Losses, Metric, Update
from mopref.scalarizers import Linear

TARGETS = torch.tensor([[1.0, 0.0, 0.5], [-1.0, 0.5, 0.0]])


class Toy(nn.Module):
    """λ -> x, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.0), nn.Linear(8, 3))

    def forward(self, preferences: torch.Tensor) -> torch.Tensor:
        return self.body(preferences)


class Distances(Objective):
    """f_i(x) = ‖x − a_i‖²; in one of its calls something goes wrong."""

    names = ("left", "right")

    def __init__(self, breaks_at: int | None = None, error: type[BaseException] | None = None) -> None:
        self.breaks_at, self.error, self.calls = breaks_at, error, 0

    def losses(self, model, batch, preferences):
        self.calls += 1
        losses = (model(preferences)[:, None] - TARGETS).square().sum(-1)
        if self.calls == self.breaks_at:
            if self.error is not None:
                raise self.error
            return losses * math.nan
        return losses

    def updates(self, model, batch, preferences):
        return [Update(batch, preferences, {"draws": Metric(1.0), "call": float(self.calls)})]


class Cut(TrainerCallback):
    """Ends a training from outside a step."""

    def on_step_end(self, trainer):
        raise KeyboardInterrupt


def trainer_of(objective=None, model=None, callbacks=(), scalarizer=None, **settings) -> ParetoTrainer:
    settings = {"steps": 6, "preferences_per_step": 2, "log_every": 1, "progress": False, "cpu": True} | settings
    return ParetoTrainer(
        model or Toy(),
        objective or Distances(),
        scalarizer or Linear(),
        config=TrainerConfig(**settings),
        callbacks=callbacks,
    )


def parameters(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


BREAKS = [(None, FloatingPointError), (KeyboardInterrupt, KeyboardInterrupt), (RuntimeError, RuntimeError)]


@pytest.mark.parametrize(("error", "raised"), BREAKS, ids=["nan", "interrupted", "error"])
def test_a_broken_step_leaves_no_gradients(error, raised):
    """The second of two accumulated forwards breaks: what goes on is what goes on with gradients cleared by hand."""
    results = []
    for clears in (True, False):
        model = Toy()
        trainer = trainer_of(Distances(6, error), model, gradient_accumulation_steps=2, learning_rate=0.05)
        with pytest.raises(raised):
            trainer.train()
        assert trainer.step == 2
        assert all(parameter.grad is None for parameter in model.parameters())
        if clears:
            model.zero_grad()
        trainer.train()
        results.append(parameters(model))
    assert torch.equal(*results)


def test_gradients_of_the_users_own_do_not_go_into_the_first_step():
    results = []
    for is_dirty in (False, True):
        model = Toy()
        trainer = trainer_of(model=model, learning_rate=0.05)
        if is_dirty:
            model(torch.eye(2)).sum().mul(100).backward()
        trainer.train()
        results.append(parameters(model))
    assert torch.equal(*results)


@pytest.mark.parametrize(("error", "raised"), BREAKS, ids=["nan", "interrupted", "error"])
def test_a_broken_step_leaves_no_metrics(error, raised):
    """An entry for two steps with two forwards each has the draws of four forwards, one of them after a retry."""
    trainer = trainer_of(Distances(4, error), gradient_accumulation_steps=2, steps=2, log_every=2)
    with pytest.raises(raised):
        trainer.train()
    trainer.train()
    # Calls 1 and 2, then 5 and 6; each metric is taken before its call.
    assert trainer.history[0]["call"] == pytest.approx((0 + 1 + 4 + 5) / 4)
    assert trainer.history[0]["draws"] == 1.0


class Twice(Distances):
    """Each draw serves two steps."""

    record_types = ()

    def updates(self, model, batch, preferences):
        return [Update(number, preferences) for number in (1, 2)]

    def losses(self, model, batch, preferences):
        losses = super().losses(model, batch, preferences)
        self.seen = [*getattr(self, "seen", []), batch]
        return losses


@pytest.mark.parametrize("breaks_at", [3, 4])
def test_updates_of_a_broken_step_wait_again(breaks_at):
    """Nothing is skipped and nothing is left over of a draw that was not used."""
    objective = Twice(breaks_at, KeyboardInterrupt)
    trainer = trainer_of(objective, steps=4)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert [len(updates) for updates in trainer._pending_updates] == [0 if breaks_at == 3 else 1]
    trainer.train()
    assert objective.seen == [1, 2, 1, 2]


# The model's modes.


@pytest.mark.parametrize("ending", ["end", "nan", "interrupted"])
@pytest.mark.parametrize("mode", ["training", "evaluation", "mixed"])
def test_every_part_is_in_the_mode_that_it_came_in(mode, ending):
    model = Toy().train(mode == "training")
    if mode == "mixed":
        model.training = True
        model.body[2].training = True
    before = [part.training for part in model.modules()]
    seen = []

    class Look(Distances):
        def losses(self, model, batch, preferences):
            seen.extend(part.training for part in model.modules())
            return super().losses(model, batch, preferences)

    objective = Look(2, None) if ending == "nan" else Look()
    trainer = trainer_of(objective, model, callbacks=[Cut()] if ending == "interrupted" else [])
    if ending == "end":
        trainer.train()
    else:
        with pytest.raises((FloatingPointError, KeyboardInterrupt)):
            trainer.train()
    assert [part.training for part in model.modules()] == before
    assert seen
    assert all(seen), "it was trained in training mode"


# Trackers.


class Lines(GeneralTracker):
    """Holds an open file, which cannot be copied."""

    name = "lines"
    requires_logging_directory = False

    def __init__(self, path) -> None:
        super().__init__()
        self.file = path.open("w")

    @property
    def tracker(self):
        return self.file

    def store_init_configuration(self, values):
        print("settings", values["steps"], file=self.file)

    def log(self, values, step=None, **options):
        print(step, file=self.file)

    def finish(self):
        self.file.close()


def test_a_tracker_object_is_used_and_not_copied(tmp_path):
    path = tmp_path / "log.txt"
    trainer = trainer_of(steps=3, trackers=[Lines(path)], output_dir=tmp_path / "out", checkpoint_every=2)
    trainer.train()
    assert path.read_text().split() == ["settings", "3", "1", "2", "3"]


def test_a_run_with_a_tracker_object_is_resumed_with_another(tmp_path):
    trainer_of(steps=2, trackers=[Lines(tmp_path / "a")], output_dir=tmp_path / "out", checkpoint_every=2).train()
    trainer = trainer_of(steps=4, trackers=[Lines(tmp_path / "b")])
    trainer.train(resume_from=tmp_path / "out" / "checkpoint-2")
    assert (tmp_path / "b").read_text().split() == ["settings", "4", "3", "4"]


def test_after_a_broken_training_each_entry_is_tracked_once(tmp_path):
    path = tmp_path / "log.txt"
    trainer = trainer_of(Distances(3), steps=4, trackers=[Lines(path)])
    with pytest.raises(FloatingPointError):
        trainer.train()
    trainer.train()
    assert path.read_text().split() == ["settings", "4", "1", "2", "3", "4"]


# What a step cannot be made of.


@pytest.mark.parametrize("value", [True, 3, 1.5, ["checkpoint-1"]], ids=repr)
def test_resuming_from_something_that_is_no_folder(value):
    with pytest.raises(TypeError, match=r"resume_from is .*: give the folder of a checkpoint"):
        trainer_of().train(resume_from=value)


@pytest.mark.parametrize("shape", ["()", "(2, 1)", "(2, 2)"])
def test_a_scalarizer_that_does_not_give_one_number_for_each_preference(shape):
    class Wrong(Scalarizer):
        def scalarize(self, losses, preferences):
            return {"()": losses.sum(), "(2, 1)": losses.sum(-1, keepdim=True), "(2, 2)": losses}[shape]

    trainer = trainer_of(scalarizer=Wrong())
    with pytest.raises(ValueError, match=r"Wrong returned shape .*, not \(2,\): one number for each preference"):
        trainer.train()
    assert trainer.step == 0


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda f: Losses(f.detach()), "have no gradient"),
        (lambda f: Losses(f, f.mean(dim=1)), r"have shape \(2,\) together"),
    ],
    ids=["detached", "auxiliary rows"],
)
def test_losses_that_cannot_be_descended_on(losses, message):
    class Wrong(Distances):
        def training_losses(self, model, batch, preferences):
            return losses(self.losses(model, batch, preferences))

    with pytest.raises(ValueError, match=f"Wrong's losses and auxiliary loss {message}"):
        trainer_of(Wrong()).train()


class Measuring(Distances):
    """Logs numbers of NumPy, and has them in its state."""

    def updates(self, model, batch, preferences):
        metrics = {"a": np.float32(0.5), "b": Metric(np.float32(1.5), np.int64(2)), "c": torch.tensor(2.0)}
        return [Update(batch, preferences, metrics), Update(batch, preferences, metrics)]

    def state_dict(self):
        return {"count": np.int64(self.calls), "scale": np.float32(0.5)}

    def load_state_dict(self, state):
        assert state == {"count": 3, "scale": 0.5}


def test_numbers_of_numpy_in_settings_metrics_and_states_reach_the_checkpoint(tmp_path):
    settings = {
        "steps": np.int64(4),
        "preferences_per_step": np.int64(2),
        "learning_rate": np.float32(1e-3),
        "seed": np.int64(3),
        "checkpoint_every": np.int64(3),
        "log_every": np.int32(2),
        "output_dir": tmp_path,
    }
    trainer = trainer_of(Measuring(), **settings)
    history = trainer.train()
    assert {type(value) for entry in history for value in entry.values()} == {int, float}
    resumed = trainer_of(Measuring(), **settings).train(resume_from=tmp_path / "checkpoint-3")
    assert resumed == history


def test_a_state_that_cannot_be_written_is_refused_when_the_trainer_is_made(tmp_path):
    class Unwritable(Distances):
        def state_dict(self):
            return {"table": np.zeros(3)}

    with pytest.raises(TypeError, match=r"state\.objective\.table is a ndarray"):
        trainer_of(Unwritable(), checkpoint_every=3, output_dir=tmp_path)
    trainer_of(Unwritable()).train()
