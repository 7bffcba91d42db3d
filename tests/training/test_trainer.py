"""ParetoTrainer on toy problems: history, schedules, callbacks, accumulation, refusals. Resuming: test_resume.py."""

import math
import re

import numpy as np
import pytest
import torch
from _checkpoints import FILES
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mopref import (
    Objective,
    ParetoTrainer,
    PreferenceSampler,
    TrainerCallback,
    TrainerConfig,
    UniformSampler,
)
from mopref.gradients import MGDA
from mopref.scalarizers import Linear, Tchebycheff

TARGETS = torch.tensor([[1.0, 0.0, 0.5], [-1.0, 0.5, 0.0]])


class Toy(nn.Module):
    """λ -> x, with dropout where asked."""

    def __init__(self, seed: int = 0, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 3))

    def forward(self, preferences: torch.Tensor) -> torch.Tensor:
        return self.body(preferences)


class Distances(Objective):
    """f_i(x) = ‖x − a_i‖², shifted by the mean of each group's data where there are data."""

    names = ("left", "right")

    def losses(self, model, batch, preferences):
        distances = (model(preferences)[:, None] - TARGETS).square().sum(-1)
        if batch is None:
            return distances
        return distances * (1 + batch.reshape(len(preferences), -1).mean(-1, keepdim=True))


class Sequence(PreferenceSampler):
    """Preferences from a list, over and over."""

    def __init__(self, preferences) -> None:
        super().__init__(len(preferences[0]))
        self.preferences, self.position = np.array(preferences, dtype=np.float64), 0

    def draw(self, n, generator):
        rows = [(self.position + i) % len(self.preferences) for i in range(n)]
        self.position += n
        return self.preferences[rows]


def trainer_of(model=None, *, objective=None, scalarizer=None, sampler=None, train_data=None, callbacks=(), **settings):
    settings = {"steps": 6, "batch_size": 2, "preferences_per_step": 2, "log_every": 1, "progress": False} | settings
    return ParetoTrainer(
        model or Toy(),
        objective or Distances(),
        scalarizer or Linear(),
        sampler=sampler,
        train_data=train_data,
        config=TrainerConfig(**settings),
        callbacks=callbacks,
    )


def parameters(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_finds_the_pareto_set():
    """Linear scalarization of ‖x − a_i‖² has its optimum at x(λ) = Σ λ_i a_i."""
    model = Toy(width=16)
    trainer_of(model, steps=400, learning_rate=2e-2, preferences_per_step=8, batch_size=8, log_every=400).train()
    preferences = torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.1, 0.9], [0.0, 1.0]])
    assert (model.eval()(preferences) - preferences @ TARGETS).abs().max() < 0.05


