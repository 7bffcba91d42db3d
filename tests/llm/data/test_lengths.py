import pytest

from mopref.llm.data.lengths import batches_of_like_length, sequence_lengths


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
def test_every_row_is_in_one_batch_shortest_first(batch_size):
    lengths = [5, 1, 4, 4, 2, 9, 1, 4, 7, 3]
    batches = batches_of_like_length(lengths, batch_size)
    order = [row for batch in batches for row in batch]
    assert sorted(order) == list(range(10))
    assert [lengths[row] for row in order] == sorted(lengths)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


def test_rows_of_one_length_keep_their_order():
    assert batches_of_like_length([2, 1, 2, 1, 2], 2) == [[1, 3], [0, 2], [4]]
    assert batches_of_like_length([], 3) == []


def test_a_sequence_is_a_prompt_with_the_longest_of_its_responses():
    row = {"prompt_ids": [5, 6], "response_0_ids": [7, 8, 9], "response_1_ids": [8]}
    assert sequence_lengths([row], ("response_0_ids", "response_1_ids")) == [5]
    assert sequence_lengths([row, row], ("response_1_ids",)) == [3, 3]
    assert sequence_lengths([], ("response_1_ids",)) == []
