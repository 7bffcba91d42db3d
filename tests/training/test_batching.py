"""GroupBatchSampler: every group of every batch has a row of every objective, and rows are used evenly."""

import time
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref.objective import Objective
from mopref.training.batching import GroupBatchSampler, labelled_rows


def labelled_from(patterns: list[list[bool]]) -> torch.Tensor:
    return torch.tensor(patterns, dtype=torch.bool)


def assert_groups_are_covered(labelled: torch.Tensor, batch: list[int], groups: int) -> None:
    rows = len(batch) // groups
    for g in range(groups):
        block = batch[g * rows : (g + 1) * rows]
        assert labelled[block].any(dim=0).all(), f"group {g} with rows {block} lacks an objective"


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[torch.Tensor, int, int, int]:
    """Label masks in which every objective has a row, and a batch that can hold one row per objective and group."""
    m = draw(st.integers(1, 4))
    row = st.lists(st.booleans(), min_size=m, max_size=m).filter(any)
    patterns = draw(st.lists(row, min_size=1, max_size=25))
    patterns += [[i == j for j in range(m)] for i in range(m)]
    groups = draw(st.integers(1, 4))
    rows = draw(st.integers(m, m + 4))
    return labelled_from(patterns), groups * rows, groups, draw(st.integers(0, 1000))


@settings(max_examples=60, deadline=None)
@given(case=data_sets())
def test_every_group_has_every_objective(case):
    labelled, batch_size, groups, seed = case
    for batch in islice(GroupBatchSampler(labelled, batch_size, groups, seed=seed), 12):
        assert isinstance(batch, list)
        assert len(batch) == batch_size
        assert all(isinstance(index, int) and 0 <= index < len(labelled) for index in batch)
        assert_groups_are_covered(labelled, batch, groups)


@pytest.mark.parametrize(("rows", "batch_size", "groups"), [(24, 8, 2), (24, 8, 8), (10, 4, 2), (7, 3, 1), (5, 8, 2)])
def test_fully_labelled_rows_are_used_once_per_epoch(rows, batch_size, groups):
    """After any number of batches two rows' counts differ by one at most, also where batches straddle epochs."""
    counts = Counter(dict.fromkeys(range(rows), 0))
    for batch in islice(GroupBatchSampler(torch.ones(rows, 2, dtype=torch.bool), batch_size, groups, seed=0), 30):
        counts.update(batch)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_order_is_shuffled_and_differs_between_epochs():
    sampler = GroupBatchSampler(torch.ones(64, 1, dtype=torch.bool), 64, 1, seed=0)
    first, second = next(sampler), next(sampler)
    assert first != list(range(64))
    assert first != second


def test_partly_labelled_rows_are_used_about_equally_often():
    """Half the rows bear on each objective: as balanced as data get, so no row may be starved or favoured."""
    labelled = labelled_from([[True, False]] * 20 + [[False, True]] * 20)
    counts = Counter(i for batch in islice(GroupBatchSampler(labelled, 8, 2, seed=0), 100) for i in batch)
    assert set(counts) == set(range(40))
    assert max(counts.values()) <= 1.25 * 20
    assert min(counts.values()) >= 0.75 * 20


def test_every_row_is_reached_when_one_objective_is_rare():
    """One row of 30 bears on objective 1: it has to be in every group; the others must all still be used evenly."""
    labelled = labelled_from([[True, False]] * 29 + [[False, True]])
    batches = list(islice(GroupBatchSampler(labelled, 8, 2, seed=1), 58))
    for batch in batches:
        assert_groups_are_covered(labelled, batch, 2)
    counts = Counter(i for batch in batches for i in batch if i != 29)
    assert set(counts) == set(range(29))
    assert max(counts.values()) - min(counts.values()) <= 3


