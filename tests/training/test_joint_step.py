"""Several forwards of a step are one larger forward: losses, gradients, tracked points and what is refused."""

import pytest
import torch
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.gradients import MGDA
from mopref.objective import Losses, Objective, RowLosses, RowObjective, Update
from mopref.objectives import DPO, SFT, Quadratic
from mopref.sampler import PreferenceSampler
from mopref.scalarizers import Linear, Normalized, Tchebycheff
from mopref.training.joint_step import needs_joint_step
from mopref.training.shares import Layout


class Fixed(PreferenceSampler):
    """Gives these preferences in turn, however they are asked for."""

    def __init__(self, rows) -> None:
        self.rows, self.place = torch.tensor(rows), 0
        super().__init__(2)

    def seed(self, seed) -> None:
        super().seed(seed)
        self.place = 0

    def draw(self, n, generator):
        drawn = [self.rows[(self.place + i) % len(self.rows)].tolist() for i in range(n)]
        self.place += n
        return torch.tensor(drawn).numpy()

    def observe(self, preferences, losses, scalarizer):
        self.seen = [*getattr(self, "seen", []), (preferences.clone(), losses.clone())]


class Fit(RowObjective):
    """Distances of a small network's outputs to rows; each row may be labelled on some objectives only."""

    names = ("left", "right")

    def __init__(self, labels=None) -> None:
        self.labels, self.calls = labels, 0

    def labelled(self, data):
        return None if self.labels is None else self.labels[: len(data)]

    def num_rows(self, batch):
        return len(batch)

    def row_losses(self, model, batch, preferences):
        self.calls += 1
        outputs = model(torch.cat([batch[:, :2], preferences], dim=1))
        values = torch.stack([(outputs - batch[:, 1:3]).square().sum(1), (outputs + 1).square().sum(1)], dim=1)
        places = batch[:, 0].long()
        labelled = torch.ones_like(values) > 0 if self.labels is None else self.labels[places]
        return RowLosses(values * (1 + batch[:, :1] / 10), labelled)


LABELS = (
    torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [0, 1], [1, 0], [1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [0, 1]]) > 0
)
ROWS = torch.cat([torch.arange(12.0).unsqueeze(1), torch.sin(torch.arange(36.0)).view(12, 3)], dim=1)


def network(dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2)).double()


