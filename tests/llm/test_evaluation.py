"""Held-out fronts: accuracies by hand, losses equal to the objective's own, rewards with what belongs beside them."""

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.evaluation import preference_accuracies, preference_front, reward_front
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO


def test_accuracies_by_hand():
    margins = torch.tensor([[1.0, -2.0, 3.0, 0.0], [-1.0, -2.0, 3.0, 5.0]])
    labels = torch.tensor([[0, 1], [0, -1], [1, -1], [0, -1]])
    expected = torch.tensor([[(1 + 0 + 0 + 0.5) / 4, 0.0], [(0 + 0 + 0 + 1) / 4, 1.0]])
    assert torch.equal(preference_accuracies(margins, labels), expected)


def test_without_a_label_there_is_no_accuracy():
    values = preference_accuracies(torch.tensor([[1.0, -2.0]]), torch.tensor([[0, -1], [1, -1]]))
    assert values[0, 0] == 1.0
    assert values[0, 1].isnan()


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


def test_bad_labels_and_columns(make_llama, rows):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b")))
    middle = torch.tensor([[0.5, 0.5]])
    bad = [*rows, {**rows[0], "labels": [0, 3]}]
    with pytest.raises(ValueError, match=r"row 7 has labels \[0, 3\]"):
        preference_front(model, DPO(("a", "b")), bad, middle)
    front = preference_front(
        model, DPO(("a", "b")), rows, middle, metadata={"seed": 4}, extra={"mean_response_length": [12.0]}
    )
    assert front.metadata["seed"] == 4
    assert front.extra["mean_response_length"] == [12.0]


# Rewards.

PREFERENCES = torch.tensor([[0.8, 0.2], [0.1, 0.9]])
PROMPTS = [{"prompt_ids": ids} for ids in ([41, 42], [50], [60, 61, 62], [70, 71])]


@pytest.fixture
def settings():
    length = token_reward(lambda prompt_ids, response_ids: [float(len(ids)) for ids in response_ids])
    even = token_reward(lambda prompt_ids, response_ids: [sum(t % 2 == 0 for t in ids) / 4 for ids in response_ids])
    sampling = Sampling(max_new_tokens=4, stop_token_ids=tuple(range(3, 40)))
    return RolloutSettings({"length": length, "even": even}, sampling, samples_per_prompt=3)


@pytest.fixture
def model(make_llama, randomise):
    return randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even"), rank=2)), std=0.15)


def test_reward_front_is_maximised_and_says_lengths(model, settings):
    front = reward_front(model, settings, PROMPTS, PREFERENCES, metadata={"seed": 3})
    assert front.maximize
    assert front.names == ("length", "even")
    assert front.values.shape == (2, 2)
    assert front.metadata["seed"] == 3
    columns = {"kl", "mean_response_length", "truncated", "standard_error_length", "standard_error_even"}
    assert columns <= set(front.to_frame().columns)
    without = reward_front(model, settings, PROMPTS, PREFERENCES, with_kl=False)
    assert "kl" not in without.to_frame().columns


def test_reward_front_holds_the_statistics(model, settings):
    options = {"samples_per_prompt": 2, "seed": 5}
    front = reward_front(model, settings, PROMPTS, PREFERENCES, 3, **options)
    statistics = evaluate_rewards(model, settings, PROMPTS, PREFERENCES, 3, **options)
    assert front.values.tolist() == statistics.rewards.tolist()
    assert list(front.extra["kl"]) == statistics.kl.tolist()
    assert list(front.extra["mean_response_length"]) == statistics.lengths.tolist()
    assert list(front.extra["truncated"]) == statistics.truncated.tolist()
    for i, name in enumerate(settings.names):
        assert list(front.extra[f"standard_error_{name}"]) == statistics.standard_errors[:, i].tolist()


def test_options_come_by_name(model, settings):
    with pytest.raises(TypeError, match="samples"):
        reward_front(model, settings, PROMPTS, PREFERENCES, samples=2)
    with pytest.raises(TypeError, match="positional"):
        evaluate_rewards(model, settings, PROMPTS, PREFERENCES, 3, 2)
