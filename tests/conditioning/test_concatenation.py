"""ConcatenationModel: λ as more features of the first input."""

import math

import pytest
import torch
from _tensors import DEVICE, DTYPE, randn, tensor
from torch import nn

from mopref.conditioning.concatenation import ConcatenationModel


def test_by_hand():
    base = nn.Linear(3, 1).to(DEVICE, DTYPE)
    with torch.no_grad():
        base.weight.copy_(tensor([[1.0, 10.0, 100.0]]))
        base.bias.zero_()
    # λ = (1, 0) is λ̃ = (√3, −√3).
    y = ConcatenationModel(base, 2)(tensor([[2.0], [3.0]]), preferences=[[1.0, 0.0], [0.5, 0.5]])
    torch.testing.assert_close(y, tensor([[2 - 90 * math.sqrt(3)], [3.0]]))


def test_passes_other_arguments_on():
    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x, other, factor):
            return self.layer(x) * factor, other

    y, other = ConcatenationModel(Base(), 2)(torch.ones(2, 1), "other", preferences=[0.5, 0.5], factor=0.0)
    assert other == "other"
    assert (y == 0).all()


@pytest.mark.parametrize("x", [torch.tensor(1.0), torch.ones(3), torch.ones(3, 1, dtype=torch.long)])
def test_needs_rows_of_features(x):
    with pytest.raises(ValueError, match="floating-point of shape"):
        ConcatenationModel(nn.Linear(3, 1), 2)(x, preferences=[0.5, 0.5])


class Echo(nn.Module):
    """Returns what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x


def test_preferences_are_appended_at_every_place_between_rows_and_features():
    x = randn((3, 4, 5), torch.Generator().manual_seed(0))
    inputs = ConcatenationModel(Echo().to(DEVICE, DTYPE), 2)(x, preferences=[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert torch.equal(inputs[..., :5], x)
    root = math.sqrt(3)
    expected = tensor([[root, -root], [0.0, 0.0], [-root, root]])[:, None].expand(3, 4, 2)
    torch.testing.assert_close(inputs[..., 5:], expected)
