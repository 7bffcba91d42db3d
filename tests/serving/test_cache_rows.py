"""Rows of a cache: joined flush right, and kept in an order, without a value changed."""

import pytest
import torch
from torch import nn

from mopref.serving.cache_rows import cache_of, cache_option, is_joinable, joined_rows, kept_rows


def cache(rows: int, columns: int, seed: int = 0):
    from transformers import DynamicCache

    generator = torch.Generator().manual_seed(seed)
    made = DynamicCache()
    for layer in range(2):
        made.update(*(torch.randn(rows, 3, columns, 4, generator=generator) for _ in range(2)), layer)
    return made


@pytest.mark.parametrize(("first", "second"), [(2, 5), (5, 2), (3, 3)])
def test_rows_are_joined_flush_right(first, second):
    one, two = cache(2, first, 1), cache(3, second, 2)
    both = joined_rows(one, two)
    assert both.get_seq_length() == max(first, second)
    for layer in range(2):
        for part in ("keys", "values"):
            whole = getattr(both.layers[layer], part)
            assert torch.equal(whole[:2, :, -first:], getattr(one.layers[layer], part))
            assert torch.equal(whole[2:, :, -second:], getattr(two.layers[layer], part))
            assert not whole[:2, :, : max(0, second - first)].any()


def test_rows_are_kept_in_their_order_with_their_last_columns():
    before = cache(4, 6)
    after = kept_rows(before, torch.tensor([3, 0]), 4)
    for old, new in zip(before.layers, after.layers, strict=True):
        assert torch.equal(new.keys, old.keys[[3, 0], :, 2:])
        assert torch.equal(new.values, old.values[[3, 0], :, 2:])


def test_a_window_or_another_state_is_not_joinable(make_llama):
    from transformers import DynamicCache, MistralConfig, StaticCache

    assert is_joinable(cache(1, 2))
    window = DynamicCache(config=MistralConfig(sliding_window=4, num_hidden_layers=2))
    assert not is_joinable(window)
    assert not is_joinable(StaticCache(config=make_llama().config, max_cache_len=4))


def test_the_cache_of_a_model_is_found(make_lm):
    model = make_lm()
    ids = torch.tensor([[3, 4]])
    option = cache_option(model)
    output = model(ids, use_cache=True)
    longer = model(torch.tensor([[5]]), use_cache=True, **{option: cache_of(output)})
    torch.testing.assert_close(longer.logits[:, -1], model(torch.tensor([[3, 4, 5]])).logits[:, -1])


def test_a_model_without_a_cache_is_refused():
    with pytest.raises(ValueError, match="Linear takes no cache of keys and values"):
        cache_option(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="without a cache"):
        cache_of(torch.zeros(2))
