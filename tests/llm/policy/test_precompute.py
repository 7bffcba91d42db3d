"""What is computed once for each row of a data set: each row once, in batches of like length, in the rows' order."""

from itertools import count

import pytest

from mopref.llm.policy.precompute import map_rows

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
