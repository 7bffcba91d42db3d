"""Mismatched responses: each response once, and beside another prompt as far as there are enough."""

import copy
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings, strategies as st

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data import with_mismatches
from mopref.objectives import KTO

MISMATCHED = "mismatched_response_ids"


def rows_of(sizes: list[int], order: list[int] | None = None) -> list[dict]:
    """So many rows of each prompt; every row has a response of its own, by which it is known again."""
    prompts = [prompt for prompt, size in enumerate(sizes) for _ in range(size)]
    order = list(range(len(prompts))) if order is None else order
    return [{"prompt_ids": [7, prompts[i]], "response_ids": [1000 + i], "labels": [i % 2]} for i in order]


def partners(rows: list[dict], mismatched: list[dict]) -> list[int]:
    """The number of the row whose response each row was given."""
    numbers = {row["response_ids"][0]: index for index, row in enumerate(rows)}
    return [numbers[int(row[MISMATCHED][0])] for row in mismatched]


def own_prompts(rows: list[dict], mismatched: list[dict]) -> int:
    """How many rows were given a response to their own prompt."""
    pairs = zip(rows, partners(rows, mismatched), strict=True)
    return sum(list(row["prompt_ids"]) == list(rows[partner]["prompt_ids"]) for row, partner in pairs)


@st.composite
def groups(draw) -> list[dict]:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 1))
    return rows_of(sizes, draw(st.permutations(range(sum(sizes)))))


@settings(max_examples=200, deadline=None)
@given(rows=groups(), seed=st.integers(0, 2**32 - 1))
def test_each_response_is_given_once_and_to_another_prompt_where_that_can_be(rows, seed):
    """A prompt with c > n/2 of n rows can give only n − c of its responses away: 2c − n stay with it, and no more."""
    mismatched = with_mismatches(rows, seed)
    given_from = partners(rows, mismatched)
    assert sorted(given_from) == list(range(len(rows)))
    assert all(index != partner for index, partner in enumerate(given_from)), "never its own row's"
    largest = max(Counter(tuple(row["prompt_ids"]) for row in rows).values())
    assert own_prompts(rows, mismatched) == max(0, 2 * largest - len(rows))


@settings(max_examples=50, deadline=None)
@given(rows=groups(), seed=st.integers(0, 2**32 - 1))
def test_rows_keep_their_order_and_are_not_changed(rows, seed):
    before = copy.deepcopy(rows)
    mismatched = with_mismatches(rows, seed)
    assert rows == before
    assert [{name: row[name] for name in before[0]} for row in mismatched] == before
    assert all(row.keys() == before[0].keys() | {MISMATCHED} for row in mismatched)


def test_the_seed_decides():
    rows = rows_of([3, 1, 2, 4, 2])
    draws = [[row[MISMATCHED] for row in with_mismatches(rows, seed)] for seed in range(5)]
    assert [row[MISMATCHED] for row in with_mismatches(rows, 3)] == draws[3]
    assert [row[MISMATCHED] for row in with_mismatches(rows)] == draws[0], "0 where none is given"
    assert len({str(draw) for draw in draws}) == 5


def test_any_other_prompt_may_give_the_response():
    """Over seeds, a row gets the response of every row of another prompt."""
    rows = rows_of([1, 1, 1, 1, 1])
    given_first = {partners(rows, with_mismatches(rows, seed))[0] for seed in range(60)}
    assert given_first == {1, 2, 3, 4}


def test_two_rows_give_each_other_theirs():
    """Of one prompt or of two."""
    for sizes in ([1, 1], [2]):
        rows = rows_of(sizes)
        assert partners(rows, with_mismatches(rows, 4)) == [1, 0]


def test_what_was_computed_for_other_mismatches_is_dropped(make_llama):
    """It would be taken for that of the new ones."""
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a",)))
    rows = [{**row, "response_ids": [50 + i]} for i, row in enumerate(rows_of([2, 3, 1]))]
    plain = with_mismatches(rows, 1)
    kept = KTO(("a",)).precompute(model, plain)
    assert kept[0].keys() > plain[0].keys()
    again = with_mismatches(kept, 2)
    assert again == with_mismatches(rows, 2)
    assert [row[MISMATCHED] for row in again] != [row[MISMATCHED] for row in kept]


@pytest.mark.parametrize("kind", [None, "torch", "numpy"])
def test_rows_out_of_a_data_set_are_told_apart_by_their_prompts_too(kind):
    """Which hands out lists, tensors or arrays; a tensor is equal to no other by its hash."""
    rows = rows_of([3, 1, 3, 2])
    data = Dataset.from_list(rows).with_format(kind)
    for seed in range(5):
        mismatched = with_mismatches(data, seed)
        assert own_prompts(rows, mismatched) == 0
        assert partners(rows, mismatched) == partners(rows, with_mismatches(rows, seed))


def test_a_table_gets_the_partners_of_a_list_on_the_disk_and_finds_them_again(tmp_path, monkeypatch):
    rows = rows_of([700, 300, 1, 1, 500], [*range(1501, -1, -1)])
    old = [{**row, MISMATCHED: [1], "reference_model": "another"} for row in rows]
    for seed in (0, 1):
        for data in (rows, rows, old):
            table = with_mismatches(Dataset.from_list(data), seed, tmp_path)
            assert isinstance(table, Dataset)
            assert list(table) == with_mismatches(rows, seed)
        assert len(list((tmp_path / "mismatches").iterdir())) == seed + 1
    monkeypatch.setattr("mopref.llm.data.mismatches.keep_table", None)
    assert list(with_mismatches(Dataset.from_list(rows), 1, tmp_path)) == with_mismatches(rows, 1)


@pytest.mark.parametrize("column", ["prompt_ids", "response_ids"])
def test_a_table_without_token_ids_is_refused(column):
    table = Dataset.from_list(rows_of([2, 2]))
    with pytest.raises(ValueError, match=rf"row 0 has .*, but no {column}"):
        with_mismatches(table.remove_columns(column))
    texts = table.remove_columns("prompt_ids").add_column("prompt_ids", [["a"]] * 4)
    with pytest.raises(ValueError, match="row 0 has a list as prompt_ids that is no list of ids"):
        with_mismatches(texts)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_are_refused(count):
    with pytest.raises(ValueError, match=f"there are {count} rows?: a mismatch needs the response of another row"):
        with_mismatches(rows_of([1])[:count])


def test_rows_that_cannot_be_counted_are_refused():
    with pytest.raises(TypeError, match="rows is a list_iterator, whose rows cannot be had by their number"):
        with_mismatches(iter(rows_of([2])))


@pytest.mark.parametrize("column", ["prompt_ids", "response_ids"])
def test_rows_without_token_ids_are_refused_by_number(column):
    rows = rows_of([2, 2])
    del rows[2][column]
    with pytest.raises(ValueError, match=rf"row 2 has .*, but no {column}"):
        with_mismatches(rows)