def train(forwards, scalarizer, objective=None, model=None, rows=ROWS, preferences=1, whole=8, steps=6, **settings):
    """A run of steps of ``whole`` rows in so many forwards; what it came to."""
    model, objective = model or network(), objective or Fit()
    sampler = Fixed([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    config = TrainerConfig(
        steps=steps,
        batch_size=whole // forwards,
        preferences_per_step=preferences,
        gradient_accumulation_steps=forwards,
        learning_rate=0.01,
        log_every=1,
        progress=False,
        cpu=True,
        **settings,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        trainer = ParetoTrainer(model, objective, scalarizer, sampler, rows, config)
        trainer.train()
    finally:
        torch.set_default_dtype(before)
    return trainer


def parameters(trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.unwrapped_model.parameters() if p.requires_grad])


SCALARIZERS = {
    "linear": Linear,
    "tchebycheff given": lambda: Tchebycheff(ideal=[0, 0]),
    "tchebycheff tracked": Tchebycheff,
    "normalized tracked": lambda: Normalized(Tchebycheff()),
}


@pytest.mark.parametrize("labels", [None, LABELS], ids=["all labelled", "partly labelled"])
@pytest.mark.parametrize("preferences", [1, 2, 4])
@pytest.mark.parametrize("scalarizer", SCALARIZERS.values(), ids=SCALARIZERS)
def test_forwards_of_a_step_equal_one_larger_forward(scalarizer, preferences, labels):
    if labels is not None and preferences == 4:
        pytest.skip("two rows for each preference hold both objectives only where all are labelled")
    runs = [train(n, scalarizer(), Fit(labels), preferences=preferences) for n in (1, 2, 4)]
    assert (parameters(runs[0]) - torch.cat([p.detach().flatten() for p in network().parameters()])).abs().max() > 0.01
    for run in runs[1:]:
        torch.testing.assert_close(parameters(run), parameters(runs[0]), atol=1e-9, rtol=1e-9)
        for entry, expected in zip(run.history, runs[0].history, strict=True):
            assert entry == pytest.approx(expected, rel=1e-6)
    points = [run.scalarizer.state_dict() for run in runs]
    if points[0].get("lowest") is not None:
        torch.testing.assert_close(points[1], points[0])


def test_a_mean_of_means_would_be_another_run():
    """The number of labelled rows counts: with a label in one half alone that half gives the loss."""
    labels = LABELS.clone()
    labels[:, 1] = False
    labels[3, 1] = True
    runs = [train(n, Linear(), Fit(labels), whole=12, steps=3) for n in (1, 2, 3)]
    for run in runs[1:]:
        torch.testing.assert_close(parameters(run), parameters(runs[0]), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("scalarizer", "calls"), [(Linear(), 2), (Tchebycheff(ideal=[0, 0]), 4), (Tchebycheff(), 4)])
def test_a_weighted_sum_needs_no_first_pass(scalarizer, calls):
    objective = Fit(LABELS)
    train(2, scalarizer, objective, steps=3)
    assert objective.calls == 3 * calls


def test_whole_preferences_of_a_forward_need_no_first_pass_unless_a_point_is_tracked():
    for scalarizer, calls in ((Tchebycheff(ideal=[0, 0]), 2), (Tchebycheff(), 4)):
        objective = Fit()
        train(2, scalarizer, objective, preferences=2, steps=3)
        assert objective.calls == 3 * calls


def test_an_objective_that_counts_in_another_way_than_its_labels_is_believed():
    class Doubled(Fit):
        def training_losses(self, model, batch, preferences):
            losses = super().training_losses(model, batch, preferences)
            return losses._replace(weights=losses.weights * (1 + batch[:, 0].sum()))

    runs = [train(2, scalarizer(), Doubled(), steps=4) for scalarizer in (Linear, lambda: NotQuiteLinear())]
    torch.testing.assert_close(parameters(runs[1]), parameters(runs[0]))


class NotQuiteLinear(Linear):
    """The same formula, of which the trainer cannot know that."""

    def scalarize(self, losses, preferences):
        return super().scalarize(losses, preferences)


def test_both_passes_draw_the_same_random_numbers():
    """Dropout is the same in both, and nothing is drawn twice: a weighted sum gives the same with and without."""
    runs = [train(2, scalarizer, model=network(dropout=0.5)) for scalarizer in (Linear(), NotQuiteLinear())]
    torch.testing.assert_close(parameters(runs[1]), parameters(runs[0]), atol=1e-12, rtol=1e-12)


def test_samplers_and_metrics_see_each_step_once():
    trainer = train(2, Tchebycheff(), preferences=2, steps=3)
    assert [len(preferences) for preferences, _ in trainer.sampler.seen] == [2, 2, 2]
    trainer = train(4, Tchebycheff(), preferences=2, steps=3)
    assert [len(preferences) for preferences, _ in trainer.sampler.seen] == [2, 2, 2]


def test_auxiliary_losses_are_averaged_over_the_forwards():
    class Helped(Fit):
        def training_losses(self, model, batch, preferences):
            losses = super().training_losses(model, batch, preferences)
            penalty = torch.cat([p.flatten() for p in model.parameters()]).square().sum() * batch[:, 0].mean()
            return losses._replace(auxiliary=penalty)

    runs = [train(n, Tchebycheff(ideal=[0, 0]), Helped(), steps=3) for n in (1, 2)]
    torch.testing.assert_close(parameters(runs[1]), parameters(runs[0]), atol=1e-9, rtol=1e-9)


def test_a_step_without_any_label_is_refused():
    class Blind(Fit):
        def row_losses(self, model, batch, preferences):
            losses = super().row_losses(model, batch, preferences)
            return losses._replace(labelled=losses.labelled & torch.tensor([True, False]))

    for forwards in (1, 2):
        for scalarizer in (Linear(), Tchebycheff()):
            with pytest.raises(ValueError, match="group 0 has no row labelled on 'right', so that loss has no value"):
                train(forwards, scalarizer, Blind(), steps=1)


def test_a_loss_that_is_not_finite_is_told_with_its_own_rows():
    class Faulty(Fit):
        def row_losses(self, model, batch, preferences):
            losses = super().row_losses(model, batch, preferences)
            return losses._replace(values=torch.where(batch[:, :1] == 7, torch.nan, losses.values))

    with pytest.raises(
        FloatingPointError, match=r"'left' is nan at step 0 for preference .*\b7\b.* Nothing was updated"
    ):
        train(3, Tchebycheff(), Faulty(), whole=12, steps=1)


def test_other_preferences_than_given_are_refused():
    class Own(Fit):
        def updates(self, model, batch, preferences):
            return [Update(batch, (preferences + batch[0, 0].abs()) / (preferences + batch[0, 0].abs()).sum())]

    with pytest.raises(ValueError, match=r"Own\.updates returned other preferences in some forwards"):
        train(2, Tchebycheff(), Own(), steps=1)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (torch.ones(3), ValueError, "weights of shape"),
        ([[1.0, 1.0]], TypeError, "weights of type list"),
        (torch.tensor([[1.0, -1.0]]), ValueError, "negative or not finite"),
    ],
)
@pytest.mark.parametrize("forwards", [1, 2])
def test_weights_that_cannot_be_are_refused(weights, error, message, forwards):
    class Odd(Fit):
        def training_losses(self, model, batch, preferences):
            return super().training_losses(model, batch, preferences)._replace(weights=weights)

    with pytest.raises(error, match=message):
        train(forwards, Tchebycheff(), Odd(), steps=1)


