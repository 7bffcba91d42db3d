"""The fields of a request: nothing is left to the server's own settings."""

import pytest
import torch

from mopref.llm.engines.vllm_requests import completed, sampling_fields
from mopref.llm.policy import Policy, Sampling


def test_every_setting_of_a_distribution_is_said(model):
    fields = sampling_fields(Policy(model, Sampling(7, 2, temperature=0.5, top_p=0.9, stop_token_ids=(2, 5))))
    assert fields["max_tokens"] == 7
    assert fields["min_tokens"] == 2
    assert (fields["temperature"], fields["top_p"], fields["stop_token_ids"]) == (0.5, 0.9, [2, 5])
    assert fields["ignore_eos"] is True
    neutral = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    neutral |= {"presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert neutral.items() <= fields.items()
    assert not {"logit_bias", "allowed_token_ids"} & fields.keys()


def test_the_vocabulary_is_said_by_whichever_list_is_shorter(model):
    most = sampling_fields(Policy(model, Sampling(7, stop_token_ids=(), vocabulary=(range(0, 98),))))
    assert most["logit_bias"] == {"98": -100.0, "99": -100.0}
    few = sampling_fields(Policy(model, Sampling(7, stop_token_ids=(), vocabulary=(range(3, 5), range(9, 10)))))
    assert few["allowed_token_ids"] == [3, 4, 9]
    assert "logit_bias" not in few


def test_rows_are_padded_behind_their_ends(model):
    choices = [
        {"token_ids": [7, 5], "logprobs": {"token_logprobs": [-1.0, -2.0]}},
        {"token_ids": [5], "logprobs": {"token_logprobs": [-3]}},
    ]
    policy = Policy(model, Sampling(2, stop_token_ids=(5,)))
    samples = completed([{"choices": choices}], policy, 2, "it")
    assert [response.content for response in samples.responses] == [[7], []]
    assert all(response.finished for response in samples.responses)
    assert torch.equal(samples.log_probabilities, torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]))


def test_one_choice_too_few_is_refused(model):
    with pytest.raises(ValueError, match="not 2 choices"):
        completed([{"choices": [{}]}], Policy(model, Sampling(2, stop_token_ids=())), 2, "it")
