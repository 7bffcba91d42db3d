"""RowObjective: group means and means over data, with some rows labelled on some objectives only."""

import pytest
import torch
from torch import nn

from mopref import RowObjective
from mopref.objective import RowLosses


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))


class Weighted(RowObjective):
    """Row value × the model's factor × the row's preference; NaN stands where there is no label."""

    names = ("a", "b")

    def num_rows(self, batch):
        return len(batch)

    def row_losses(self, model, batch, preferences):
        return RowLosses(batch * model.factor * preferences, ~batch.isnan())


NAN = float("nan")
ROWS = [torch.tensor(row) for row in ([1.0, 10.0], [2.0, NAN], [NAN, 30.0], [4.0, 40.0], [6.0, NAN])]
PREFERENCES = torch.tensor([[1.0, 0.0], [0.25, 0.75]])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_mean_losses_by_hand(batch_size):
    """Means over all labelled rows, not means of batch means."""
    model = Scale()
    found = Weighted().mean_losses(model, ROWS, PREFERENCES, batch_size)
    means = torch.tensor([(1 + 2 + 4 + 6) / 4, (10 + 30 + 40) / 3])
    assert not found.requires_grad
    torch.testing.assert_close(found, (2 * PREFERENCES * means).double())


def test_group_means_by_hand():
    model = Scale()
    losses = Weighted().losses(model, torch.stack(ROWS[:4]), PREFERENCES)
    torch.testing.assert_close(losses, torch.tensor([[2 * 1.5, 0.0], [2 * 0.25 * 4.0, 2 * 0.75 * 35.0]]))


def test_a_group_without_a_label_is_named():
    with pytest.raises(ValueError, match="group 1 has no row labelled on 'b'"):
        Weighted().losses(Scale(), torch.stack([ROWS[0], ROWS[1]]), PREFERENCES)


def test_rows_that_cannot_be_shared_evenly():
    with pytest.raises(ValueError, match="3 rows cannot be shared evenly among 2"):
        Weighted().losses(Scale(), torch.stack(ROWS[:3]), PREFERENCES)


@pytest.mark.parametrize(("data", "message"), [(None, "nothing to evaluate"), ([], "nothing"), ([ROWS[1]], "'b'")])
def test_what_cannot_be_evaluated(data, message):
    with pytest.raises(ValueError, match=message):
        Weighted().mean_losses(Scale(), data, PREFERENCES, 2)
