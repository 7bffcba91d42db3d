from contextlib import contextmanager

import pytest
import torch

from mopref import SVDLoRAConfig
from mopref.baselines.one_at_a_time import OneAtATime
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling

ADAPTER = SVDLoRAConfig(("helpful", "harmless"), rank=2, preference_rank=1)


class Swapped(OneAtATime):
    """The preference model at the preference with its weights exchanged, set within a block."""

    def __init__(self, module):
        super().__init__(module)
        self.entered, self.is_open = [], False

    @contextmanager
    def at(self, preference):
        assert not self.is_open
        self.is_open = True
        self.entered.append(preference.tolist())
        try:
            yield preference.flip(0).view(1, -1)
        finally:
            self.is_open = False


@pytest.fixture
def swapped(make_model):
    model = make_model(ADAPTER)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.copy_(0.3 * torch.randn(layer.U.shape, generator=generator))
    return Swapped(model).eval()


PROMPTS = [[5, 9], [7], [5, 9, 4], [7]]
PREFERENCES = torch.tensor([[1.0, 0.0], [0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])


def test_rows_are_those_of_each_preference_alone_and_each_preference_is_set_once(swapped):
    sequences = collate_sequences(PROMPTS, [[3, 8], [6], [3], [8, 9]])
    with torch.no_grad():
        own = Policy(swapped).token_log_probabilities(sequences, PREFERENCES)
        exchanged = Policy(swapped.module).token_log_probabilities(sequences, PREFERENCES.flip(1))
        straight = Policy(swapped.module).token_log_probabilities(sequences, PREFERENCES)
    torch.testing.assert_close(own, exchanged, atol=1e-5, rtol=0)
    assert (own - straight).abs().max() > 1e-3
    assert swapped.entered == [[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]]


def test_answers_stay_with_their_prompts(swapped):
    sampling = Sampling(max_new_tokens=4, stop_token_ids=())
    together = swapped.composed_responses(PROMPTS, PREFERENCES, sampling, greedy=True)
    for prompt, preference, response in zip(PROMPTS, PREFERENCES, together, strict=True):
        alone = swapped.composed_responses([prompt], preference.view(1, -1), sampling, greedy=True)
        assert response.ids == alone[0].ids


def test_an_error_leaves_the_block(swapped):
    with pytest.raises(ValueError, match="token"):
        swapped.composed_responses([[10**6]], PREFERENCES[:1], Sampling(max_new_tokens=1, stop_token_ids=()), True)
    assert not swapped.is_open
    assert swapped.composed_responses([[5]], PREFERENCES[:1], Sampling(max_new_tokens=1, stop_token_ids=()), True)
