"""Shares of a step: together they are the step, whatever the numbers of processes and forwards."""

import pytest
import torch

from mopref import TrainerConfig, UniformSampler
from mopref.objectives import KTO, Quadratic
from mopref.training.shares import Draws, Layout, make_batches, step_layout

QUADRATIC = Quadratic([[0.0, 0.0], [1.0, 1.0]])


def layouts(processes: int, forwards: int, preferences: int, rows: int) -> list[Layout]:
    return [Layout(processes, process, forwards, preferences, rows) for process in range(processes)]


@pytest.mark.parametrize(
    ("processes", "forwards", "preferences", "rows"),
    [(1, 1, 2, 4), (2, 1, 2, 4), (2, 2, 4, 2), (2, 1, 1, 3), (1, 3, 2, 4), (2, 2, 2, 2), (3, 2, 1, 1)],
)
def test_the_shares_of_a_step_are_all_of_it(processes, forwards, preferences, rows):
    labelled = torch.ones(50, 2, dtype=torch.bool)
    drawn = {}
    for layout in layouts(processes, forwards, preferences, rows):
        batches = make_batches(layout, labelled, seed=3)
        draws = Draws(layout, UniformSampler(2, seed=1), batches)
        for forward in range(forwards):
            drawn[layout.share(forward)] = draws.next(forward)
    assert sorted(drawn) == list(range(processes * forwards))
    # Under each preference the rows of all shares; in one process with one forward the same preferences and rows.
    by_preference: dict = {}
    for share in sorted(drawn):
        own, places = drawn[share]
        assert len(places) == rows
        part = rows // len(own)
        for index, row in enumerate(own.tolist()):
            by_preference.setdefault(tuple(row), []).extend(places[index * part : (index + 1) * part])
    assert len(by_preference) == preferences
    assert {len(places) for places in by_preference.values()} == {processes * forwards * rows // preferences}
    everything = [row for places in by_preference.values() for row in places]
    assert len(set(everything)) == len(everything) == processes * forwards * rows
    whole = Layout(1, 0, 1, preferences, processes * forwards * rows)
    rows_of_one = next(make_batches(whole, labelled, seed=3))
    assert everything == rows_of_one
    if forwards == 1:
        torch.testing.assert_close(torch.tensor(list(by_preference)), UniformSampler(2, seed=1).sample(preferences))


def test_a_share_has_whole_preferences_where_they_suffice():
    assert Layout(2, 0, 2, 8, 6).is_whole
    assert Layout(2, 0, 2, 8, 6).groups == 2
    assert not Layout(2, 0, 2, 2, 6).is_whole
    assert Layout(2, 0, 2, 2, 6).groups == 2


@pytest.mark.parametrize(
    ("settings", "processes", "message"),
    [
        ({"preferences_per_step": 3}, 2, "preferences_per_step is 3, .* 2 processes .* make it a multiple of 2"),
        ({"preferences_per_step": 4, "gradient_accumulation_steps": 3}, 1, "among 3 forwards: make it a multiple of 3"),
    ],
)
def test_preferences_without_rows_are_shared_evenly(settings, processes, message):
    with pytest.raises(ValueError, match=message):
        step_layout(TrainerConfig(**settings), QUADRATIC, False, processes)


def test_rows_are_shared_evenly():
    config = TrainerConfig(batch_size=5, preferences_per_step=3, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="batch_size is 5 and preferences_per_step 3, of which each of 2 forwards has"):
        step_layout(config, QUADRATIC, True)
    assert step_layout(TrainerConfig(batch_size=6, preferences_per_step=3), QUADRATIC, True, 2).groups == 3


def test_an_objective_that_needs_rows_under_each_preference_is_asked_for_each_forward():
    objective = KTO(("a", "b"))
    config = TrainerConfig(batch_size=8, preferences_per_step=2)
    assert step_layout(config, objective, True, 2).groups == 1
    config = TrainerConfig(batch_size=9, preferences_per_step=3)
    with pytest.raises(ValueError, match="which is 3 rows for a preference, but KTO needs 4"):
        step_layout(config, objective, True, 2)


def test_a_forward_that_needs_a_draw_alone_is_refused():
    layout = Layout(1, 0, 2, 1, 2)
    draws = Draws(layout, UniformSampler(2), None)
    with pytest.raises(ValueError, match="as many updates for each forward"):
        draws.next(1)


def test_what_was_drawn_is_forgotten():
    draws = Draws(Layout(1, 0, 2, 1, 2), UniformSampler(2), make_batches(Layout(1, 0, 2, 1, 2), torch.ones(9, 2) > 0))
    draws.next(0)
    draws.forget()
    with pytest.raises(ValueError, match="as many updates"):
        draws.next(1)
