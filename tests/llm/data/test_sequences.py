"""Padded batches: every response starts in the same column, and nothing is lost on the way in and out."""

import copy

import pytest
import torch
from _tensors import DEVICE

from mopref.llm.data.sequences import collate_sequences, optional_column

PROMPTS, RESPONSES = [[11, 12, 13], [21]], [[14], [22, 23]]


def states_of(prompts, responses, size=2):
    """Activations in which every token's own id stands, and its place."""
    rows = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    return [torch.tensor([[float(token), float(place)][:size] for place, token in enumerate(row)]) for row in rows]


def test_layout():
    """Prompts are padded on the left and responses on the right, so that all responses start in one column."""
    sequences = collate_sequences(PROMPTS, RESPONSES)
    assert sequences.attention_mask.tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    mask = sequences.attention_mask.bool()
    assert sequences.input_ids[0][mask[0]].tolist() == [11, 12, 13, 14]
    assert sequences.input_ids[1][mask[1]].tolist() == [21, 22, 23]
    assert (sequences.input_ids[~mask] == 0).all()
    assert sequences.position_ids[0][mask[0]].tolist() == [0, 1, 2, 3]
    assert sequences.position_ids[1][mask[1]].tolist() == [0, 1, 2]
    assert sequences.response_mask.tolist() == [[1, 0], [1, 1]]
    assert sequences.response_mask.dtype == torch.bool
    assert (sequences.position_ids >= 0).all()
    assert sequences.lower_hidden_states is None
    assert {part.dtype for part in sequences[:3]} == {torch.int64}


def test_targets_and_lengths():
    sequences = collate_sequences(PROMPTS, RESPONSES)
    assert sequences.targets.tolist() == [[14, 0], [22, 23]]
    assert sequences.response_lengths.tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_every_token_comes_back(seed):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return [
            torch.randint(1, 100, (int(torch.randint(1, 9, (), generator=generator)),), generator=generator).tolist()
            for _ in range(6)
        ]

    prompts, responses = draw(), draw()
    sequences = collate_sequences(prompts, responses)
    columns = max(map(len, responses))
    assert sequences.input_ids.shape == (6, max(map(len, prompts)) + columns)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        mask = sequences.attention_mask[row].bool()
        assert sequences.input_ids[row][mask].tolist() == prompt + response
        assert sequences.position_ids[row][mask].tolist() == list(range(len(prompt + response)))
        assert sequences.targets[row][sequences.response_mask[row]].tolist() == response
        # The last prompt token lies right before the first column of the responses.
        assert sequences.input_ids[row, -columns - 1] == prompt[-1]


def test_hidden_states_lie_where_their_tokens_lie():
    sequences = collate_sequences(PROMPTS, RESPONSES, states_of(PROMPTS, RESPONSES))
    assert sequences.lower_hidden_states.shape == (2, 5, 2)
    torch.testing.assert_close(sequences.lower_hidden_states[..., 0], sequences.input_ids.float())
    mask = sequences.attention_mask.bool()
    torch.testing.assert_close(sequences.lower_hidden_states[..., 1][mask], sequences.position_ids[mask].float())
    assert (sequences.lower_hidden_states[~mask] == 0).all()


def test_unpadded_hidden_states_are_what_was_collated_and_hold_no_batch():
    states = states_of(PROMPTS, RESPONSES)
    unpadded = collate_sequences(PROMPTS, RESPONSES, states).unpadded_hidden_states()
    for row, expected in zip(unpadded, states, strict=True):
        assert torch.equal(row, expected)
        assert row.untyped_storage().nbytes() == row.numel() * row.element_size()


def test_hidden_states_keep_their_type():
    states = [row.bfloat16() for row in states_of(PROMPTS, RESPONSES)]
    assert collate_sequences(PROMPTS, RESPONSES, states).lower_hidden_states.dtype == torch.bfloat16


@pytest.mark.parametrize("with_states", [False, True])
def test_rows_of_a_batch(with_states):
    prompts, responses = [*PROMPTS, [31, 32]], [*RESPONSES, [33]]
    sequences = collate_sequences(prompts, responses, states_of(prompts, responses) if with_states else None)
    rows = sequences.rows(torch.tensor([2, 0, 2]))
    assert type(rows) is type(sequences)
    for part, selection in zip(sequences, rows, strict=True):
        assert (selection is None) if part is None else torch.equal(selection, part[[2, 0, 2]])


def test_to_a_device():
    sequences = collate_sequences(PROMPTS, RESPONSES, states_of(PROMPTS, RESPONSES))
    moved = sequences.to(DEVICE)
    assert {part.device.type for part in moved} == {DEVICE.type}
    assert all(torch.equal(part.cpu(), before) for part, before in zip(moved, sequences, strict=True))
    assert collate_sequences(PROMPTS, RESPONSES).to(DEVICE).lower_hidden_states is None


def test_collating_does_not_change_its_input():
    prompts, responses, states = copy.deepcopy((PROMPTS, RESPONSES, states_of(PROMPTS, RESPONSES)))
    sequences = collate_sequences(prompts, responses, states)
    sequences.lower_hidden_states.zero_()
    assert (prompts, responses) == (PROMPTS, RESPONSES)
    assert all(torch.equal(row, before) for row, before in zip(states, states_of(PROMPTS, RESPONSES), strict=True))


@pytest.mark.parametrize(
    ("prompts", "responses", "message"),
    [
        pytest.param([[1, 2]], [[3], [4]], "1 prompts and 2 responses: give as many of both", id="different-lengths"),
        pytest.param([[1, 2], []], [[3], [4]], "prompt 1 has no token: its log-prob", id="empty-prompt"),
        pytest.param([[1, 2], [3]], [[], [4]], "response 0 has no token: its log-prob", id="empty-response"),
        pytest.param([], [], "0 prompts and 0 responses", id="no-rows"),
    ],
)
def test_what_has_no_log_probability_raises(prompts, responses, message):
    """A response without a prompt has no token to be predicted from: padding would be read in its place."""
    with pytest.raises(ValueError, match=message):
        collate_sequences(prompts, responses)


def test_as_many_states_as_sequences():
    with pytest.raises(ValueError, match="longer than argument 1"):
        collate_sequences(PROMPTS, RESPONSES, states_of(PROMPTS, RESPONSES)[:1])


def test_a_column_is_there_for_all_rows_or_for_none():
    rows = [{"states": 1}, {"states": 2}]
    assert optional_column(rows, "states") == [1, 2]
    assert optional_column(rows, "others") is None
    for mixed in ([{}, *rows], [*rows, {}]):
        with pytest.raises(
            ValueError, match=r"row [02] of a batch has no 'states', and other rows have.*precompute all"
        ):
            optional_column(mixed, "states")
