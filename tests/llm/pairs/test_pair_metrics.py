"""Metrics of pairs: against a loop over rows, and in the log of a training, where the forward is shared."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.pairs.pair_metrics import pair_metrics
from mopref.objectives import DPO, ORPO, SimPO
from mopref.scalarizers import Linear

NAMES = ("a", "b")
COLUMNS = ("reward_chosen", "reward_rejected", "margin", "accuracy")


def in_words(rewards: list[tuple[float, float]], labels: list[int]) -> dict[str, float] | None:
    """The means over the labelled pairs of one objective, pair by pair; ``None`` where there is none."""
    pairs = [(pair[label], pair[1 - label]) for pair, label in zip(rewards, labels, strict=True) if label >= 0]
    if not pairs:
        return None
    correct = [1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0 for chosen, rejected in pairs]
    chosen, rejected = (math.fsum(pair[k] for pair in pairs) / len(pairs) for k in (0, 1))
    return dict(zip(COLUMNS, (chosen, rejected, chosen - rejected, sum(correct) / len(pairs)), strict=True))


number = st.integers(-40, 40).map(lambda value: value / 8)
pair = st.tuples(number, number)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(pair, st.sampled_from([-1, 0, 1]), st.sampled_from([-1, 0, 1])), min_size=1, max_size=8))
def test_metrics_are_the_means_over_labelled_pairs(rows):
    rewards, labels = [row[0] for row in rows], [list(row[1:]) for row in rows]
    metrics = pair_metrics(NAMES, torch.tensor(rewards), torch.tensor(labels))
    assert set(metrics) == {f"{column}/{name}" for column in COLUMNS for name in NAMES}
    for index, name in enumerate(NAMES):
        column = [row[index] for row in labels]
        expected = in_words(rewards, column)
        for key in COLUMNS:
            metric = metrics[f"{key}/{name}"]
            assert float(metric.weight) == sum(label >= 0 for label in column)
            if expected is not None:
                assert float(metric.value) == pytest.approx(expected[key], abs=1e-6)


def test_rewards_of_unlabelled_pairs_may_be_anything():
    rewards = torch.tensor([[2.0, 1.0], [math.nan, math.inf]], requires_grad=True)
    metrics = pair_metrics(["a"], rewards, torch.tensor([[0], [-1]]))
    assert float(metrics["margin/a"].value) == 1.0
    assert not metrics["margin/a"].value.requires_grad


@pytest.fixture
def model(make_llama, randomise) -> PreferenceModel:
    return randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=NAMES, rank=2, layers=[1])))


def trainer_of(model, objective, rows, **settings) -> ParetoTrainer:
    options = {"steps": 1, "learning_rate": 1e-12, "log_every": 1, "progress": False, "cpu": True, **settings}
    return ParetoTrainer(model, objective, Linear(), train_data=rows, config=TrainerConfig(**options))


@pytest.mark.parametrize(
    ("objective", "scale"), [(DPO(NAMES, beta=0.3), 0.3), (SimPO(NAMES, beta=1.5), 1.5), (ORPO(NAMES), 1.0)], ids=str
)
def test_a_training_logs_what_its_scores_say(objective, scale, model, make_pairs):
    rows = make_pairs([[0, 1], [1, -1], [-1, 0], [1, 1]])
    trainer = trainer_of(model, objective, rows, batch_size=4, preferences_per_step=1)
    preference = trainer.sampler.sample(1)
    trainer.sampler.seed([0, 0])
    trainer.train()
    scores = objective.all_scores(model, rows, preference, batch_size=4)[0]
    for index, name in enumerate(NAMES):
        labels = [row["labels"][index] for row in rows]
        expected = in_words((scale * scores).tolist(), labels)
        for key in COLUMNS:
            assert trainer.history[-1][f"{key}/{name}"] == pytest.approx(expected[key], abs=1e-5), key


def test_one_forward_gives_losses_and_metrics(model, make_pairs):
    rows, forwards, objective, preferences = make_pairs([[0, 1], [1, 0]]), [], SimPO(NAMES), torch.tensor([[0.5, 0.5]])
    # The first use of a model tries it out.
    objective.losses(model, objective.collate(rows), preferences)
    hook = model.base_model.register_forward_hook(lambda *_: forwards.append(1))
    losses = objective.training_losses(model, objective.collate(rows), preferences)
    hook.remove()
    assert len(forwards) == 1
    assert losses.values.requires_grad
    assert losses.metrics


class Doubled(DPO):
    """Another loss of each row than DPO's."""

    def row_losses(self, model, batch, preferences):
        losses = super().row_losses(model, batch, preferences)
        return losses._replace(values=2 * losses.values)


class Shifted(DPO):
    """Another loss of each group than DPO's."""

    def losses(self, model, batch, preferences):
        return super().losses(model, batch, preferences) + 1


@pytest.mark.parametrize(("kind", "expected"), [(Doubled, lambda x: 2 * x), (Shifted, lambda x: x + 1)])
def test_losses_defined_anew_are_what_is_trained_on(kind, expected, model, make_pairs):
    rows, preferences = make_pairs([[0, 1], [1, 0]]), torch.tensor([[0.5, 0.5]])
    plain, own = DPO(NAMES), kind(NAMES)
    batch = plain.collate(rows)
    trained = own.training_losses(model, batch, preferences)
    assert torch.allclose(trained.values, expected(plain.losses(model, batch, preferences)))
    assert not trained.metrics


def test_a_resumed_run_logs_the_same(model, make_pairs, make_llama, randomise, tmp_path):
    rows = make_pairs([[0, 1], [1, 0], [0, 0], [1, -1]] * 2)
    settings = {"steps": 4, "batch_size": 4, "preferences_per_step": 2, "log_every": 3, "learning_rate": 1e-2}
    first = trainer_of(model, DPO(NAMES), rows, **settings, output_dir=tmp_path, checkpoint_every=2)
    first.train()
    again = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=NAMES, rank=2, layers=[1])))
    second = trainer_of(again, DPO(NAMES), rows, **settings, output_dir=tmp_path / "again")
    second.train(resume_from=tmp_path / "checkpoint-2")
    assert second.history == first.history
    assert "accuracy/a" in first.history[0]