def test_history_has_each_objectives_loss():
    """At a learning rate of almost nothing every number of the history is known."""
    preferences = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    model = Toy()
    losses = Distances().losses(model, None, preferences).detach()
    scalarized = (preferences * Distances().losses(model, None, preferences)).sum(-1).mean()
    gradients = torch.autograd.grad(scalarized, list(model.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    trainer = trainer_of(model, sampler=Sequence(preferences.tolist()), learning_rate=1e-12, steps=4, log_every=2)
    history = trainer.train()
    assert history == trainer.history
    assert [entry["step"] for entry in history] == [2, 4]
    assert trainer.step == 4
    for entry in history:
        assert entry["loss/left"] == pytest.approx(losses[:, 0].mean().item(), rel=1e-5)
        assert entry["loss/right"] == pytest.approx(losses[:, 1].mean().item(), rel=1e-5)
        assert entry["loss"] == pytest.approx((preferences * losses).sum(-1).mean().item(), rel=1e-5)
        assert entry["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_means_come_before_the_scalarizer():
    """Tchebycheff of a group's mean losses, not the mean of per-preference maxima over a mixed mean."""
    preferences = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    model = Toy()
    losses = Distances().losses(model, None, preferences).detach()
    trainer = trainer_of(
        model,
        scalarizer=Tchebycheff(ideal=[0.0, 0.0]),
        sampler=Sequence(preferences.tolist()),
        learning_rate=1e-12,
        steps=1,
    )
    assert trainer.train()[0]["loss"] == pytest.approx((preferences * losses).amax(-1).mean().item(), rel=1e-5)


def test_tracked_ideal_point_is_below_every_loss_seen():
    scalarizer, seen = Tchebycheff(margin=0.1), []

    class Watched(Distances):
        def losses(self, model, batch, preferences):
            losses = super().losses(model, batch, preferences)
            seen.append(losses.detach())
            return losses

    trainer_of(objective=Watched(), scalarizer=scalarizer, steps=20, learning_rate=0.05).train()
    torch.testing.assert_close(scalarizer.ideal_point.float(), torch.cat(seen).min(dim=0).values - 0.1)


@pytest.mark.parametrize("steps", [100])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedule_shapes(schedule, steps):
    """Within one step's worth of the formula, so that counting steps from 0 or from 1 are both right."""
    history = trainer_of(steps=steps, learning_rate=0.01, lr_schedule=schedule, warmup_ratio=0.1).train()
    rates = [entry["learning_rate"] / 0.01 for entry in history]
    assert len(rates) == steps
    assert max(rates) == pytest.approx(1, abs=1e-6)
    shape = {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - t,
        "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    }[schedule]
    for step, rate in enumerate(rates, start=1):
        allowed = [s / 10 if s < 10 else shape((s - 10) / (steps - 10)) for s in (step - 1, step)]
        assert min(allowed) - 1e-6 <= rate <= max(allowed) + 1e-6, f"{schedule} at step {step}: {rate}"


def test_no_warmup_starts_at_the_peak():
    history = trainer_of(learning_rate=0.01, lr_schedule="constant", warmup_ratio=0.0).train()
    assert [entry["learning_rate"] for entry in history] == pytest.approx([0.01] * 6)


def test_gradients_are_clipped():
    """What the optimiser is given; the history shows the norm before clipping, with and without clipping."""
    norms = []

    def measure(optimizer, *_):
        norms.append(torch.cat([p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]).norm())

    handle = register_optimizer_step_pre_hook(measure)
    try:
        entries = [
            trainer_of(sampler=Sequence([[0.25, 0.75], [0.5, 0.5]]), steps=1, max_grad_norm=limit).train()[0]
            for limit in (None, 0.01, 1e6)
        ]
    finally:
        handle.remove()
    free, clipped, loose = (norm.item() for norm in norms)
    assert free > 0.1
    assert clipped == pytest.approx(0.01, rel=1e-3)
    assert loose == pytest.approx(free, rel=1e-5)
    for entry in entries:
        assert entry.get("gradient_norm", free) == pytest.approx(free, rel=1e-4)


@pytest.mark.parametrize("scalarizer", [Linear(), Tchebycheff(ideal=[0.0, 0.0])], ids=["linear", "tchebycheff"])
def test_gradient_accumulation_equals_one_larger_step(scalarizer):
    """Two forwards of two preferences = one forward of the same four.

    It does not with dropout (other random numbers). Preferences that several forwards share: test_joint_step.py.
    """
    preferences = [[0.1, 0.9], [0.4, 0.6], [0.8, 0.2], [1.0, 0.0]]
    models = [Toy(), Toy()]
    settings = [
        {"preferences_per_step": 4, "batch_size": 4},
        {"preferences_per_step": 4, "batch_size": 2, "gradient_accumulation_steps": 2},
    ]
    histories = [
        trainer_of(
            model, scalarizer=scalarizer, sampler=Sequence(preferences), steps=8, learning_rate=0.01, **s
        ).train()
        for model, s in zip(models, settings, strict=True)
    ]
    torch.testing.assert_close(parameters(models[1]), parameters(models[0]), atol=1e-5, rtol=1e-5)
    assert (parameters(models[0]) - parameters(Toy())).abs().max() > 0.01
    for expected, accumulated in zip(*histories, strict=True):
        assert accumulated == pytest.approx(expected, rel=1e-3, abs=1e-6)


class Recorder(TrainerCallback):
    def __init__(self, stop_at: int | None = None) -> None:
        self.events: list = []
        self.stop_at = stop_at

    def on_train_begin(self, trainer):
        self.events.append("begin")

    def on_step_end(self, trainer):
        self.events.append(trainer.step)
        if trainer.step == self.stop_at:
            trainer.should_stop = True

    def on_log(self, trainer, entry):
        assert entry == trainer.history[-1]
        self.events.append(f"log {entry['step']}")

    def on_checkpoint(self, trainer, folder):
        assert folder.is_dir()
        self.events.append(f"checkpoint {folder.name}")

    def on_train_end(self, trainer):
        self.events.append("end")


def test_callbacks(tmp_path):
    recorder = Recorder()
    trainer_of(callbacks=[recorder], steps=4, log_every=2, checkpoint_every=3, output_dir=tmp_path).train()
    assert recorder.events[0] == "begin"
    assert recorder.events[-1] == "end"
    assert [event for event in recorder.events if isinstance(event, int)] == [1, 2, 3, 4]
    assert [event for event in recorder.events if str(event).startswith("log")] == ["log 2", "log 4"]
    assert "checkpoint checkpoint-3" in recorder.events
    assert recorder.events.index("checkpoint checkpoint-3") < recorder.events.index(4)
    assert (tmp_path / "checkpoint-3").is_dir()


def test_a_callback_can_stop_the_training():
    recorder = Recorder(stop_at=2)
    trainer = trainer_of(callbacks=[recorder], steps=50)
    trainer.train()
    assert trainer.step == 2
    assert recorder.events[-1] == "end"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_raises_and_nothing_is_updated(bad):
    class Breaking(Distances):
        calls = 0

        def losses(self, model, batch, preferences):
            self.calls += 1
            losses = super().losses(model, batch, preferences)
            return losses * torch.tensor([1.0, bad]) if self.calls == 3 else losses

    model, before = Toy(), []

    class Keep(TrainerCallback):
        def on_step_end(self, trainer):
            before.append(parameters(model).clone())

    trainer = trainer_of(model, objective=Breaking(), callbacks=[Keep()], steps=10, learning_rate=0.01)
    with pytest.raises(FloatingPointError, match="right"):
        trainer.train()
    assert len(before) == 2
    assert torch.equal(parameters(model), before[-1])
    assert trainer.step == 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"sampler": UniformSampler(3)}, "draws preferences over 3 objectives, but there are 2: left, right"),
        ({"model": Toy().requires_grad_(False)}, "Toy has no parameter that requires a gradient: nothing to train"),
        ({"train_data": torch.zeros(0)}, "train_data has no row: give at least one"),
        ({"train_data": torch.zeros(8), "batch_size": 5}, "5 rows .* 2 preference groups: .* preferences_per_step"),
        ({"scalarizer": "no-such-one"}, "unknown scalarizer 'no-such-one': choose one of"),
    ],
    ids=["sampler", "frozen", "no rows", "uneven", "name"],
)
def test_what_cannot_be_trained_raises_when_the_trainer_is_made(parts, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(**parts)


def test_losses_of_another_shape_are_refused():
    class Short(Distances):
        def losses(self, model, batch, preferences):
            return super().losses(model, batch, preferences)[:, 0]

    with pytest.raises(ValueError, match=r"Short\.losses returned shape \(2,\), not \(2, 2\): one row for each pref"):
        trainer_of(objective=Short()).train()


@pytest.mark.parametrize("train_data", [None, torch.linspace(0, 1, 7)], ids=["no data", "data"])
def test_same_seed_same_result(train_data):
    """Whatever the global generators' state before; and another seed gives another result."""
    results = []
    for seed, noise in ((3, 0), (3, 99), (4, 0)):
        torch.manual_seed(noise)
        model = Toy(dropout=0.3)
        trainer = trainer_of(model, train_data=train_data, steps=10, learning_rate=0.01, seed=seed)
        results.append((parameters(model).clone(), trainer.train()))
        results[-1] = (parameters(model).clone(), results[-1][1])
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not torch.equal(results[0][0], results[2][0])


def test_front_is_the_losses_in_evaluation_mode():
    model = Toy(dropout=0.5).train()
    trainer = trainer_of(model, steps=2)
    trainer.train()
    model.train()
    front = trainer.front([[1.0, 0.0], [0.3, 0.7]])
    assert model.training
    preferences = torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    expected = Distances().losses(model.eval(), None, preferences).detach().numpy()
    np.testing.assert_allclose(np.asarray(front.values), expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(front.preferences), preferences.numpy(), atol=1e-7)
    assert tuple(front.names) == ("left", "right")
    assert len(trainer.front(5).values) == 5


@pytest.mark.parametrize(
    ("scalarizer", "text"),
    [
        (Linear(), "Linear()"),
        (Tchebycheff(ideal=[0.0, 0.5]), "Tchebycheff(ideal=[0.0, 0.5]"),
        (MGDA(), "MGDA("),
    ],
)
def test_a_front_carries_what_it_was_trained_with(scalarizer, text):
    """The scalarizer with its options, so that the front can be made again."""
    trainer = trainer_of(scalarizer=scalarizer, steps=2, seed=5)
    trainer.train()
    metadata = trainer.front(3).metadata
    assert metadata["scalarizer"] == repr(scalarizer)
    assert metadata["scalarizer"].startswith(text)
    assert (metadata["seed"], metadata["steps"]) == (5, 2)


def test_a_front_keeps_its_preferences_in_float64():
    front = trainer_of().front([[1 / 3, 2 / 3]])
    assert front.preferences.tolist() == [[1 / 3, 2 / 3]]


def test_looking_at_the_front_does_not_change_the_training():
    class Look(TrainerCallback):
        def on_step_end(self, trainer):
            trainer.front(3)

    models = [Toy(dropout=0.3), Toy(dropout=0.3)]
    for model, callbacks in zip(models, ([], [Look()]), strict=True):
        trainer_of(model, callbacks=callbacks, steps=5, learning_rate=0.01).train()
    assert torch.equal(parameters(models[0]), parameters(models[1]))


def test_trackers_of_accelerate_get_every_entry(tmp_path):
    from accelerate.tracking import GeneralTracker

    class Recorder(GeneralTracker):
        name = "recorder"
        requires_logging_directory = False

        def __init__(self) -> None:
            super().__init__()
            self.settings, self.entries = None, []

        @property
        def tracker(self):
            return self

        def store_init_configuration(self, values):
            self.settings = values

        def log(self, values, step=None, **_):
            self.entries.append((step, values))

    recorder = Recorder()
    trainer = trainer_of(steps=4, log_every=2, trackers=(recorder,), output_dir=tmp_path)
    trainer.train()
    assert [step for step, _ in recorder.entries] == [2, 4]
    for (_, values), entry in zip(recorder.entries, trainer.history, strict=True):
        assert {"loss", "loss/left", "loss/right", "learning_rate", "gradient_norm"} <= set(values)
        assert values["loss/left"] == entry["loss/left"]
    assert recorder.settings["steps"] == "4"


def test_a_checkpoint_does_not_replace_other_files(tmp_path):
    trainer = trainer_of()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="something other than a checkpoint"):
        trainer.save_checkpoint(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    trainer.save_checkpoint(tmp_path / "new")
    trainer.save_checkpoint(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == list(FILES)


# Progress.


@pytest.fixture
def slow_trainer_of(clock):
    """Factory of trainers whose steps take so many seconds each, by tqdm's clock."""

    def make(seconds: float, **parts) -> ParetoTrainer:
        class Slow(Distances):
            def losses(self, model, batch, preferences):
                clock.seconds += seconds
                return super().losses(model, batch, preferences)

        return trainer_of(objective=Slow(), **{"progress": True, **parts})

    return make


def test_a_log_file_gets_lines_with_step_total_losses_and_remaining_time(slow_trainer_of, capsys):
    slow_trainer_of(40.0, steps=6, log_every=2).train()
    lines = capsys.readouterr().err.splitlines()
    number = r"\d+\.\d{4}"
    left = ["3 min", "3 min", "2 min", "1 min", "40 s", "0 s"]
    for step, line in enumerate(lines[:6], start=1):
        minutes, seconds = divmod(40 * step, 60)
        times = rf"0{minutes}:{seconds:02d}, {left[step - 1]} left"
        assert re.fullmatch(rf"training: {step}/6 \[{times}, left={number}, right={number}\]", line), line
    assert lines[6:] == lines[5:6], "at the end the last one stays"


def test_lines_are_half_a_minute_apart(slow_trainer_of, capsys):
    slow_trainer_of(1.0, steps=100, log_every=50).train()
    steps = [int(re.match(r"training: (\d+)/100", line).group(1)) for line in capsys.readouterr().err.splitlines()]
    assert steps == [30, 60, 90, 100]


def test_the_losses_shown_are_those_of_the_last_entry(slow_trainer_of, capsys):
    """Before there is an entry, those of the last step."""
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, trainer):
            line = capsys.readouterr().err.splitlines()[-1]
            seen.append((line, trainer.history[-1] if trainer.history else None))

    trainer = slow_trainer_of(40.0, steps=6, log_every=3, callbacks=[Look()])
    first = Distances().losses(trainer.model, None, trainer.sampler.sample(2)).detach()
    trainer.sampler.seed([trainer.config.seed, 0])
    trainer.train()
    assert [entry is None for _, entry in seen] == [True, True, False, False, False, False]
    left, right = first.mean(dim=0).tolist()
    assert f"left={left:.4f}, right={right:.4f}" in seen[0][0]
    for line, entry in seen[2:]:
        assert f"left={entry['loss/left']:.4f}, right={entry['loss/right']:.4f}" in line


def test_a_short_run_prints_nothing(slow_trainer_of, capsys):
    slow_trainer_of(4.0, steps=7).train()
    assert capsys.readouterr().err == ""


def test_without_progress_a_training_is_silent(slow_trainer_of, capsys):
    slow_trainer_of(40.0, progress=False).train()
    assert capsys.readouterr() == ("", "")


def test_a_resumed_run_counts_on(slow_trainer_of, capsys, tmp_path):
    slow_trainer_of(40.0, steps=6, checkpoint_every=4, output_dir=tmp_path, progress=False).train()
    slow_trainer_of(40.0, steps=6).train(resume_from=tmp_path / "checkpoint-4")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training: 5/6 [00:40, 40 s left, left=")
    assert lines[1].startswith("training: 6/6 [01:20, 0 s left, left=")