def test_a_gradient_weighting_needs_whole_losses():
    with pytest.raises(ValueError, match=r"MGDA weighs losses by their gradients, but .* preferences_per_step a mul"):
        train(2, MGDA(), preferences=1)
    runs = [train(n, MGDA(), preferences=2, steps=3) for n in (1, 2)]
    torch.testing.assert_close(parameters(runs[1]), parameters(runs[0]), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("layout", "scalarizer", "needed"),
    [
        (Layout(1, 0, 1, 4, 4), Tchebycheff(), False),
        (Layout(1, 0, 2, 4, 4), Tchebycheff(ideal=[0, 0]), False),
        (Layout(1, 0, 2, 4, 4), Tchebycheff(), True),
        (Layout(2, 0, 1, 4, 4), Normalized(Linear()), True),
        (Layout(2, 0, 1, 4, 4), Normalized(Linear(), ideal=[0, 0], nadir=[1, 1]), False),
        (Layout(2, 0, 1, 3, 3), Linear(), True),
    ],
)
def test_where_a_joint_step_is_needed(layout, scalarizer, needed):
    assert needs_joint_step(layout, scalarizer) is needed


def test_a_problem_without_rows_shares_its_preferences():
    class Ray(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(2, 2).double()
            nn.init.constant_(self.body.weight, 0.1)
            nn.init.zeros_(self.body.bias)

        def forward(self, preferences):
            return torch.sigmoid(self.body(preferences))

    problem = Quadratic([[0.0, 0.0], [1.0, 1.0]])
    runs = [train(n, Tchebycheff(), problem, Ray(), rows=None, preferences=4) for n in (1, 2, 4)]
    for run in runs[1:]:
        torch.testing.assert_close(parameters(run), parameters(runs[0]), atol=1e-9, rtol=1e-9)


def pairs(count: int, labels) -> list[dict]:
    generator = torch.Generator().manual_seed(0)

    def draw(n):
        return torch.randint(3, 100, (n,), generator=generator).tolist()

    return [
        {"prompt_ids": draw(2), "response_0_ids": draw(2 + i % 3), "response_1_ids": draw(3), "labels": labels[i % 4]}
        for i in range(count)
    ]


@pytest.mark.parametrize("scalarizer", SCALARIZERS.values(), ids=SCALARIZERS)
@pytest.mark.parametrize("kind", ["dpo", "sft"])
def test_language_models_too(kind, scalarizer, make_llama, randomise):
    rows = pairs(8, [[0, 1], [1, -1], [-1, 0], [1, 1]])
    objective: Objective = DPO(("a", "b"))
    if kind == "sft":
        objective = SFT(("a", "b"))
        rows = [
            {
                "prompt_ids": row["prompt_ids"],
                "response_ids": row["response_0_ids"],
                "dimensions": [label >= 0 for label in row["labels"]],
            }
            for row in rows
        ]
    runs = []
    for forwards in (1, 2):
        torch.set_default_dtype(torch.float64)
        base = make_llama()
        torch.set_default_dtype(torch.float32)
        config = SVDLoRAConfig(objectives=("a", "b"), rank=2, preference_rank=1)
        model = randomise(PreferenceModel(base.double(), config), std=0.1)
        runs.append(train(forwards, scalarizer(), objective, model, rows, steps=3))
    torch.testing.assert_close(parameters(runs[1]), parameters(runs[0]), atol=1e-9, rtol=1e-9)


def test_losses_say_what_they_count():
    losses = Fit(LABELS).training_losses(network(), ROWS[:4].double(), torch.eye(2).double())
    assert isinstance(losses, Losses)
    assert losses.weights.tolist() == [[2, 1], [1, 2]]
    means = Fit(LABELS).losses(network(), ROWS[:4].double(), torch.eye(2).double())
    assert torch.equal(losses.values, means)


def test_a_first_pass_leaves_no_trace_in_running_statistics():
    def body():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)).double()

    runs = [train(2, scalarizer, model=body()) for scalarizer in (Linear(), NotQuiteLinear())]
    assert runs[0].unwrapped_model[1].num_batches_tracked == runs[1].unwrapped_model[1].num_batches_tracked == 12
    torch.testing.assert_close(runs[1].unwrapped_model[1].running_mean, runs[0].unwrapped_model[1].running_mean)
