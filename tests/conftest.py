"""Tiny random models and helpers shared by the tests; nothing here downloads anything."""

import copy
import os
import sys
from pathlib import Path

# Lets every test import the helpers that lie beside this file.
sys.path.append(str(Path(__file__).parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from _clock import Clock
from hypothesis import settings
from torch import nn

# No example fails because the machine is busy; whatever else is in force stays.
settings.register_profile("at any pace", settings.default, deadline=None)
settings.load_profile("at any pace")

VOCABULARY = 100


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing is kept in the user's cache, or found there, but by tests that fetch."""
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("MOPREF_CACHE")
        patch.setenv("MOPREF_CACHE", str(tmp_path_factory.mktemp("cache") / "mopref"))
        yield before


@pytest.fixture(autouse=True)
def fetched_once(request, own_cache, monkeypatch):
    """Tests that fetch use the user's cache."""
    if request.node.get_closest_marker("network"):
        monkeypatch.delenv("MOPREF_CACHE") if own_cache is None else monkeypatch.setenv("MOPREF_CACHE", own_cache)


@pytest.fixture(scope="session")
def make_llama():
    """Factory of tiny Llamas in eval mode. Weights are large enough for logits to differ by whole units."""
    transformers = pytest.importorskip("transformers")

    def make(seed: int = 0, std: float = 0.15, **options) -> nn.Module:
        options = {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "initializer_range": std,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        } | options
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**options)).eval()

    return make


@pytest.fixture(scope="session")
def make_gpt2():
    """Factory of tiny GPT-2s in eval mode: Conv1D layers and absolute positions."""
    transformers = pytest.importorskip("transformers")

    def make(seed: int = 0, std: float = 0.15, **options) -> nn.Module:
        options = {
            "vocab_size": VOCABULARY,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "initializer_range": std,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        } | options
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return transformers.GPT2LMHeadModel(transformers.GPT2Config(**options)).eval()

    return make


@pytest.fixture(scope="session")
def make_mlp():
    """Factory of plain networks: no language model needed."""

    def make(seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5)).eval()

    return make


@pytest.fixture(params=["llama", "gpt2"])
def make_lm(request):
    """Each language-model factory in turn."""
    return request.getfixturevalue(f"make_{request.param}")


@pytest.fixture(scope="session")
def randomise():
    """Replace an adapter's parameters by random ones, so that ΔW is not zero and depends on λ."""

    def randomise(model: nn.Module, seed: int = 0, std: float = 0.25) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name in sorted(model.adapters):
                layer = model.adapters[name]
                for parameter in (layer.U, layer.V, layer.sigma):
                    parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
                layer.scale.copy_(0.5 + torch.rand(layer.scale.shape, generator=generator))
            gates = {id(layer.curved_gate): layer.curved_gate for layer in model.adapters.values()}
            for gate in filter(None, gates.values()):
                gate.mixture.copy_(std * torch.randn(gate.mixture.shape, generator=generator))
        return model

    return randomise


@pytest.fixture(scope="session")
def merge_by_hand():
    """W0 + c·U·diag(g(λ))·Vᵀ written into a copy of the base, from the parameters alone."""

    def merge(base: nn.Module, model: nn.Module, preference: torch.Tensor, scaling: float = 1.0) -> nn.Module:
        merged = copy.deepcopy(base)
        for name, layer in model.adapters.items():
            k = layer.sigma.numel()
            p = (layer.U.shape[1] - k) // preference.numel()
            gate = torch.cat([layer.sigma, layer.scale * preference.repeat_interleave(p)])
            delta = scaling * (layer.U * gate) @ layer.V.T
            weight = merged.get_submodule(name).weight
            with torch.no_grad():
                weight += (delta if isinstance(merged.get_submodule(name), nn.Linear) else delta.T).to(weight.dtype)
        return merged

    return merge


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock that progress bars read, put forward by hand; nothing is written between their updates."""
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    return clock


@pytest.fixture
def five_preferences() -> torch.Tensor:
    """Two objectives: both corners, the middle and two others."""
    return torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.5, 0.5], [0.1, 0.9], [0.0, 1.0]])


@pytest.fixture
def token_batch() -> torch.Tensor:
    """Five rows of eight ordinary tokens."""
    return torch.randint(3, VOCABULARY, (5, 8), generator=torch.Generator().manual_seed(11))


@pytest.fixture(scope="session")
def make_pairs():
    """Factory of tokenised preference pairs of random lengths, one for each row of labels."""

    def make(labels: list[list[int]], shortest_prompt: int = 1) -> list[dict]:
        generator = torch.Generator().manual_seed(4)

        def draw(low: int, high: int) -> list[int]:
            length = int(torch.randint(low, high, (), generator=generator))
            return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()

        return [
            {
                "prompt_ids": draw(shortest_prompt, 7),
                "response_0_ids": draw(1, 6),
                "response_1_ids": draw(1, 6),
                "labels": chosen,
            }
            for chosen in labels
        ]

    return make
