"""EvaluationCallback: what it records and logs, the best model, the end in time, and a training that is the same."""

import json
import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mopref import Front, Objective, ParetoSetModel, ParetoTrainer, TrainerCallback, TrainerConfig
from mopref.front.intervals import interval_columns
from mopref.scalarizers import Linear
from mopref.training.evaluation_callback import EvaluationCallback, evaluation_figures, point_label
from mopref.training.random_state import random_state

NAMES = ("a", "b")
CORNERS = np.eye(2)


class Model(nn.Module):
    """λ to x, which can be saved."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 2)

    def forward(self, preferences):
        return self.layer(preferences)

    def save_pretrained(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "weights.json").write_text(json.dumps(self.layer.weight.tolist()))


class Parabolas(Objective):
    names = NAMES

    def losses(self, model, batch, preferences):
        return (model(preferences) - torch.eye(2)[0]).square() + 0.001 * torch.rand(len(preferences), 2)


class Scripted(EvaluationCallback):
    """Fronts whose hypervolume under the reference point (1, 1) is what a list says; random numbers are drawn."""

    def __init__(self, volumes, **options):
        super().__init__(**options)
        self.volumes, self.written = list(volumes), []

    def measure(self, trainer):
        torch.rand(3)
        side = math.sqrt(self.volumes[len(self.written)])
        values = np.full((2, 2), 1 - side)
        return Front(
            CORNERS, values, NAMES, extra={"accuracy_a": [0.25, math.nan], "kl": [0.5, 1.5], "note": ["x", "y"]}
        )

    def recorded(self, trainer, record):
        torch.rand(2)
        self.written.append(record)


def train(*callbacks, steps=8, **settings):
    options = {"preferences_per_step": 4, "log_every": 1, "progress": False, "cpu": True, **settings}
    trainer = ParetoTrainer(
        Model(), Parabolas(), Linear(), config=TrainerConfig(steps=steps, **options), callbacks=callbacks
    )
    trainer.train()
    return trainer


def test_it_measures_before_between_and_after():
    callback = Scripted([0.1, 0.2, 0.3, 0.4], every=3)
    train(callback)
    assert [record["step"] for record in callback.records] == [0, 3, 6, 8]
    assert callback.written == callback.records
    assert [record["hypervolume"] for record in callback.records] == [None] * 4
    assert callback.shown() == ""
    assert callback.best is None


def test_the_training_is_the_same_bit_for_bit():
    plain = train()
    after = random_state()
    watched = train(Scripted([0.1] * 9, every=1, reference_point=[1, 1]))
    assert watched.history == plain.history
    assert all(map(torch.equal, plain.model.state_dict().values(), watched.model.state_dict().values()))
    assert torch.equal(after["torch"], random_state()["torch"])


def test_the_best_is_the_first_of_the_largest_and_its_model_is_kept(tmp_path):
    weights = []

    class Noting(Scripted):
        def measure(self, trainer):
            weights.append(trainer.unwrapped_model.layer.weight.tolist())
            return super().measure(trainer)

    callback = Noting([0.1, 0.3, 0.2, 0.3, 0.25], every=2, reference_point=[1, 1], best_folder=tmp_path / "best")
    train(callback)
    assert callback.best["step"] == 2
    assert callback.best["hypervolume"] == pytest.approx(0.3)
    assert callback.shown() == "hypervolume=0.2500"
    assert json.loads((tmp_path / "best" / "weights.json").read_text()) == weights[1] != weights[-1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_hypervolume_that_is_not_finite_is_never_the_best(bad, tmp_path):
    class Spoilt(Scripted):
        def recorded(self, trainer, record):
            super().recorded(trainer, record)
            if record["step"] in (0, 4):
                record["hypervolume"] = bad

    callback = Spoilt([0.1, 0.2, 0.3, 0.15, 0.1], every=2, reference_point=[1, 1], best_folder=tmp_path / "best")
    train(callback)
    assert callback.best["step"] == 2


def test_a_model_that_diverged_is_not_saved_over_the_best(tmp_path):
    class Diverging(Scripted):
        def measure(self, trainer):
            if trainer.step == 4:
                next(trainer.unwrapped_model.parameters()).data.fill_(math.nan)
            return super().measure(trainer)

    callback = Diverging([0.1, 0.2, 0.3], every=2, reference_point=[1, 1], best_folder=tmp_path / "best")
    config = TrainerConfig(steps=4, preferences_per_step=4, progress=False, cpu=True)
    model = ParetoSetModel(2, 2, hidden=(4,))
    trainer = ParetoTrainer(model, Parabolas(), Linear(), config=config, callbacks=[callback])
    with pytest.raises(ValueError, match="values that are not finite: the training diverged"):
        trainer.train()
    saved = ParetoSetModel.load(tmp_path / "best")
    assert all(parameter.isfinite().all() for parameter in saved.parameters())


def test_patience_counts_evaluations_since_the_best():
    callback = Scripted([0.1, 0.3, 0.3, 0.2, 0.9], every=1, reference_point=[1, 1], patience=2)
    trainer = train(callback)
    assert trainer.step == 3
    assert [record["step"] for record in callback.records] == [0, 1, 2, 3]
    patient = Scripted([0.1, 0.3, 0.3, 0.2, 0.9], every=1, reference_point=[1, 1], patience=3)
    assert train(patient, steps=4).step == 4


def test_a_resumed_run_has_the_records_of_the_whole_one(tmp_path):
    whole = Scripted([0.1, 0.3, 0.2, 0.5, 0.4], every=2, reference_point=[1, 1])
    train(whole, output_dir=tmp_path, checkpoint_every=3)
    again = Scripted([0.1, 0.3, 0.2, 0.5, 0.4], every=2, reference_point=[1, 1])
    again.records = [dict(record) for record in whole.records]
    again.written = [*again.records[:2]]
    config = TrainerConfig(steps=8, preferences_per_step=4, log_every=1, progress=False, cpu=True)
    trainer = ParetoTrainer(Model(), Parabolas(), Linear(), config=config, callbacks=[again])
    trainer.train(resume_from=tmp_path / "checkpoint-3")

    def without_seconds(records):
        return [{key: value for key, value in record.items() if key != "seconds"} for record in records]

    assert str(without_seconds(again.records)) == str(without_seconds(whole.records))


class Broken(Exception):
    """A run that ends as by a kill, after what was saved since its checkpoint."""


class BrokenAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            raise Broken


@pytest.mark.parametrize(("volumes", "best"), [([0.3, 0.4], 8), ([0.3, 0.2], 6), ([0.1, 0.2], 2)])
def test_a_resumed_run_keeps_the_best_of_the_steps_that_it_has(volumes, best, tmp_path):
    """Best at step 2, checkpoint at 4, best at 6 and a kill: from 4 on it may be another one, or none."""
    saved = {}
    for name, stops in (("whole", (0,)), ("killed", (7, 0))):
        settings = {"checkpoint_every": 4, "output_dir": tmp_path / name}
        for stop in stops:
            later = [0.9, 0.1] if stop else volumes
            callback = Scripted(
                [0.1, 0.25, 0.2, *later], every=2, reference_point=[1, 1], best_folder=tmp_path / name / "best"
            )
            trainer = ParetoTrainer(
                Model(),
                Parabolas(),
                Linear(),
                config=TrainerConfig(steps=8, preferences_per_step=4, progress=False, cpu=True, **settings),
                callbacks=[callback, BrokenAt(stop)],
            )
            if name == "killed" and stop == 0:
                # What was measured up to the checkpoint.
                callback.written += [None] * 3
            with suppress(Broken):
                trainer.train(resume_from="latest")
            content = (tmp_path / name / "best" / "weights.json").read_text()
        saved[name] = (content, trainer.unwrapped_model.layer.weight.detach(), callback.best["step"])
    assert saved["killed"][0] == saved["whole"][0]
    assert torch.equal(saved["killed"][1], saved["whole"][1])
    assert saved["killed"][2] == saved["whole"][2] == best


def test_a_best_model_of_other_weights_in_a_checkpoint_is_refused(tmp_path):
    callback = Scripted([0.1] * 9, every=2, reference_point=[1, 1], best_folder=tmp_path / "best")
    records = [{"step": 0, "hypervolume": 0.1}, {"step": 2, "hypervolume": 0.2}]
    callback.load_state_dict({"records": records, "best": {"layer.weight": torch.zeros(1)}})
    trainer = train(steps=2)
    with pytest.raises(
        ValueError, match=r"the best model that the checkpoint keeps for .*best belongs to another model"
    ):
        callback.on_train_begin(trainer)
    assert not (tmp_path / "best").exists()


def test_trackers_get_every_number_under_its_preference(monkeypatch):
    callback, logged = Scripted([0.25] * 2, every=5, reference_point=[1, 1]), []
    trainer = ParetoTrainer(
        Model(), Parabolas(), Linear(), config=TrainerConfig(steps=1, progress=False, cpu=True), callbacks=[callback]
    )
    monkeypatch.setattr(trainer.accelerator, "log", lambda values, step: logged.append((step, values)))
    trainer.train()
    assert logged[0][0] == 0
    assert logged[0][1] == pytest.approx(
        {
            "evaluation/hypervolume": 0.25,
            "evaluation/a/loss/a": 0.5,
            "evaluation/a/loss/b": 0.5,
            "evaluation/a/accuracy/a": 0.25,
            "evaluation/a/kl": 0.5,
            "evaluation/b/loss/a": 0.5,
            "evaluation/b/loss/b": 0.5,
            "evaluation/b/kl": 1.5,
        }
    )


def test_figures_of_a_front():
    front = Front(
        CORNERS,
        [[0.5, 0.6], [0.7, 0.8]],
        ("a", "b_a"),
        maximize=[False, True],
        extra={"margin_b_a": [1, 2], "n": [3, 4]},
    )
    assert evaluation_figures(front) == [
        {"preference": {"a": 1.0, "b_a": 0.0}, "loss/a": 0.5, "reward/b_a": 0.6, "margin/b_a": 1, "n": 3},
        {"preference": {"a": 0.0, "b_a": 1.0}, "loss/a": 0.7, "reward/b_a": 0.8, "margin/b_a": 2, "n": 4},
    ]
    bounds = interval_columns("a", [[0.1, 0.9], [math.nan, math.nan]]) | interval_columns("kl", [[0, 1], [2, 3]])
    with_bounds = evaluation_figures(Front(CORNERS, CORNERS, NAMES, extra={"kl": [0.5, 2.5], **bounds}))
    assert with_bounds[0] == {
        "preference": {"a": 1.0, "b": 0.0},
        "loss/a": 1.0,
        "loss/b": 0.0,
        "kl": 0.5,
        "intervals": {"loss/a": [0.1, 0.9], "kl": [0.0, 1.0]},
    }
    assert with_bounds[1]["intervals"]["loss/a"] == [None, None]
    record = evaluation_figures(Front(CORNERS, CORNERS, NAMES, extra={"accuracy_a": [math.nan, 1.0]}))
    assert record[0]["accuracy/a"] is None
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("preference", "label"),
    [((0, 1, 0), "b"), ((1 / 3, 1 / 3, 1 / 3), "even"), ((0.5, 0.25, 0.25), "a 0.50, b 0.25, c 0.25")],
)
def test_labels_of_preferences(preference, label):
    assert point_label("abc", preference) == label


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every is 0"),
        ({"every": "2"}, TypeError, "every"),
        ({"patience": 0, "reference_point": [1, 1]}, ValueError, "patience is 0"),
        ({"patience": 2}, ValueError, "patience is 2: the best is that of the largest hypervolume, so give"),
        (
            {"best_folder": 1.0, "reference_point": [1, 1]},
            TypeError,
            r"best_folder is 1\.0, of type float: give",
        ),
        ({"best_folder": "a\0b", "reference_point": [1, 1]}, ValueError, "best_folder is .*no name of a file can have"),
        ({"best_folder": "best"}, ValueError, "best_folder is best: the best is that"),
        ({"reference_point": [1, math.nan]}, ValueError, "reference_point has nan"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Scripted([], **options)


def test_what_does_not_go_with_the_trainer_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match="reference_point"):
        train(callback := Scripted([0.1], reference_point=[1, 1, 1]))
    assert not callback.written
    model = nn.Linear(2, 2)
    model.forward = lambda preferences: preferences
    callback = Scripted([0.1], reference_point=[1, 1], best_folder=tmp_path)
    trainer = ParetoTrainer(
        nn.Linear(2, 2), Parabolas(), Linear(), config=TrainerConfig(steps=1, cpu=True), callbacks=[callback]
    )
    with pytest.raises(ValueError, match="Linear has no save_pretrained"):
        trainer.train()
    assert not callback.written