def test_mixed_labels_within_an_epoch_are_not_starved():
    """Rows labelled on all, on one and on the other objective: usage stays within a factor of two of the mean."""
    labelled = labelled_from([[True, True]] * 12 + [[True, False]] * 12 + [[False, True]] * 12)
    counts = Counter(i for batch in islice(GroupBatchSampler(labelled, 6, 2, seed=3), 120) for i in batch)
    mean = 120 * 6 / 36
    assert all(mean / 2 <= counts[i] <= 2 * mean for i in range(36)), counts


def test_data_smaller_than_a_batch():
    labelled = labelled_from([[True, False], [False, True]])
    for batch in islice(GroupBatchSampler(labelled, 8, 2, seed=0), 5):
        assert_groups_are_covered(labelled, batch, 2)
        assert Counter(batch) == {0: 4, 1: 4}


def test_seeds():
    labelled = torch.ones(40, 2, dtype=torch.bool)
    streams = [list(islice(GroupBatchSampler(labelled, 8, 2, seed=seed), 6)) for seed in (0, 0, 1)]
    assert streams[0] == streams[1]
    assert streams[0] != streams[2]


@pytest.mark.parametrize("steps", [0, 1, 4, 13])
@pytest.mark.parametrize("kind", ["full", "partial"])
def test_state_resumes_the_stream(kind, steps):
    labelled = torch.ones(21, 2, dtype=torch.bool)
    if kind == "partial":
        labelled[:8, 0], labelled[10:15, 1] = False, False
    sampler = GroupBatchSampler(labelled, 8, 2, seed=4)
    for _ in range(steps):
        next(sampler)
    state = sampler.state_dict()
    expected = list(islice(sampler, 12))
    other = GroupBatchSampler(labelled, 8, 2, seed=99)
    next(other)
    other.load_state_dict(state)
    assert list(islice(other, 12)) == expected


def test_sampler_does_not_touch_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(islice(GroupBatchSampler(torch.ones(9, 2, dtype=torch.bool), 4, 2, seed=1), 5))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("labelled", "batch_size", "groups", "message"),
    [
        pytest.param([[True, False]] * 4, 4, 2, "no row is labelled on objective 1: nothing could", id="no-row-of-1"),
        pytest.param([[True, True]] * 4, 5, 2, "5 rows cannot be cut evenly into 2 preference groups", id="uneven"),
        pytest.param(
            [[True, False], [False, True]],
            2,
            2,
            r"a preference group has 1 rows \(2 rows for 2 preferences\), too few to hold a row of each of the 2",
            id="fewer-rows-per-group-than-objectives",
        ),
        pytest.param([], 4, 2, r"labelled has shape \(0, 2\): give \(rows, m\) with at least one row", id="no-rows"),
        pytest.param([[True, True]] * 4, 0, 1, "a batch of 0 rows cannot be cut evenly into 1", id="empty-batch"),
        pytest.param([[True, True]] * 4, 4, 0, "4 rows cannot be cut evenly into 0 preference groups", id="no-groups"),
    ],
)
def test_impossible_batches_raise(labelled, batch_size, groups, message):
    mask = torch.tensor(labelled, dtype=torch.bool).reshape(len(labelled), 2)
    with pytest.raises(ValueError, match=message):
        GroupBatchSampler(mask, batch_size, groups)


def test_one_row_per_group_is_fine_where_rows_are_fully_labelled():
    batch = next(GroupBatchSampler(torch.ones(6, 3, dtype=torch.bool), 4, 4, seed=0))
    assert len(set(batch)) == 4


def rare(rows: int, share: float) -> torch.Tensor:
    """All rows labelled on objective 0, some on objective 1 as well."""
    labelled = torch.zeros(rows, 2, dtype=torch.bool)
    labelled[:, 0] = True
    labelled[torch.randperm(rows, generator=torch.Generator().manual_seed(0))[: int(share * rows)], 1] = True
    return labelled


