"""A tiny model that is served: random adapters, so that λ matters, and a tokenizer of words."""

import pytest
import torch
from _run_fixtures import tiny, trained
from _turn_tokenizer import turn_tokenizer

__all__ = ["tiny", "trained"]

WORDS = [f"w{i}" for i in range(96)]


@pytest.fixture(scope="session")
def tokenizer():
    """Ninety-six words, and a chat template that ends turns with </s>."""
    return turn_tokenizer(WORDS)


@pytest.fixture
def model(make_llama, randomise):
    """A tiny Llama of two objectives, whose logits differ by whole units."""
    from mopref import PreferenceModel, SVDLoRAConfig

    config = SVDLoRAConfig(objectives=("helpful", "harmless"), rank=4, preference_rank=2)
    return randomise(PreferenceModel(make_llama(max_position_embeddings=256), config)).eval()


@pytest.fixture
def alone(model):
    """The greedy tokens of a prompt by itself, by ``generate``, at a preference."""
    from mopref.llm.policy import Sampling, sample_responses

    def alone(prompt_ids, preference, count, stops=()):
        sampling = Sampling(max_new_tokens=count, stop_token_ids=stops)
        (response,) = sample_responses(model, [list(prompt_ids)], torch.tensor([preference]), sampling, greedy=True)
        return response.ids

    return alone


@pytest.fixture
def make_server(model, tokenizer):
    """Factory of servers of the tiny model; its workers end with the test."""
    pytest.importorskip("fastapi")
    from mopref.serving.launch import ServerSettings, serve_model
    from mopref.serving.opening import Opened

    made = []

    def make(host: str = "127.0.0.1", **settings):
        server = serve_model(Opened(model, tokenizer), ServerSettings(**settings), host=host)
        made.append(server)
        return server

    yield make
    for server in made:
        server.worker.close()


@pytest.fixture
def form():
    """A request that is right."""
    return {
        "messages": [{"role": "user", "content": "w1 w2 w3"}],
        "preference": {"helpful": 0.7, "harmless": 0.3},
        "temperature": 0,
        "max_tokens": 8,
    }
