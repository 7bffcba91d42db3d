"""Answers sampled at preferences: texts, lengths, KL against full logits, and the base model."""

import copy
from itertools import product

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data import tokenize_prompts
from mopref.llm.evaluation import sample_answers
from mopref.llm.policy import Sampling

NAMES = ("a", "b")
CORNERS = torch.eye(2)
PROMPTS = ["red cat", "blue dog runs here", "green"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, make_llama):
    from _tiny_runs import save_model
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(save_model(tmp_path_factory.mktemp("tiny") / "model", make_llama))


@pytest.fixture
def base(tokenizer, make_llama):
    return make_llama(vocab_size=len(tokenizer), max_position_embeddings=256)


@pytest.fixture
def model(base, randomise):
    return randomise(
        PreferenceModel(copy.deepcopy(base), SVDLoRAConfig(objectives=NAMES, rank=2, layers=[-1])), std=0.5
    )


@pytest.fixture
def rows(tokenizer):
    return tokenize_prompts(tokenizer, PROMPTS)


def test_texts_lengths_and_kl_are_those_of_the_answers(model, base, tokenizer, rows, merge_by_hand, monkeypatch):
    seen = []
    plain = tokenizer.batch_decode
    monkeypatch.setattr(tokenizer, "batch_decode", lambda ids, **options: seen.extend(ids) or plain(ids, **options))
    sampling = Sampling(max_new_tokens=5)
    answers = sample_answers(model, tokenizer, rows, CORNERS, sampling, batch_size=1)
    # Batches of one, the prompts of like length together: put them back by their texts' lengths.
    assert len(seen) == 6
    assert [len(part) for part in answers.texts] == [3, 3]
    assert sorted(answers.lengths.flatten().tolist()) == sorted(len(ids) for ids in seen)
    assert set(answers.truncated.flatten().tolist()) <= {0.0, 1.0}
    assert (answers.truncated == (answers.lengths == 5)).all(), "five tokens and no stop: cut"
    flat = [text for part in answers.texts for text in part]
    assert sorted(flat) == sorted(plain(seen, skip_special_tokens=True))


def test_the_kl_is_the_log_ratio_of_the_answer(model, base, tokenizer, rows, merge_by_hand):
    sampling = Sampling(max_new_tokens=4, stop_token_ids=())
    words = tokenizer.get_vocab()
    checked = 0
    for seed, (index, corner) in product(range(3, 9), enumerate(CORNERS)):
        answers = sample_answers(model, tokenizer, rows, CORNERS, sampling, seed=seed)
        policy = merge_by_hand(base, model, corner)
        for row, text in enumerate(answers.texts[index]):
            ids = [words[word] for word in text.split()]
            if len(ids) != 4:  # A special token among them, which the text does not show.
                continue
            prompt = rows[row]["prompt_ids"]
            whole, places = torch.tensor([prompt + ids]), range(len(prompt) - 1, len(prompt) + 3)
            logs = [torch.log_softmax(m(whole).logits[0].double(), -1)[places, ids].sum() for m in (policy, base)]
            assert answers.kl[index, row].item() == pytest.approx((logs[0] - logs[1]).item(), abs=1e-4)
            checked += 1
    assert checked >= 2


def test_an_untrained_model_is_its_base(base, tokenizer, rows):
    model = PreferenceModel(base, SVDLoRAConfig(objectives=NAMES, rank=2))
    answers = sample_answers(model, tokenizer, rows, CORNERS, Sampling(max_new_tokens=4))
    assert answers.kl.abs().max() < 1e-5
    of_base = sample_answers(model, tokenizer, rows, None, Sampling(max_new_tokens=4))
    assert of_base.kl.tolist() == [[0.0] * 3]
    assert len(of_base.texts) == 1


def test_the_base_is_sampled_without_adapters(model, base, tokenizer, rows):
    untouched = PreferenceModel(copy.deepcopy(base), SVDLoRAConfig(objectives=NAMES, rank=2))
    options = {"sampling": Sampling(max_new_tokens=6), "seed": 2}
    expected = sample_answers(untouched, tokenizer, rows, None, **options)
    assert sample_answers(model, tokenizer, rows, None, **options).texts == expected.texts
    assert sample_answers(model, tokenizer, rows, CORNERS[:1], **options).texts != expected.texts


def test_a_seed_gives_the_same_and_leaves_the_random_state(model, tokenizer, rows):
    state = torch.get_rng_state()
    first, again, other = (sample_answers(model, tokenizer, rows, 0.5 * torch.ones(2), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.texts == again.texts != other.texts
    assert torch.equal(first.kl, again.kl)


def test_without_kl(model, tokenizer, rows):
    first, plain = (sample_answers(model, tokenizer, rows, CORNERS, with_kl=flag) for flag in (True, False))
    assert plain.texts == first.texts
    assert not plain.kl.any()
    assert first.kl.any()


@pytest.mark.parametrize(
    ("data", "message"),
    [([], "nothing to answer"), ([{"prompt": "x"}], "prompt_ids"), ([{"prompt_ids": [10**6]}], "1000000")],
)
def test_what_is_no_prompt_is_refused(data, message, model, tokenizer):
    with pytest.raises(ValueError, match=message):
        sample_answers(model, tokenizer, data, CORNERS)
