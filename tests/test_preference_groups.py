"""Groups of rows, each under one preference."""

import pytest
import torch

from mopref.preference_groups import refuse_empty_groups, spread_evenly

PREFERENCES = torch.tensor([[1.0, 0.0], [0.25, 0.75]])


def test_spread_evenly():
    rows = spread_evenly(PREFERENCES, 4)
    assert torch.equal(rows, PREFERENCES[[0, 0, 1, 1]])
    with pytest.raises(
        ValueError, match="a batch of 5 rows cannot be shared evenly among 2 preferences: make the batch"
    ):
        spread_evenly(PREFERENCES, 5)


def test_a_group_without_a_label_is_named():
    refuse_empty_groups(torch.tensor([[1, 2], [3, 1]]), ("left", "right"))
    with pytest.raises(ValueError, match="group 1 has no row labelled on 'left', so that loss has no value"):
        refuse_empty_groups(torch.tensor([[1, 2], [0, 1]]), ("left", "right"))
