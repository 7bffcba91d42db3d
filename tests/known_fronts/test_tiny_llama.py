"""The tiny Llama: random, the same by its seed, far from uniform, and no global generator is touched."""

import pytest
import torch

from mopref.known_fronts import tiny_llama

TOKENS = torch.tensor([[3, 4, 5, 6]])


def test_it_is_told_by_its_seed_alone():
    state = torch.random.get_rng_state()
    first = tiny_llama(seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    with torch.no_grad():
        logits = first(TOKENS).logits
        assert torch.equal(tiny_llama(seed=3)(TOKENS).logits, logits)
        assert not torch.equal(tiny_llama(seed=4)(TOKENS).logits, logits)
    assert logits.shape == (1, 4, 24)
    assert logits.std() > 0.5
    assert not first.training


def test_sizes_and_other_settings():
    model = tiny_llama(vocabulary=30, layers=2, hidden=16, tie_word_embeddings=True)
    assert len(model.model.layers) == 2
    assert model.config.hidden_size == 16
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("wrong", [{"vocabulary": 0}, {"layers": 0}, {"hidden": 0}, {"hidden": 12}])
def test_sizes_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        tiny_llama(**wrong)
