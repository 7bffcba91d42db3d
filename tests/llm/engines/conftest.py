"""A tiny model with random adapters, and a server of its base, for tests of engines."""

import pytest
from _fake_vllm import fake_vllm

from mopref import PreferenceModel, SVDLoRAConfig


@pytest.fixture
def model(make_llama, randomise) -> PreferenceModel:
    """A tiny Llama with random adapters for the rewards of ``_counted_rewards``."""
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2)
    return randomise(PreferenceModel(make_llama(), config), std=0.15)


@pytest.fixture
def server(make_llama):
    """A server of the base of ``model``."""
    with fake_vllm(make_llama()) as running:
        yield running
