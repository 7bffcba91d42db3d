"""A batch whose rows join and leave: every row gets the tokens that it gets alone."""

import random

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Sampling
from mopref.serving.decoding import DecodingBatch, DecodingRequest, can_join

SAMPLING = Sampling(stop_token_ids=())


def requests(count: int, seed: int = 3, **settings) -> list[DecodingRequest]:
    source = random.Random(seed)
    made = []
    for number in range(count):
        ids = tuple(source.randrange(4, 100) for _ in range(source.randrange(1, 20)))
        weight = source.random()
        made.append(DecodingRequest(ids, (weight, 1 - weight), 4 + number % 9, seed=number, **settings))
    return made


def answered(model, asked: list[DecodingRequest], at_once: int) -> list[list[int]]:
    """The tokens of all requests, of which so many join before each token, and each leaves when it has its own."""
    batch, tokens = DecodingBatch(model, SAMPLING), [[] for _ in asked]
    running, waiting = [], list(range(len(asked)))
    while waiting or running:
        new, waiting = waiting[:at_once], waiting[at_once:]
        if new:
            for row, token in zip(new, batch.join([asked[row] for row in new]), strict=True):
                tokens[row].append(token)
            running += new
        with batch.in_force() as base:
            for row, token in zip(running, batch.step(base), strict=True):
                tokens[row].append(token)
        places = [place for place, row in enumerate(running) if len(tokens[row]) < asked[row].max_new_tokens]
        batch.keep(places)
        running = [running[place] for place in places]
        assert batch.rows == [asked[row] for row in running]
    assert batch.cache is None
    return tokens


@pytest.fixture
def gpt2(make_gpt2, randomise):
    return randomise(PreferenceModel(make_gpt2(), SVDLoRAConfig(objectives=("helpful", "harmless")))).eval()


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_sixty_four_rows_each_as_alone(model, alone, at_once):
    asked = requests(64)
    expected = [alone(each.prompt_ids, each.preference, each.max_new_tokens) for each in asked]
    assert answered(model, asked, at_once) == expected
    # Else nothing was shown: another preference has other tokens.
    swapped = [alone(each.prompt_ids, each.preference[::-1], each.max_new_tokens) for each in asked]
    assert sum(one != other for one, other in zip(swapped, expected, strict=True)) > 50


def test_positions_from_a_table_and_a_transposed_weight(gpt2):
    asked = requests(12)
    together = answered(gpt2, asked, 3)
    assert together == [answered(gpt2, [each], 1)[0] for each in asked]
    merged = gpt2.merge(asked[4].preference)
    ids = list(asked[4].prompt_ids)
    for token in together[4]:
        assert merged(torch.tensor([ids])).logits[0, -1].argmax() == token
        ids.append(token)


def test_sampled_rows_are_the_same_whoever_else_is_there(model):
    asked = requests(24, temperature=1.3, top_p=0.9)
    together = answered(model, asked, 4)
    assert together == [answered(model, [each], 1)[0] for each in reversed(asked)][::-1]
    assert together != answered(model, requests(24), 4)


def test_a_strength_scales_the_change_of_its_row_alone(model, make_llama, merge_by_hand):
    strengths = [0.0, 0.5, 1.0, 2.0]
    asked = [
        DecodingRequest(each.prompt_ids, each.preference, 6, strength)
        for each, strength in zip(requests(4), strengths, strict=True)
    ]
    for each, tokens in zip(asked, answered(model, asked, 2), strict=True):
        base = make_llama(max_position_embeddings=256)
        merged = merge_by_hand(base, model, torch.tensor(each.preference), scaling=each.strength)
        ids = list(each.prompt_ids)
        for token in tokens:
            assert merged(torch.tensor([ids])).logits[0, -1].argmax() == token
            ids.append(token)


def test_a_token_that_the_tokenizer_lacks_is_never_chosen(model, alone):
    request = requests(1)[0]
    (first, *_) = alone(request.prompt_ids, request.preference, 2)
    kept = DecodingBatch(model, Sampling(stop_token_ids=(), vocabulary=(range(first), range(first + 1, 100))))
    assert kept.join([request]) != [first]


def test_an_error_while_joining_leaves_the_batch(model, monkeypatch):
    asked = requests(3)
    batch = DecodingBatch(model, SAMPLING)
    batch.join(asked[:2])
    columns = batch.cache.get_seq_length()
    with pytest.raises(IndexError):
        batch.join([DecodingRequest((100_000,), (1.0, 0.0), 3)])
    assert batch.rows == asked[:2]
    assert batch.cache.get_seq_length() == columns
    with batch.in_force() as base:
        assert len(batch.step(base)) == 2


def test_columns_that_no_row_uses_are_dropped(model):
    long, short = DecodingRequest(tuple(range(4, 44)), (1.0, 0.0), 3), DecodingRequest((5, 6), (0.0, 1.0), 3)
    batch = DecodingBatch(model, SAMPLING)
    batch.join([long, short])
    assert batch.cache.get_seq_length() == 40
    batch.keep([1])
    assert batch.cache.get_seq_length() == 2


def test_whether_rows_can_join(model, gpt2, randomise):
    from transformers import MistralConfig, MistralForCausalLM

    assert can_join(model)
    assert can_join(gpt2)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=100, num_key_value_heads=2, sliding_window=8, **sizes)
    windowed = PreferenceModel(MistralForCausalLM(config).eval(), SVDLoRAConfig(objectives=("a", "b")))
    assert not can_join(windowed)


def test_the_mode_and_gradients_of_the_caller_stay(model):
    batch = DecodingBatch(model, SAMPLING)
    batch.join(requests(1))
    assert torch.is_grad_enabled()
    assert not any(layer.keys.requires_grad for layer in batch.cache.layers)
