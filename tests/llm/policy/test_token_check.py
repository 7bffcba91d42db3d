"""Rows of token ids at the door of a model: its own tokens pass, everything else is named with its row."""

import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling, sample_responses
from mopref.llm.policy.token_check import Vocabulary, check_stop_tokens, stated_size, token_counts

COLUMNS = ("prompt_ids", "response_ids")


def row(prompt, response=(5,)) -> dict:
    return {"prompt_ids": prompt, "response_ids": response}


@pytest.mark.parametrize(
    "ids",
    [
        [0, 99, 7],
        (0, 99, 7),
        np.array([0, 99, 7]),
        np.array([0, 99, 7], dtype=np.uint8),
        torch.tensor([0, 99, 7]),
        [np.int64(0), np.int32(99), 7],
        list(torch.tensor([0, 99, 7])),
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_tokens_of_the_model_are_counted_whatever_holds_them(ids, make_llama):
    assert token_counts(make_llama(), [row([1]), row(ids, ids[:2])], COLUMNS) == [(1, 1), (3, 2)]
    assert token_counts(make_llama(), [], COLUMNS) == []


NO_IDS = "give a list of whole numbers ≥ 0, as the model's tokenizer makes them"
WRONG = [
    ([3, 100], r"the token 100 in prompt_ids, but LlamaForCausalLM has embeddings for 100 tokens, 0 … 99: tokenise"),
    ([-1, 3], "the token -1 in prompt_ids, but LlamaForCausalLM has embeddings for 100 tokens"),
    (torch.tensor([3, 4000]), "the token 4000 in prompt_ids, but"),
    ([3, 2**70], f"the token {2**70} in prompt_ids, but"),
    ([3, 1.9], f"a float in prompt_ids: {NO_IDS}"),
    ([1.0], f"a float in prompt_ids: {NO_IDS}"),
    ([math.nan], "a float in prompt_ids"),
    ([True, 3], "a bool in prompt_ids"),
    ([3, None], "a NoneType in prompt_ids"),
    ([3, "secret"], "a str in prompt_ids"),
    ([[3], [4]], "a list in prompt_ids"),
    (np.array([[3, 4]]), "a list in prompt_ids"),
    (np.array([1.9]), "a float in prompt_ids"),
    (torch.tensor([1.9]), "a float in prompt_ids"),
    (torch.tensor([True]), "a bool in prompt_ids"),
    (list(torch.tensor([1.9])), "a Tensor in prompt_ids"),
    (pyarrow.array([3, 4]), "a Int64Scalar in prompt_ids"),
    ("secret", "a str as prompt_ids"),
    ({"secret": 1}, "a dict as prompt_ids"),
    (None, "a NoneType as prompt_ids"),
    (3, "a int as prompt_ids"),
    (torch.tensor(3), "a int as prompt_ids"),
    ([], "no token in prompt_ids"),
    (torch.tensor([], dtype=torch.int64), "no token in prompt_ids"),
]


@pytest.mark.parametrize(("ids", "message"), WRONG, ids=[message for _, message in WRONG])
def test_others_are_named_with_their_row_and_no_text_is_shown(ids, message, make_llama):
    with pytest.raises(ValueError, match=rf"^row 1 has {message}") as error:
        token_counts(make_llama(), [row([1]), row(ids)], COLUMNS)
    assert "secret" not in str(error.value)


def test_the_first_wrong_row_and_its_column_are_told(make_llama):
    rows = [row([1]), row([1], [5, 200]), row([300])]
    with pytest.raises(ValueError, match=r"^sample 1 has the token 200 in response_ids, but .* predicts 100 tokens"):
        token_counts(make_llama(), rows, COLUMNS, "sample")


def test_tokens_are_counted_after_the_embeddings_were_resized(make_llama):
    base = make_llama()
    with pytest.raises(ValueError, match=r"resize_token_embeddings\(len\(tokenizer\)\) before the model is wrapped"):
        token_counts(base, [row([103])], COLUMNS)
    base.resize_token_embeddings(104)
    assert token_counts(base, [row([103])], COLUMNS) == [(1, 1)]


# How many tokens a model has.


class Tokens(nn.Module):
    """A model that says as much of its tokens as it is made to."""

    def __init__(self, embeddings=None, head=None, stated=None) -> None:
        super().__init__()
        self.parts = [embeddings, head]
        if stated is not None:
            self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=stated))

    def get_input_embeddings(self):
        if isinstance(self.parts[0], Exception):
            raise self.parts[0]
        return self.parts[0]

    def get_output_embeddings(self):
        return self.parts[1]


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        (Tokens(nn.Embedding(12, 2), nn.Linear(2, 10), 11), (12, 10)),
        (Tokens(nn.Embedding(12, 2), None, 11), (12, 11)),
        (Tokens(nn.Embedding(12, 2)), (12, 12)),
        # An adaptive embedding, one of patches, or none, tells no number of tokens.
        (Tokens(nn.Conv2d(3, 8, 2), None, 11), (11, 11)),
        (Tokens(NotImplementedError(), None, 11), (11, 11)),
        (Tokens(), (None, None)),
        (nn.Linear(2, 3), (None, None)),
    ],
)
def test_a_vocabulary_is_that_of_the_embeddings_and_the_head_or_else_the_configurations(model, vocabulary):
    assert Vocabulary.of(model) == vocabulary


