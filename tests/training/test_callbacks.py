"""HypervolumeCallback: what it records, and that the training is the same with and without it, bit for bit."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from mopref import Objective, ParetoTrainer, TrainerConfig
from mopref.indicators import hypervolume
from mopref.scalarizers import Linear
from mopref.training.callbacks import HypervolumeCallback
from mopref.training.random_state import random_state


class Model(nn.Module):
    """λ to x, with dropout: the global generator and the mode matter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.3), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, preferences):
        return self.layers(preferences)


class Noisy(Objective):
    """Two parabolas, with noise from all three global generators, also where it is evaluated."""

    names = ("a", "b")

    def losses(self, model, batch, preferences):
        noise = 0.01 * (random.random() + np.random.random()) + 0.01 * torch.rand(len(preferences), 2)  # noqa: NPY002
        return (model(preferences) - torch.eye(2)[0]).square() + noise


def train(callbacks, steps=12, **settings):
    trainer = ParetoTrainer(
        Model(),
        Noisy(),
        Linear(),
        config=TrainerConfig(steps=steps, preferences_per_step=8, log_every=1, progress=False, cpu=True, **settings),
        callbacks=callbacks,
    )
    trainer.train()
    return trainer


def test_the_training_is_the_same_bit_for_bit():
    plain = train([])
    after = random_state()
    callback = HypervolumeCallback(5, [3.0, 3.0], every=1)
    watched = train([callback])
    assert len(callback.records) == 13
    for (name, expected), value in zip(
        plain.model.state_dict().items(), watched.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, value), name
    assert watched.history == plain.history
    assert watched.model.training
    now = random_state()
    assert torch.equal(after.pop("torch"), now.pop("torch"))
    assert after == now


def test_what_is_recorded():
    callback = HypervolumeCallback([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], [3.0, 3.0], every=5)
    trainer = train([callback])
    assert [record["step"] for record in callback.records] == [0, 5, 10, 12]
    assert all(set(record) == {"step", "hypervolume", "exact", "seconds"} for record in callback.records)
    assert all(record["exact"] and 0 < record["seconds"] < 60 for record in callback.records)
    # The noise is at most 0.03, and the last measurement was made after the last step.
    front = trainer.front([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert callback.records[-1]["hypervolume"] == pytest.approx(front.hypervolume([3.0, 3.0]), abs=0.2)
    assert callback.records[-1]["hypervolume"] > callback.records[0]["hypervolume"]


def test_the_last_step_is_measured_once():
    callback = HypervolumeCallback(3, [3.0, 3.0], every=6)
    train([callback])
    assert [record["step"] for record in callback.records] == [0, 6, 12]


def test_a_training_that_begins_again_drops_what_it_repeats(tmp_path):
    callback = HypervolumeCallback(3, [3.0, 3.0], every=4)
    trainer = train([callback], output_dir=str(tmp_path), checkpoint_every=8)
    trainer.train(resume_from=tmp_path / "checkpoint-8")
    assert [record["step"] for record in callback.records] == [0, 4, 8, 12]


class Rows(Noisy):
    """Each row is added to both losses."""

    def mean_losses(self, model, data, preferences, batch_size):
        return torch.ones(len(preferences), 2) * sum(data)


def test_evaluates_on_the_data_it_was_given():
    callback = HypervolumeCallback(3, [10.0, 10.0], data=[1.0, 2.0])
    trainer = ParetoTrainer(
        Model(), Rows(), Linear(), config=TrainerConfig(steps=2, preferences_per_step=4, cpu=True), callbacks=[callback]
    )
    trainer.train()
    assert [record["hypervolume"] for record in callback.records] == [49.0, 49.0]
    assert hypervolume([[3.0, 3.0]], [10.0, 10.0]) == 49.0


def test_an_error_puts_the_generators_back():
    class Failing(Noisy):
        def mean_losses(self, model, data, preferences, batch_size):
            torch.rand(5)
            raise RuntimeError("no evaluation")

    trainer = ParetoTrainer(Model(), Failing(), Linear(), config=TrainerConfig(steps=2, cpu=True))
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no evaluation"):
        HypervolumeCallback(3, [1.0, 1.0]).on_train_begin(trainer)
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.model.training


def test_wrong_arguments_say_so_before_anything_is_trained():
    with pytest.raises(ValueError, match="every is 0"):
        HypervolumeCallback(3, [1.0, 1.0], every=0)
    with pytest.raises(ValueError, match="reference_point has nan"):
        HypervolumeCallback(3, [1.0, float("nan")])
    for callback, message in (
        (HypervolumeCallback(3, [1.0, 1.0, 1.0]), r"reference_point has shape \(3,\): it must be \(2,\)"),
        (HypervolumeCallback([[0.5, 0.6]], [1.0, 1.0]), "sum"),
    ):
        with pytest.raises(ValueError, match=message):
            train([callback])
        assert callback.records == []


class Counting(Noisy):
    calls = 0

    def mean_losses(self, *arguments):
        self.calls += 1
        return super().mean_losses(*arguments)


def test_a_reference_point_of_another_length_is_refused_before_anything_is_measured():
    objective = Counting()
    config = TrainerConfig(steps=2, preferences_per_step=8, progress=False, cpu=True)
    callbacks = [HypervolumeCallback(5, [3.0, 3.0, 3.0])]
    trainer = ParetoTrainer(Model(), objective, Linear(), config=config, callbacks=callbacks)
    with pytest.raises(ValueError, match=r"reference_point has shape \(3,\): it must be \(2,\)"):
        trainer.train()
    assert objective.calls == 0


def test_preferences_by_name():
    callback = HypervolumeCallback([{"b": 0.25, "a": 0.75}, {"a": 0.0, "b": 1.0}], [3.0, 3.0])
    plain = HypervolumeCallback([[0.75, 0.25], [0.0, 1.0]], [3.0, 3.0])
    train([callback], steps=2)
    train([plain], steps=2)
    assert [r["hypervolume"] for r in callback.records] == [r["hypervolume"] for r in plain.records]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 2.5}, "every is 2.5, of type float: give a whole number"),
        ({"every": "10"}, "every is '10', of type str"),
        ({"data": iter([1])}, "data is a list_iterator, whose rows cannot be had by their number"),
    ],
)
def test_options_of_another_type(options, message):
    with pytest.raises(TypeError, match=message):
        HypervolumeCallback(5, [3.0, 3.0], **options)
