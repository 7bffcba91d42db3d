"""Packed rows hold every token once, at its own position, and let it see its own prompt and response only."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn.attention.flex_attention import create_mask

from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy.packing import attention_mask, block_mask, pack

CORNERS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


@st.composite
def batches(draw):
    """Prompts, responses, and a preference for each; several sequences may have one prompt."""
    sizes = st.integers(1, 6)
    prompts = [list(range(10 * i, 10 * i + draw(sizes))) for i in range(draw(st.integers(1, 4)))]
    which = draw(st.lists(st.integers(0, len(prompts) - 1), min_size=1, max_size=7))
    responses = [[100 + draw(st.integers(0, 20)) for _ in range(draw(sizes))] for _ in which]
    corners = draw(st.lists(st.integers(0, 1), min_size=len(which), max_size=len(which)))
    return [prompts[i] for i in which], responses, CORNERS[corners]


def seen_tokens(packed, ids, place: int) -> list[tuple[int, int]]:
    """The tokens and positions that a place sees, by the mask."""
    length = packed.source.shape[1]
    row, column = divmod(place, length)
    visible = attention_mask(packed, torch.float32)[row, 0, column] == 0
    tokens, positions = packed.gathered(ids)[row, visible], packed.position_ids[row, visible]
    return list(zip(tokens.tolist(), positions.tolist(), strict=True))


@settings(max_examples=150)
@given(batch=batches())
def test_what_predicts_a_token_sees_its_sequence_before_it(batch):
    prompts, responses, preferences = batch
    sequences = collate_sequences(prompts, responses)
    packed = pack(sequences, preferences)
    if packed is None:
        return
    places = iter(packed.predicting.tolist())
    for prompt, response, preference in zip(prompts, responses, preferences, strict=True):
        whole = [*prompt, *response]
        for count in range(len(prompt), len(whole)):
            place = next(places)
            assert seen_tokens(packed, sequences.input_ids, place) == [
                (token, i) for i, token in enumerate(whole[:count])
            ]
            at = packed.preference_indices.flatten()[place]
            assert packed.preferences[at].equal(preference)
    assert next(places, None) is None
    assert packed.source.numel() <= 0.95 * sequences.input_ids.numel()
    assert not attention_mask(packed, torch.float32).amax(dim=-1).any(), "every token sees one"
    groups = {(tuple(prompt), tuple(row.tolist())) for prompt, row in zip(prompts, preferences, strict=True)}
    tokens = sum(len(prompt) for prompt, _ in groups) + sum(map(len, responses))
    assert (packed.groups >= 0).sum() == tokens


def test_a_prompt_stands_once_for_its_responses_under_one_preference():
    sequences = collate_sequences([[1, 2, 3]] * 3, [[4], [5, 6], [7]])
    packed = pack(sequences, CORNERS[[0, 0, 1]])
    assert packed is not None
    rows = {tuple(row.tolist()) for row in packed.gathered(sequences.input_ids)}
    assert rows == {(1, 2, 3, 4, 5, 6), (1, 2, 3, 7, 1, 1)}
    assert sorted(packed.preferences.tolist()) == [[0.0, 1.0], [1.0, 0.0]]


def test_one_preference_for_all_is_one():
    sequences = collate_sequences([[1, 2, 3]] * 4, [[4], [5, 6], [7], [8]])
    for preferences in (CORNERS[:1], CORNERS[[0, 0, 0, 0]]):
        packed = pack(sequences, preferences)
        assert packed.preferences.equal(CORNERS[:1])
        assert not packed.preference_indices.any()
    assert pack(sequences, None).preferences is None


def test_what_saves_little_or_is_too_long_is_not_packed():
    equal = collate_sequences([[1, 2], [3, 4]], [[5, 6], [7, 8]])
    assert pack(equal, None) is None
    shared = collate_sequences([[1, 2, 3]] * 2, [[4, 5], [6, 7]])
    assert pack(shared, None).source.shape == (1, 7)
    assert pack(shared, None, longest_row=7) is not None
    assert pack(shared, None, longest_row=6) is None


def test_short_groups_share_a_row():
    prompts = [[1] * 5, [2] * 3, [3], [4]]
    packed = pack(collate_sequences(prompts, [[9] * 5, [9] * 3, [9], [9]]), None)
    assert [sorted(set(row.tolist())) for row in packed.groups] == [[0], [1, 2, 3]]
    assert packed.source.shape == (2, 10)


def test_tokens_of_paddings_number_are_no_padding():
    """Prompts [0, 1] and [1], which are padded to the same ids."""
    sequences = collate_sequences([[0, 1], [1], [0, 1], [1]], [[5], [6], [7], [8]])
    packed = pack(sequences, None)
    if packed is not None:
        assert len(set(packed.groups[packed.groups >= 0].tolist())) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mask_is_finite_in_its_own_type(dtype):
    packed = pack(collate_sequences([[1, 2, 3]] * 2, [[4, 5], [6, 7]]), None)
    mask = attention_mask(packed, dtype)
    assert mask.dtype == dtype
    assert mask.isfinite().all()
    assert mask.shape == (1, 1, 7, 7)


def test_the_mask_for_flex_attention_is_the_same():
    prompts = [[1] * 5, [2] * 3, [3], [4]] * 2
    packed = pack(collate_sequences(prompts, [[9] * 5, [9] * 3, [9], [9], [8], [8] * 2, [8] * 4, [8]]), None)
    rows, length = packed.groups.shape
    mask = block_mask(packed)
    seen = create_mask(mask.mask_mod, rows, 1, length, length, device="cpu")
    assert seen.equal(attention_mask(packed, torch.float32) == 0)
    assert mask.shape[-2:] == (length, length)
