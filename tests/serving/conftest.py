"""A tiny Llama and a tiny Qwen2 with adapters on them, and the trained run of the recipes' tests."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from _run_fixtures import load, tiny, trained, tree, write_recipe

# Lets the tests of this folder import the helper module that lies beside them, and the tiny models of all families.
FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent / "families")]

__all__ = ["load", "tiny", "trained", "tree", "write_recipe"]


FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


@pytest.fixture(params=FAMILIES)
def base(request):
    """Each family in turn: the engine has the rows of q and k of some in another order, and not of others."""
    transformers = pytest.importorskip("transformers")
    name = FAMILIES[request.param]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.fixture
def model(base, randomise):
    """Adapters of unequal ranks on a copy of the base."""
    from mopref import PreferenceModel, SVDLoRAConfig

    config = SVDLoRAConfig(objectives=("helpful", "harmless"), rank=5, preference_rank=3, scaling=0.7)
    return randomise(PreferenceModel(copy.deepcopy(base), config)).eval()
