"""What is computed once for each row of a data set: each row once, in batches of like length, in the rows' order."""

import re
from itertools import count

import numpy as np
import pytest
import torch

from mopref.llm.policy.precompute import check_references, keeps_states, map_rows, rows_without_states

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


def reference_rows(*pairs) -> list[dict]:
    return [{} if pair is None else {"reference_log_probabilities": pair} for pair in pairs]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        reference_rows(None, None),
        reference_rows([-1.0, -2.5], (-1, 0)),
        reference_rows(np.array([-1.0, -2.0]), torch.tensor([-1.0, -2.0])),
    ],
)
def test_two_finite_references_or_none_are_right(rows):
    check_references(rows)


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        ([-1.0, float("nan")], "of shape (2,), where two finite numbers are needed"),
        ([-1.0, float("-inf")], "of shape (2,), where two finite numbers are needed"),
        ([-1.0], "of shape (1,)"),
        ([-1.0, -2.0, -3.0], "of shape (3,)"),
        (-1.0, "of shape ()"),
        (torch.zeros(1, 2), "of shape (1, 2)"),
        (torch.tensor([-200.0, -3.0], dtype=torch.bfloat16), "in torch.bfloat16, whose rounding"),
        (np.array([-200.0, -3.0], dtype=np.float16), "in torch.float16, whose rounding"),
        (["secret", -1.0], "that are no two numbers"),
        ([None, -1.0], "that are no two numbers"),
        ("secret", "that are no two numbers"),
    ],
    ids=str,
)
def test_other_references_are_refused_with_their_row(pair, problem):
    with pytest.raises(ValueError, match=re.escape(f"row 1 has reference_log_probabilities {problem}")) as error:
        check_references(reference_rows([-1.0, -2.0], pair))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("pairs", "row"), [(([-1, -2], None, None), 1), ((None, None, [-1, -2]), 0)])
def test_references_of_some_rows_only_are_refused(pairs, row):
    with pytest.raises(ValueError, match=f"row {row} has no reference_log_probabilities, and other rows have"):
        check_references(reference_rows(*pairs))
