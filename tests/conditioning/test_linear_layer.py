"""What has to be known of one linear layer."""

import pytest
import torch
from torch import nn

from mopref.conditioning.linear_layer import adapter_dtype, is_adaptable, layer_sizes


def test_sizes_and_kinds_of_layers(make_gpt2):
    transposed = make_gpt2().transformer.h[0].mlp.c_fc
    assert layer_sizes(transposed) == (256, 64)
    assert layer_sizes(nn.Linear(4, 2)) == (2, 4)
    assert is_adaptable(transposed)
    assert is_adaptable(nn.Linear(4, 2))

    class Packed(nn.Linear):
        """As quantised layers are: a linear layer whose weight may be anything."""

    assert is_adaptable(Packed(4, 2))
    assert not is_adaptable(nn.MultiheadAttention(4, 2).out_proj)
    assert not is_adaptable(nn.Conv1d(4, 2, 1))


@pytest.mark.parametrize(
    ("stored", "trained"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.int8, torch.float32),
    ],
)
def test_adapters_train_in_single_precision_or_in_the_bases_double(stored, trained):
    assert adapter_dtype(torch.zeros(2, dtype=stored)) == trained
