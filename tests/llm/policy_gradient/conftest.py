"""Lets the tests of this folder import the helper module that lies beside them, and gives them a conditioned model."""

import sys
from pathlib import Path

import pytest

from mopref import PreferenceModel, SVDLoRAConfig

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def model(make_llama, randomise) -> PreferenceModel:
    """A tiny Llama with random adapters, so that its policy is not the reference and depends on λ."""
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2)
    return randomise(PreferenceModel(make_llama(), config), std=0.15)
