"""What is computed once for each row of a data set: each row once, in batches of like length, in the rows' order."""

from itertools import count

import pytest

from mopref.llm.policy.precompute import keeps_states, map_rows, rows_without_states

ROWS = ["ccc", "a", "bb", "eeeee", "dddd", "ff", "g"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
def test_results_come_in_the_order_of_the_rows(batch_size):
    batches = []

    def upper(rows):
        batches.append(list(rows))
        return [row.upper() for row in rows]

    assert map_rows(upper, ROWS, [len(row) for row in ROWS], batch_size, "upper") == [row.upper() for row in ROWS]
    lengths = [len(row) for batch in batches for row in batch]
    assert lengths == sorted(lengths)
    assert max(map(len, batches)) <= batch_size
    assert sorted(row for batch in batches for row in batch) == sorted(ROWS)


def test_no_rows_give_no_results():
    assert map_rows(lambda rows: rows, [], [], 4, "nothing") == []


def test_a_missing_result_is_noticed():
    with pytest.raises(ValueError, match="shorter"):
        map_rows(lambda rows: rows[1:], ROWS, [len(row) for row in ROWS], 3, "too few")


@pytest.mark.parametrize(("batch_size", "shown"), [(1, True), (2, True), (3, False)])
def test_progress_is_shown_for_more_than_three_batches(batch_size, shown, monkeypatch, capsys):
    clock = count(step=40)
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    map_rows(lambda rows: rows, ROWS, [len(row) for row in ROWS], batch_size, "reference")
    assert ("reference: 2/" in capsys.readouterr().err) == shown


def test_rows_lose_what_was_kept_of_them_before_and_stay_as_they_are():
    row = {"prompt_ids": [1], "hidden_states_0": "a", "hidden_states_model": "b", "labels": [0]}
    before = dict(row)
    (plain,) = rows_without_states([row])
    assert plain == {"prompt_ids": [1], "labels": [0]}
    assert row == before


class AskedPolicy:
    """Remembers what it is asked for."""

    def settled_frozen_layers(self, frozen_layers, tokens, sequences):
        self.asked = (frozen_layers, tokens, sequences)
        return frozen_layers == "auto"


@pytest.mark.parametrize(("rows", "compared"), [(ROWS, ["eeeee"]), ([], None)])
@pytest.mark.parametrize("frozen_layers", ["auto", False])
def test_activations_are_compared_on_the_longest_row(frozen_layers, rows, compared):
    policy = AskedPolicy()
    kept = keeps_states(policy, frozen_layers, rows, [len(row) for row in rows], 99, lambda chosen: chosen)
    assert policy.asked == (frozen_layers, 99, compared)
    assert kept == (frozen_layers == "auto")