@pytest.mark.parametrize(("labelled", "batch_size", "groups"), [(rare(2000, 0.01), 8, 4), (rare(2000, 0.2), 8, 2)])
def test_what_is_kept_does_not_grow_with_the_steps(labelled, batch_size, groups):
    sampler = GroupBatchSampler(labelled, batch_size, groups, seed=0)
    for batch in islice(sampler, 1500):
        assert_groups_are_covered(labelled, batch, groups)
        state = sampler.state_dict()
        assert len(state["waiting"]) + len(state["drawn"]) <= len(labelled) + 2


def test_rows_of_each_kind_come_once_in_their_own_epoch():
    """However rare a label is, its rows are used in turn, and so are those that fill the groups."""
    labelled = rare(300, 0.1)
    sampler = GroupBatchSampler(labelled, 8, 4, seed=0)
    counts = Counter(dict.fromkeys(range(300), 0))
    for batch in islice(sampler, 400):
        counts.update(batch)
        for kind in (True, False):
            of_kind = [counts[row] for row in range(300) if bool(labelled[row, 1]) is kind]
            assert max(of_kind) - min(of_kind) <= 1


def test_rows_are_used_alike_where_groups_need_no_rare_ones():
    """Half of the rows have both labels, so that no draw is forced by more than their share: all are used alike."""
    labelled = rare(40, 0.5)
    counts = Counter(row for batch in islice(GroupBatchSampler(labelled, 8, 2, seed=0), 100) for row in batch)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_draws_of_fully_labelled_rows_are_shuffled_epochs():
    """Written out: a permutation for each epoch, cut into groups, each shuffled once more; the same for ever."""
    generator = np.random.default_rng([3, 0, 1])
    queue: list[int] = []
    sampler = GroupBatchSampler(torch.ones(10, 2, dtype=torch.bool), 6, 2, seed=[3, 0, 1])
    for batch in islice(sampler, 40):
        expected = []
        for _ in range(2):
            group = []
            for _ in range(3):
                if not queue:
                    queue = generator.permutation(10).tolist()
                group.append(queue.pop(0))
            generator.shuffle(group)
            expected += group
        assert batch == expected


def test_a_state_shares_nothing_with_the_sampler():
    sampler = GroupBatchSampler(rare(50, 0.2), 8, 2, seed=0)
    next(sampler)
    state = sampler.state_dict()
    waiting, drawn = state["waiting"].clone(), state["drawn"].clone()
    next(sampler)
    assert torch.equal(state["waiting"], waiting)
    assert torch.equal(state["drawn"], drawn)


@pytest.mark.parametrize(
    "state", [{"queue": torch.arange(3), "generator": {}}, None], ids=["earlier version", "other rows"]
)
def test_a_state_of_something_else_is_refused(state):
    if state is None:
        state = GroupBatchSampler(torch.ones(50, 2, dtype=torch.bool), 8, 2).state_dict()
    with pytest.raises(
        ValueError, match=r"the state of the batches is of rows with other labels, or of a version before"
    ):
        GroupBatchSampler(rare(50, 0.2), 8, 2).load_state_dict(state)


def test_draws_of_partly_labelled_rows_are_what_they_were():
    """Recorded before the queues were arrays: runs go on with the same batches."""
    labelled = labelled_from([[True, place % 5 == 0] for place in range(40)])
    assert list(islice(GroupBatchSampler(labelled, 6, 2, seed=7), 30))[-3:] == [
        [16, 5, 38, 14, 30, 13],
        [25, 1, 36, 20, 31, 26],
        [24, 3, 10, 30, 23, 11],
    ]


def test_a_draw_costs_the_same_whatever_the_number_of_rows():
    """Counted in what NumPy is asked for: nothing of the size of the data but a shuffle, once an epoch."""
    costs = []
    for count in (2_000, 200_000):
        sampler = GroupBatchSampler(rare(count, 0.01), 16, 4)
        next(sampler)
        start = time.process_time()
        for _ in range(100):
            next(sampler)
        costs.append(time.process_time() - start)
    # Measured: the same within noise. With work for each row it is a hundred times as much.
    assert costs[1] < 10 * costs[0]


# Rows at the door.


