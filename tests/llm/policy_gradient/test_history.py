"""Records of rollouts: means by hand, for each preference and for the log."""

import json

import pytest
import torch
from policy_gradient_inputs import make_rollout

from mopref.llm.policy_gradient.history import RolloutHistory, engine_metrics
from mopref.objective import Metric

PREFERENCES = torch.tensor([[0.75, 0.25], [0.0, 1.0]])


def test_a_record_for_each_preference():
    rollout, history = make_rollout(), RolloutHistory(("a", "b"))
    history.add(rollout, PREFERENCES)
    assert len(history.records) == 2
    for group, record in enumerate(history.records):
        rows = slice(6 * group, 6 * group + 6)
        ratios = (rollout.log_probabilities - rollout.reference_log_probabilities)[rows].double()
        expected = {
            "preference/a": PREFERENCES[group, 0].item(),
            "preference/b": PREFERENCES[group, 1].item(),
            "reward/a": rollout.rewards[rows, 0].mean().item(),
            "reward/b": rollout.rewards[rows, 1].mean().item(),
            "kl": ratios.sum(dim=1).mean().item(),
            "response_length": sum(rollout.lengths[rows].tolist()) / 6,
            "truncated": sum(rollout.truncated[rows].tolist()) / 6,
        }
        assert record == pytest.approx(expected)
        assert all(type(value) is float for value in record.values()), "a checkpoint holds them"


def test_a_pull_has_a_weight_and_no_reward():
    """Its value is the KL, which is there anyway."""
    history = RolloutHistory(("a", "b", "close"))
    metrics = history.add(make_rollout(), torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]))
    plain = RolloutHistory(("a", "b"))
    plain.add(make_rollout(), PREFERENCES)
    others = {key for key in plain.records[0] if not key.startswith("preference/")}
    for record, expected, weight in zip(history.records, plain.records, (0.25, 1.0), strict=True):
        assert record["preference/close"] == weight
        assert set(record) == {"preference/a", "preference/b", "preference/close", *others}
        assert all(record[key] == expected[key] for key in others)
    assert metrics["response_length/close"].weight == 1.25


def test_metrics_are_means_of_the_rollout():
    rollout, history = make_rollout(seed=1), RolloutHistory(("a", "b"))
    metrics = history.add(rollout, PREFERENCES)
    first, second = history.records
    for name in ("reward/a", "reward/b", "kl", "response_length", "truncated"):
        assert metrics[name] == pytest.approx(Metric((first[name] + second[name]) / 2, 1.0))
    lengths = [first["response_length"], second["response_length"]]
    assert lengths[0] != lengths[1]
    # λ_a is 0.75 and 0, λ_b 0.25 and 1.
    assert metrics["response_length/a"] == pytest.approx(Metric(lengths[0], 0.75))
    assert metrics["response_length/b"] == pytest.approx(Metric((0.25 * lengths[0] + lengths[1]) / 1.25, 1.25))
    assert set(metrics) == {*first, "response_length/a", "response_length/b"} - {"preference/a", "preference/b"}


def test_where_an_objective_has_no_weight_there_is_no_length_for_it():
    metrics = RolloutHistory(("a", "b")).add(make_rollout(), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    assert "response_length/a" not in metrics
    assert metrics["response_length/b"].weight == 2.0


def test_without_a_reference_there_is_no_kl():
    history = RolloutHistory(("a", "b"))
    metrics = history.add(make_rollout()._replace(reference_log_probabilities=None), PREFERENCES)
    assert "kl" not in metrics
    assert "kl" not in history.records[0]


def test_records_are_added_up():
    history = RolloutHistory(("a", "b"))
    for seed in range(3):
        history.add(make_rollout(seed=seed), PREFERENCES)
    assert len(history.records) == 6
    alone = RolloutHistory(("a", "b"))
    alone.add(make_rollout(seed=2), PREFERENCES)
    assert history.records[4:] == alone.records


def filled(count, **options):
    history = RolloutHistory(("a", "b"), **options)
    for seed in range(count):
        rollout = make_rollout(seed=seed)
        if seed % 2:
            rollout = rollout._replace(reference_log_probabilities=None)
        history.add(rollout, PREFERENCES)
    return history


def test_the_oldest_records_go_where_there_are_too_many():
    history, whole = filled(5, limit=7), filled(5)
    assert len(history) == len(history.records) == 7
    assert history.records == whole.records[-7:]
    assert ["kl" in record for record in whole.records] == [True, True, False, False] * 2 + [True, True]


def test_a_state_goes_through_json_and_older_states_are_read():
    history = filled(3)
    for state in (json.loads(json.dumps(history.state_dict(), allow_nan=False)), history.records):
        again = RolloutHistory(("a", "b"))
        again.load_state_dict(state)
        assert again.records == history.records
        again.add(make_rollout(seed=9), PREFERENCES)
        assert again.records[:-2] == history.records
    again.load_state_dict([])
    assert again.records == []


def test_the_history_of_very_many_steps_is_small():
    history = RolloutHistory(("a", "b"), limit=1_000)
    history.load_state_dict({key: [0.5] * 5_000 for key in filled(1).state_dict()})
    assert len(history) == 1_000
    assert sum(column.itemsize * len(column) for column in history._columns.values()) == 7 * 8 * 1_000


def test_the_metrics_of_an_engine_are_means_over_tokens():
    rollout = make_rollout()
    assert engine_metrics(rollout, 2.0) == {}
    mask = rollout.sequences.response_mask
    told = rollout.log_probabilities.clone()
    told[0, 0] -= 0.5
    told[1, 0] -= 1.0
    metrics = engine_metrics(rollout._replace(engine_log_probabilities=told), 2.0)
    tokens = int(mask.sum())
    assert metrics["engine/difference"] == pytest.approx(Metric(1.5 / tokens, tokens))
    # e^.5 is 1.65 and e 2.72.
    assert metrics["engine/truncated"] == pytest.approx(Metric(1 / tokens, tokens))