def test_where_nothing_is_known_large_tokens_pass_and_negative_ones_do_not():
    assert stated_size(nn.Linear(2, 3)) is None
    assert token_counts(nn.Linear(2, 3), [row([10**9])], COLUMNS) == [(1, 1)]
    with pytest.raises(ValueError, match="row 0 has the token -1 in prompt_ids: give a list of whole numbers ≥ 0"):
        token_counts(nn.Linear(2, 3), [row([-1])], COLUMNS)


def test_a_token_that_can_be_shown_but_not_predicted_is_a_prompts_only():
    model = Tokens(nn.Embedding(12, 2), nn.Linear(2, 10))
    assert token_counts(model, [row([11])], COLUMNS) == [(1, 1)]
    with pytest.raises(ValueError, match="row 0 has the token 11 in response_ids, but Tokens predicts 10 tokens"):
        token_counts(model, [row([11], [11])], COLUMNS)


def test_many_rows_take_little_time(make_llama):
    base, ids = make_llama(), list(range(100))
    rows = [row(ids, ids)] * 20_000
    start = time.process_time()
    token_counts(base, rows, COLUMNS)
    # Measured: 0.3 s. A loop in Python over the four million tokens takes ten times that.
    assert time.process_time() - start < 2


# Where ids enter.


def test_prompts_of_other_tokens_are_refused_before_they_are_answered(model):
    preferences = torch.tensor([[0.5, 0.5]])
    sampling = Sampling(max_new_tokens=2, stop_token_ids=())
    for use in (
        lambda: sample_responses(model, [[5], [6, 100]], preferences, sampling),
        lambda: Policy(model, sampling).sample([[5], [6, 100]], preferences, 1),
        lambda: Policy(model, sampling).check_prompts([{"prompt_ids": [5]}, {"prompt_ids": [6, 100]}]),
    ):
        with pytest.raises(ValueError, match="prompt 1 has the token 100 in prompt_ids"):
            use()


@pytest.mark.filterwarnings("ignore:.*without an adapter:UserWarning")
def test_a_prompts_number_is_that_of_the_batch_where_prompts_are_answered_in_groups():
    sys.path.append(str(Path(__file__).parents[2] / "families"))
    from tiny_models import tiny_model

    model = PreferenceModel(tiny_model("bart"), SVDLoRAConfig(objectives=("a", "b"), rank=2))
    policy = Policy(model, Sampling(max_new_tokens=2, stop_token_ids=()))
    with pytest.raises(ValueError, match="prompt 2 has the token 97 in prompt_ids"):
        policy.sample([[5], [6, 7], [8, 9, 97]], torch.tensor([[0.5, 0.5]]), 1)


@pytest.mark.parametrize("ids", [[1.9], [True]])
def test_a_batch_holds_whole_numbers(ids):
    with pytest.raises(ValueError, match=r"sequence 1 has numbers of torch\.\w+: token ids are whole numbers"):
        collate_sequences([[3], ids], [[4], ids])


# Stop tokens.


def test_stop_tokens_none_of_which_the_model_has_are_refused(model):
    preferences, prompts = torch.tensor([[0.5, 0.5]]), [[5], [6]]
    for stops in ((), (5, 100), (99,)):
        check_stop_tokens(model.base_model, stops)
    beyond = Sampling(max_new_tokens=2, stop_token_ids=(101, 100))
    message = r"stop_token_ids is \(101, 100\), but \w+ predicts the tokens 0 … 99 only, so that no response would end"
    for use in (
        lambda: check_stop_tokens(model.base_model, (101, 100)),
        lambda: sample_responses(model, prompts, preferences, beyond),
        lambda: Policy(model, beyond).sample(prompts, preferences, 1),
        lambda: Policy(model, beyond).check_prompts([{"prompt_ids": [5]}]),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_a_stop_token_beyond_the_model_beside_one_of_its_own_pads_nothing(model):
    """What stands behind a response that ended is a stop token that the model has."""
    sampling = Sampling(max_new_tokens=6, stop_token_ids=(*range(3, 60), 4000))
    torch.manual_seed(0)
    responses = sample_responses(model, [[70], [80, 81]], torch.tensor([[0.5, 0.5]]), sampling, 8)
    assert len({len(response.ids) for response in responses}) > 1
    assert any(response.finished for response in responses)