class Rows(Objective):
    """Remembers which rows it was asked of, and with what precision."""

    names = ("a", "b")

    def __init__(self, needs_data: bool, mask: torch.Tensor | None = None) -> None:
        self.needs_data, self.mask, self.asked = needs_data, mask, []

    def losses(self, model, batch, preferences):
        raise NotImplementedError

    def labelled(self, data):
        self.asked.append("labelled")
        return self.mask

    def check_data(self, model, data, precision):
        self.asked.append(precision)


def test_rows_are_checked_by_the_objective_and_bear_on_all_objectives_unless_it_says_otherwise():
    model, mask = torch.nn.Linear(1, 1), labelled_from([[True, False], [False, True]])
    objective = Rows(True)
    assert labelled_rows(model, objective, [1, 2, 3], "bf16").equal(torch.ones(3, 2, dtype=torch.bool))
    assert objective.asked == ["labelled", "bf16"]
    assert labelled_rows(model, Rows(False, mask), [1, 2], None) is mask


def test_no_rows_are_right_for_an_objective_that_needs_none():
    assert labelled_rows(torch.nn.Linear(1, 1), Rows(False), None, None) is None
    with pytest.raises(ValueError, match="train_data is None, but Rows is trained on data rows: give some"):
        labelled_rows(torch.nn.Linear(1, 1), Rows(True), None, None)


@pytest.mark.parametrize("needs_data", [True, False])
def test_an_empty_list_of_rows_is_refused(needs_data):
    with pytest.raises(ValueError, match="train_data has no row: give at least one"):
        labelled_rows(torch.nn.Linear(1, 1), Rows(needs_data), [], None)
    with pytest.raises(TypeError, match="train_data is a generator, whose rows cannot be had by their number"):
        labelled_rows(torch.nn.Linear(1, 1), Rows(needs_data), (row for row in ()), None)


def test_it_returns_to_a_mark():
    """Also past the end of a queue, and as often as one likes."""
    sampler = GroupBatchSampler(labelled_from([[True, False]] * 5 + [[True, True]] * 3), 4, 2, seed=3)
    next(sampler)
    mark, state = sampler.mark(), sampler.state_dict()
    batches = list(islice(sampler, 9))
    for _ in range(2):
        sampler.return_to(mark)
        assert torch.equal(sampler.state_dict()["waiting"], state["waiting"])
        assert torch.equal(sampler.state_dict()["drawn"], state["drawn"])
        assert list(islice(sampler, 9)) == batches


@pytest.mark.parametrize("row", [-1, 50])
def test_a_state_of_rows_that_are_not_there(row):
    labelled = torch.ones(50, 2, dtype=torch.bool)
    state = GroupBatchSampler(labelled, 8, 2).state_dict()
    state["waiting"] = torch.tensor([row])
    with pytest.raises(ValueError, match="holds a row that is not there"):
        GroupBatchSampler(labelled, 8, 2).load_state_dict(state)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(2, 1, dtype=torch.bool), ValueError, r"returned torch\.bool of shape \(2, 1\), not bools of shape"),
        (torch.ones(3, 2, dtype=torch.bool), ValueError, r"shape \(3, 2\), not bools of shape \(2, 2\)"),
        (torch.ones(2, 2), ValueError, r"returned torch\.float32 of shape"),
        ([[True, True]] * 2, TypeError, "returned a list: it must return a tensor of bools"),
    ],
)
def test_labels_that_are_none_of_the_rows_are_refused(mask, error, message):
    """More labels than rows would draw rows that are not there."""
    with pytest.raises(error, match=rf"Rows\.labelled .*{message}|{message}"):
        labelled_rows(torch.nn.Linear(1, 1), Rows(False, mask), [1, 2], None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(lambda rows: rows.to("meta"), "labelled is a tensor on the meta device"), (torch.Tensor.to_sparse, "sparse")],
)
def test_labels_that_cannot_be_read_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        GroupBatchSampler(spoil(torch.ones(4, 2, dtype=torch.bool)), batch_size=2, groups=1)
