"""Lets the tests of this folder import the helper module that lies beside them, and gives them a conditioned model."""

import sys
from pathlib import Path

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def model(make_lm, randomise) -> PreferenceModel:
    """A tiny Llama and a tiny GPT-2 in turn, whose adapters are random, so that λ matters."""
    config = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2)
    return randomise(PreferenceModel(make_lm(), config)).eval()


@pytest.fixture
def prompts() -> list[list[int]]:
    """Five prompts of other lengths."""
    generator = torch.Generator().manual_seed(8)
    return [torch.randint(12, 100, (length,), generator=generator).tolist() for length in (3, 9, 1, 5, 6)]


@pytest.fixture
def responses() -> list[list[int]]:
    """Five responses of other lengths."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(3, 100, (length,), generator=generator).tolist() for length in (4, 1, 7, 3, 2)]
