"""Held-out fronts: accuracies by hand, losses equal to the objective's own, rewards with what belongs beside them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.indicators import hypervolume
from mopref.llm.evaluation import (
    answer_accuracies,
    answer_front,
    preference_accuracies,
    preference_front,
    reward_front,
)
from mopref.llm.policy import Sampling
from mopref.llm.policy.forward_traits import forward_traits
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards, reward_table
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, KTO


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
    figures = {f"{kind}_{name}" for kind in ("accuracy", "margin") for name in "ab"}
    assert set(front.intervals) == {"a", "b", *figures}
    assert set(front.extra) == figures | {f"{name}_{bound}" for name in front.intervals for bound in ("low", "high")}
    plain = preference_front(model, objective, rows, preferences, batch_size=3, interval_level=None)
    assert set(plain.extra) == figures
    assert "interval_level" not in plain.metadata
    assert (plain.values == front.values).all()


def test_accuracies_come_from_the_same_margins(make_llama, randomise, rows):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))))
    objective = DPO(("a", "b"))
    front = preference_front(model, objective, rows, torch.tensor([[0.5, 0.5]]))
    with torch.no_grad():
        margins = objective.margins(model, objective.collate(rows), torch.tensor([[0.5, 0.5]]).expand(len(rows), -1))
    on_a = [(row["labels"][0], margin) for row, margin in zip(rows, margins.tolist(), strict=True)]
    correct = [(margin > 0) == (label == 0) for label, margin in on_a if label >= 0]
    assert front.extra["accuracy_a"][0] == pytest.approx(sum(correct) / len(correct))
    signed = [objective.beta * margin * (1 if label == 0 else -1) for label, margin in on_a if label >= 0]
    assert front.extra["margin_a"][0] == pytest.approx(sum(signed) / len(signed), abs=1e-6)


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


def test_a_pull_is_maximised_as_minus_kl(make_llama, randomise, settings):
    """One objective more, in nats, with its interval and its error; rewards and hypervolume are of all three."""
    settings = replace(settings, pull="close")
    config = SVDLoRAConfig(objectives=("length", "even", "close"), rank=2)
    model = randomise(PreferenceModel(make_llama(), config), std=0.15)
    preferences, options = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), {"samples_per_prompt": 2, "seed": 5}
    front = reward_front(model, settings, PROMPTS, preferences, reference_point=[-1, -1, -20], **options)
    assert front.names == ("length", "even", "close")
    assert front.maximize
    statistics = evaluate_rewards(model, settings, PROMPTS, preferences, **options)
    assert front.values[:, :2].tolist() == statistics.rewards.tolist()
    assert front.values[:, 2].tolist() == (-statistics.kl).tolist()
    assert statistics.kl.min() > 0.01
    assert list(front.extra["kl"]) == statistics.kl.tolist()
    by_prompt = reward_table(model, settings, PROMPTS, preferences, **options)[..., 2]
    expected = (by_prompt.std(dim=1) / 2).tolist()
    assert list(front.extra["standard_error_close"]) == pytest.approx(expected)
    low, high = front.intervals["close"].T
    assert ((low <= front.values[:, 2]) & (front.values[:, 2] <= high)).all()
    volume = hypervolume(front.values, [-1, -1, -20], maximize=True)
    low, high = front.metadata["hypervolume_interval"]
    assert low <= volume <= high
    with pytest.raises(ValueError, match="with_kl is False, but the objective 'close' is −KL: leave with_kl out"):
        reward_front(model, settings, PROMPTS, preferences, with_kl=False)


def test_options_come_by_name(model, settings):
    with pytest.raises(TypeError, match="samples"):
        reward_front(model, settings, PROMPTS, PREFERENCES, samples=2)
    with pytest.raises(TypeError, match="positional"):
        evaluate_rewards(model, settings, PROMPTS, PREFERENCES, 3, 2)


# What a front is asked for is checked before the model is run, and its precision is said.

PAIRS_OF_PREFERENCES = [[0.1, 0.9], [0.3, 0.7]]


@pytest.fixture
def pair_model(make_llama, randomise):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))))
    forward_traits(model)  # Tried once a model, on a few tokens.
    return model


@pytest.fixture
def forwards(pair_model) -> list:
    """Grows with every forward of the model."""
    calls = []
    pair_model.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@pytest.fixture(params=["preference_front", "reward_front"])
def front_of(request, pair_model, rows):
    """Either front as a function of its preferences, with options and other parts where they are wanted."""
    settings = RolloutSettings(
        {
            "a": token_reward(lambda prompts, responses: [len(ids) for ids in responses]),
            "b": token_reward(lambda prompts, responses: [sum(ids) / 100 for ids in responses]),
        },
        Sampling(max_new_tokens=2, stop_token_ids=()),
        samples_per_prompt=1,
    )
    reversed_settings = RolloutSettings(
        dict(reversed(settings.reward_functions.items())), settings.sampling, samples_per_prompt=1
    )

    def make(preferences, data=None, reversed_names=False, **options):
        data = rows if data is None else data
        if request.param == "preference_front":
            names = ("b", "a") if reversed_names else ("a", "b")
            return preference_front(pair_model, DPO(names), data, preferences, **options)
        return reward_front(pair_model, reversed_settings if reversed_names else settings, data, preferences, **options)

    return make


@pytest.mark.parametrize(
    "preferences",
    [
        PAIRS_OF_PREFERENCES,
        np.array(PAIRS_OF_PREFERENCES, dtype=np.float16),
        torch.tensor(PAIRS_OF_PREFERENCES, dtype=torch.float16),
        torch.tensor(PAIRS_OF_PREFERENCES, dtype=torch.bfloat16),
        torch.tensor(PAIRS_OF_PREFERENCES, dtype=torch.float64),
        [{"b": 0.9, "a": 0.1}, {"a": 0.3, "b": 0.7}],
    ],
    ids=["lists", "float16 array", "float16", "bfloat16", "float64", "by name"],
)
def test_preferences_of_every_kind(front_of, preferences):
    front = front_of(preferences)
    np.testing.assert_allclose(front.preferences, PAIRS_OF_PREFERENCES, atol=5e-3)
    np.testing.assert_allclose(front.values, front_of(PAIRS_OF_PREFERENCES).values, atol=1.0)


def test_a_single_preference_is_a_front_of_one_point(front_of):
    assert front_of([0.25, 0.75]).preferences.tolist() == [[0.25, 0.75]]
    assert front_of({"b": 0.75, "a": 0.25}).preferences.tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preferences": [[0.5, 0.6]]}, ValueError, "sums to 1.1, not 1"),
        ({"preferences": "a"}, ValueError, "preferences is no rectangular array"),
        ({"preferences": {"a": 1.0}}, ValueError, "no weight for b"),
        ({"reversed_names": True}, ValueError, "the same in another order"),
        ({"data": [{"prompt": "A secret."}]}, ValueError, "row 0 has prompt, but no prompt_ids"),
        ({"data": iter([{}])}, TypeError, "data is a list_iterator, whose rows cannot be had by their number"),
        ({"data": []}, ValueError, "row|nothing to evaluate on"),
        ({"mixed_precision": "fp8"}, ValueError, "mixed_precision is 'fp8'"),
    ],
    ids=lambda value: str(value).split(" object at ")[0],
)
def test_what_is_wrong_is_refused_before_the_model_is_run(front_of, forwards, options, error, message):
    with pytest.raises(error, match=message) as refusal:
        front_of(**{"preferences": PAIRS_OF_PREFERENCES} | options)
    assert not forwards
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("mixed_precision", "name"), [(None, "float32"), ("bf16", "bf16")])
def test_the_metadata_say_the_precision_that_was_in_force(front_of, pair_model, mixed_precision, name):
    dtypes = []
    layer = pair_model.base_model.model.layers[0].self_attn.q_proj
    layer.register_forward_hook(lambda module, arguments, output: dtypes.append(output.dtype))
    front = front_of(PAIRS_OF_PREFERENCES, mixed_precision=mixed_precision, metadata={"model": "tiny"})
    assert front.metadata == {"precision": name, "model": "tiny", "interval_level": 0.9}
    assert set(dtypes) == {torch.bfloat16 if name == "bf16" else torch.float32}


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_a_preference_front_is_in_the_precision_of_its_references(make_llama, rows, mixed_precision):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b")))
    rows = DPO(("a", "b")).precompute(model, rows, mixed_precision=mixed_precision)
    front = preference_front(model, DPO(("a", "b")), rows, torch.eye(2))
    np.testing.assert_allclose(front.values, np.log(2), atol=1e-5)
    other = None if mixed_precision else "bf16"
    with pytest.raises(ValueError, match="row 0 has a reference that was computed in"):
        preference_front(model, DPO(("a", "b")), rows, torch.eye(2), mixed_precision=other)


def test_rows_without_a_label_on_an_objective_are_refused_first(pair_model, rows, forwards):
    for row in rows:
        row["labels"] = [0, -1]
    with pytest.raises(ValueError, match="no row is labelled on 'b'"):
        preference_front(pair_model, DPO(("a", "b")), rows, PAIRS_OF_PREFERENCES)
    assert not forwards


# Single answers, good or bad.

ANSWER_LABELS = [[1, 0], [0, 1], [1, -1], [-1, 0], [0, 0], [1, 1]]


@pytest.fixture
def answers() -> list[dict]:
    generator = torch.Generator().manual_seed(2)

    def draw(count: int) -> list[int]:
        return torch.randint(3, 100, (count,), generator=generator).tolist()

    return [
        {
            "prompt_ids": draw(3),
            "response_ids": draw(2 + index % 3),
            "mismatched_response_ids": draw(2),
            "labels": labels,
        }
        for index, labels in enumerate(ANSWER_LABELS)
    ]


def test_accuracies_of_answers_by_hand():
    surplus = torch.tensor([[1.0, -2.0, 3.0, 0.0], [-1.0, -2.0, 3.0, 5.0]])
    labels = torch.tensor([[1, 0], [1, -1], [0, -1], [1, -1]])
    expected = torch.tensor([[(1 + 0 + 0 + 0.5) / 4, 0.0], [(0 + 0 + 0 + 1) / 4, 1.0]])
    assert torch.equal(answer_accuracies(surplus, labels), expected)
    assert answer_accuracies(surplus, torch.full_like(labels, -1)).isnan().all()


def test_an_answer_front_is_of_the_objectives_losses_and_of_signs_by_hand(pair_model, answers):
    objective = KTO(("a", "b"), beta=0.3, desirable_weight=1.5)
    # Far enough from 0 that the reference point is above it at one of the preferences.
    preferences = torch.tensor([[1.0, 0.0], [0.4, 0.6]])
    front = answer_front(pair_model, objective, answers, preferences, batch_size=4, metadata={"seed": 4})
    expected = objective.mean_losses(pair_model.eval(), answers, preferences, 6)
    np.testing.assert_allclose(front.values, expected.numpy(), rtol=1e-5)
    assert front.metadata == {"precision": "float32", "seed": 4, "interval_level": 0.9}
    for place, preference in enumerate(preferences):
        with torch.no_grad():
            ratios = objective.log_ratios(pair_model, objective.collate(answers), preference.expand(6, -1))
        point = max(0.0, ratios[:, 1].mean().item())
        for column, name in enumerate(("a", "b")):
            right = [
                (ratio > point) == (labels[column] == 1)
                for ratio, labels in zip(ratios[:, 0].tolist(), ANSWER_LABELS, strict=True)
                if labels[column] >= 0
            ]
            assert front.extra[f"accuracy_{name}"][place] == pytest.approx(sum(right) / len(right))


def test_answers_are_told_by_the_reference_point_and_not_by_zero(pair_model, answers, monkeypatch):
    """z is 1 at the first preference, and 0 at the second, where the mean of the mismatches is below."""
    own = torch.tensor([2.0, 0.5, 1.0, -1.0, 0.5, 3.0], dtype=torch.float64)
    ratios = torch.stack([torch.stack([own, torch.full_like(own, level)], dim=-1) for level in (1.0, -4.0)])
    monkeypatch.setattr(KTO, "all_log_ratios", lambda *arguments, **options: ratios)
    front = answer_front(pair_model, KTO(("a", "b")), answers, torch.eye(2))
    # Labels on a: 1, 0, 1, -, 0, 1; on b: 0, 1, -, 0, 0, 1.
    assert front.extra["accuracy_a"].tolist() == [4.5 / 5, 3 / 5]
    assert front.extra["accuracy_b"].tolist() == [3 / 5, 3 / 5]


def test_too_few_answers_are_refused_before_the_model_is_run(pair_model, answers, forwards):
    with pytest.raises(ValueError, match=r"a preference has 3 rows, too few .+ by more data"):
        answer_front(pair_model, KTO(("a", "b")), answers[:3], PAIRS_OF_PREFERENCES)
    for row in answers:
        row["labels"] = [0, -1]
    with pytest.raises(ValueError, match="no row is labelled on 'b'"):
        answer_front(pair_model, KTO(("a", "b")), answers, PAIRS_OF_PREFERENCES)
    assert not forwards


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_an_answer_front_is_in_the_precision_of_its_references(pair_model, answers, mixed_precision):
    rows = KTO(("a", "b")).precompute(pair_model, answers, mixed_precision=mixed_precision)
    front = answer_front(pair_model, KTO(("a", "b")), rows, torch.eye(2))
    assert front.metadata["precision"] == ("float32" if mixed_precision is None else "bf16")
    other = None if mixed_precision else "bf16"
    with pytest.raises(ValueError, match="row 0 has a reference that was computed in"):
        answer_front(pair_model, KTO(("a", "b")), rows, torch.eye(2), mixed_precision=other)
