"""The preference in force, and which row of it belongs to which row of an activation."""

import copy

import pytest
import torch
from torch import nn

from mopref.conditioning.preference_state import PreferenceState

ROWS = torch.tensor([[1.0, 0.0], [0.5, 0.5]])


def test_rows_are_those_of_the_activation_or_one_for_all():
    state = PreferenceState()
    state.preferences = ROWS
    assert torch.equal(state.rows((2, 3)), ROWS)
    for count in (1, 3, 4):
        with pytest.raises(ValueError, match=f"2 preferences were given, but a layer sees {count} rows"):
            state.rows((count, 3))
    state.preferences = ROWS[:1]
    assert torch.equal(state.rows((7, 3)), ROWS[:1])


def test_rows_repeat_in_generation_only():
    state = PreferenceState()
    state.preferences = ROWS
    with state.generation():
        assert torch.equal(state.rows((4, 3)), ROWS[[0, 0, 1, 1]])
        with pytest.raises(ValueError, match="a layer sees 3 rows"):
            state.rows((3, 3))
    with pytest.raises(ValueError, match="a layer sees 4 rows"):
        state.rows((4, 3))


def test_no_preference_has_no_rows():
    with pytest.raises(ValueError, match=r"no preference is set: call model\(\.\.\., preferences=λ\)"):
        PreferenceState().rows((1, 3))


def test_gates_are_dropped_with_their_preference_and_after_generation():
    state, layer = PreferenceState(), nn.Identity()
    state.preferences = ROWS
    with state.generation():
        state.gates[layer, 2] = torch.ones(2, 3)
        state.preferences = ROWS.flip(0)
        assert state.gates == {}
        state.gates[layer, 2] = torch.ones(2, 3)
    assert state.gates == {}


def test_a_copy_is_in_force_of_nothing():
    state = PreferenceState()
    state.preferences = (2 * ROWS.clone().requires_grad_()) / 2
    copied = copy.deepcopy({"first": state, "second": state})
    assert copied["first"] is copied["second"]
    assert copied["first"].preferences is None
    assert state.preferences is not None
