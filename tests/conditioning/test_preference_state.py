"""The preference in force, and which row of it belongs to which row of an activation."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from mopref.conditioning.preference_state import PreferenceRecord, PreferenceState

ROWS = torch.tensor([[1.0, 0.0], [0.5, 0.5]])


def state_of(*token_counts: int) -> PreferenceState:
    state = PreferenceState()
    state.set(PreferenceRecord(ROWS, token_counts=token_counts))
    return state


def test_rows_are_those_of_the_activation_or_one_for_all():
    state = state_of()
    assert torch.equal(state.rows((2, 3)), ROWS)
    for count in (1, 3, 4):
        with pytest.raises(ValueError, match=f"2 preferences were given, but a layer sees {count} rows"):
            state.rows((count, 3))
    state.set(PreferenceRecord(ROWS[:1]))
    for shape, layout in (((7, 3), "rows first"), ((7, 4, 3), "tokens first"), ((5, 3), "mixed"), ((3,), "rows first")):
        assert torch.equal(state.rows(shape, layout), ROWS[:1])


@pytest.mark.parametrize("tokens", [2, 3, 5])
def test_a_row_is_repeated_for_its_tokens_where_they_share_a_dimension(tokens):
    state = state_of(tokens)
    assert torch.equal(state.rows((2 * tokens, 3)), ROWS[[0] * tokens + [1] * tokens])
    assert torch.equal(state.rows((2, 3)), ROWS)
    for shape in ((tokens + 7, 3), (2 * tokens, 4, 3), (2 * tokens + 2, 3)):
        with pytest.raises(ValueError, match=f"but up_proj sees {shape[0]} rows: give one preference for each row"):
            state.rows(shape, layer="up_proj")


def test_an_encoder_and_a_decoder_have_tokens_of_their_own():
    state = state_of(3, 5)
    assert torch.equal(state.rows((6, 4)), ROWS[[0, 0, 0, 1, 1, 1]])
    assert torch.equal(state.rows((10, 4)), ROWS[[0] * 5 + [1] * 5])
    with pytest.raises(ValueError, match="sees 8 rows"):
        state.rows((8, 4))


def test_rows_behind_the_tokens():
    state = state_of(2)
    assert torch.equal(state.rows((2, 2, 4), "tokens first"), ROWS)
    assert torch.equal(state.rows((9, 2, 4), "tokens first"), ROWS)
    with pytest.raises(ValueError, match="sees 3 rows"):
        state.rows((2, 3, 4), "tokens first")


def test_an_activation_without_tokens_has_its_rows_first():
    assert torch.equal(state_of().rows((2, 5), "tokens first"), ROWS)
    with pytest.raises(ValueError, match="sees 5 rows"):
        state_of().rows((5, 2), "tokens first")


def test_mixed_rows_take_a_single_preference_only():
    state = state_of(3)
    for count in (1, 2, 6):
        with pytest.raises(
            ValueError, match=rf"but gate sees {count} rows that are not those of the batch .* a single"
        ):
            state.rows((count, 4), "mixed", "gate")
    with state.generation(), pytest.raises(ValueError, match="not those of the batch"):
        state.rows((2, 4), "mixed", "gate")


def test_rows_repeat_in_generation_only():
    state = state_of()
    with state.generation():
        assert torch.equal(state.rows((4, 3)), ROWS[[0, 0, 1, 1]])
        assert torch.equal(state.rows((4, 1, 3)), ROWS[[0, 0, 1, 1]])
        assert torch.equal(state.rows((1, 4, 3), "tokens first"), ROWS[[0, 0, 1, 1]])
        with pytest.raises(ValueError, match="a layer sees 3 rows"):
            state.rows((3, 3))
    with pytest.raises(ValueError, match="a layer sees 4 rows"):
        state.rows((4, 3))


def test_no_preference_has_no_rows():
    with pytest.raises(ValueError, match=r"no preference is set: call model\(\.\.\., preferences=λ\)"):
        PreferenceState().rows((1, 3))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 4), "rows first"),
        ((2, 5, 4), "rows first"),
        ((2, 5, 3, 4), "rows first"),
        ((5, 2, 4), "tokens first"),
        ((5, 2, 3, 4), "tokens first"),
        ((2, 4), "tokens first"),
    ],
)
def test_values_multiply_the_rows_that_they_belong_to(shape, layout):
    values = torch.tensor([[2.0] * 4, [3.0] * 4])
    product = torch.ones(shape) * PreferenceState.beside(values, len(shape), layout)
    assert product.shape == shape
    rows = product.transpose(0, 1) if layout == "tokens first" and len(shape) > 2 else product
    assert (rows[0] == 2).all()
    assert (rows[1] == 3).all()


def test_a_single_row_without_a_batch():
    assert PreferenceState.beside(ROWS[:1], 1).shape == (2,)


def test_gates_are_dropped_with_their_preference_and_after_generation():
    state, layer = PreferenceState(), nn.Identity()
    state.set(PreferenceRecord(ROWS))
    with state.generation():
        state.gates[layer, 2] = torch.ones(2, 3)
        state.set(PreferenceRecord(ROWS.flip(0)))
        assert state.gates == {}
        state.gates[layer, 2] = torch.ones(2, 3)
    assert state.gates == {}


OTHER = PreferenceRecord(ROWS[:1], False, (7, 9))


def test_another_record_holds_for_a_while():
    state = state_of(4)
    before = state.record
    with state.in_force(OTHER):
        assert state.record is OTHER
        assert (state.preferences is ROWS, state.enabled) == (False, False)
    assert state.record is before
    with pytest.raises(RuntimeError, match="inside"), state.in_force(OTHER):
        raise RuntimeError("inside")
    assert state.record is before
    assert (state.preferences is ROWS, state.enabled) == (True, True)


def test_a_recomputation_is_seen_by_its_thread_alone():
    state = state_of(4)
    before = state.record
    # Without a turn, which another thread may have for long.
    with ThreadPoolExecutor(1) as threads, state.recomputation(OTHER):
        assert state.record is OTHER
        assert torch.equal(state.rows((5, 3)), ROWS[:1])
        assert threads.submit(lambda: state.record).result() is before
        last = PreferenceRecord(ROWS.flip(0))
        threads.submit(state.set, last).result()
        assert state.record is OTHER
        with state.recomputation(last):
            assert state.record is last
        assert state.record is OTHER
    assert state.record is last
    with pytest.raises(RuntimeError, match="inside"), state.recomputation(OTHER):
        raise RuntimeError("inside")
    assert state.record is last


def test_a_state_made_from_anothers_content_takes_turns_and_recomputes():
    """As whatever copies or stores objects makes it."""
    state = copy.copy(state_of(4))
    assert torch.equal(state.preferences, ROWS)
    with state.turn, state.recomputation(OTHER):
        assert state.record is OTHER


def test_a_copy_is_in_force_of_nothing():
    state = PreferenceState()
    state.set(PreferenceRecord((2 * ROWS.clone().requires_grad_()) / 2, token_counts=(3,)))
    copied = copy.deepcopy({"first": state, "second": state})
    assert copied["first"] is copied["second"]
    assert copied["first"].record == PreferenceRecord()
    assert state.preferences is not None
