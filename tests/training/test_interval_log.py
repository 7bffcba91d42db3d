"""Numbers between two entries: weighted means, as Python's own, which can be taken back and continued."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from mopref.objective import Metric
from mopref.training.interval_log import IntervalLog

NAMES = ("a", "b")


@pytest.fixture
def log() -> IntervalLog:
    log = IntervalLog()
    log.steps += [torch.tensor([1.0, 2.0, 4.0, 0.1, 5.0]), torch.tensor([3.0, 4.0, 6.0, 0.3, 7.0])]
    log.add({"reward": Metric(1.0, 3.0), "length": 10})
    log.add({"reward": Metric(5.0, 1.0), "length": 20})
    return log


def test_an_entry_has_means_and_weighted_means(log):
    entry = log.entry(Accelerator(cpu=True), NAMES)
    expected = {"loss": 2.0, "loss/a": 3.0, "loss/b": 5.0, "learning_rate": 0.2, "gradient_norm": 6.0}
    assert entry == pytest.approx(expected | {"reward": 2.0, "length": 15.0})
    assert not log.steps
    assert not log.metrics


@pytest.mark.parametrize(
    "metric",
    [np.float32(0.5), np.int64(2), Metric(np.float32(0.5), np.int64(3)), torch.tensor(0.5), Metric(1, 2)],
    ids=repr,
)
def test_numbers_of_any_library_become_pythons_own(log, metric):
    log.add({"new": metric})
    value = log.entry(Accelerator(cpu=True), NAMES)["new"]
    assert type(value) is float
    assert value == pytest.approx(float(metric.value if isinstance(metric, Metric) else metric))


def test_skipped_steps_are_counted_and_have_no_norm(log):
    log.steps.append(torch.tensor([2.0, 3.0, 5.0, 0.2, float("nan")]))
    state = log.state_dict()
    entry = log.entry(Accelerator(cpu=True), NAMES)
    assert entry["skipped_steps"] == 1.0
    assert entry["gradient_norm"] == pytest.approx(6.0)
    assert entry["loss"] == pytest.approx(2.0)
    other = IntervalLog()
    other.load_state_dict(state, torch.device("cpu"))
    assert other.entry(Accelerator(cpu=True), NAMES) == entry


def test_where_all_steps_were_skipped_nothing_moved():
    log = IntervalLog()
    log.steps.append(torch.tensor([2.0, 3.0, 5.0, 0.2, float("nan")]))
    entry = log.entry(Accelerator(cpu=True), NAMES)
    assert entry["gradient_norm"] == 0.0
    assert entry["skipped_steps"] == 1.0


def test_metrics_without_weight_are_left_out(log):
    log.add({"nothing": Metric(3.0, 0.0)})
    assert "nothing" not in log.entry(Accelerator(cpu=True), NAMES)


def test_metrics_can_be_taken_back(log):
    before = log.metrics
    log.add({"reward": Metric(100.0, 9.0), "new": 1.0})
    log.metrics = before
    log.add({"length": 30})
    entry = log.entry(Accelerator(cpu=True), NAMES)
    assert entry["reward"] == pytest.approx(2.0)
    assert entry["length"] == pytest.approx(20.0)
    assert "new" not in entry


def test_a_state_continues(log):
    other = IntervalLog()
    other.load_state_dict(log.state_dict(), torch.device("cpu"))
    other.add({"length": 60})
    assert other.entry(Accelerator(cpu=True), NAMES)["length"] == pytest.approx(30.0)
    assert log.entry(Accelerator(cpu=True), NAMES)["length"] == pytest.approx(15.0), "a state shares nothing"


def test_progress_shows_the_last_entry_or_the_last_step(log):
    assert log.progress([], NAMES) == "a=4.0000, b=6.0000"
    assert log.progress([{"loss/a": 1.0, "loss/b": 0.25}], NAMES) == "a=1.0000, b=0.2500"


def test_names_do_not_order_a_terminal_about():
    assert IntervalLog().progress([{"loss/a\x1b[2J": 1.0}], ("a\x1b[2J",)) == "a\\x1b[2J=1.0000"
