"""Tokens of rows: the distribution that is promised, and each row by itself."""

import random

import pytest
import torch

from mopref.serving.token_choice import Choice, chosen_tokens

LOGITS = torch.tensor([2.0, 0.0, 1.0, -torch.inf, 0.8])


def shares(temperature: float, top_p: float, count: int = 20_000) -> torch.Tensor:
    source = random.Random(0)
    rows = LOGITS.expand(count, -1)
    tokens = chosen_tokens(rows, [Choice(temperature, top_p, source)] * count)
    return torch.bincount(torch.tensor(tokens), minlength=5) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_tokens_have_the_distribution(temperature):
    torch.testing.assert_close(shares(temperature, 1.0), torch.softmax(LOGITS / temperature, -1), atol=0.015, rtol=0)


def test_top_p_keeps_the_fewest_tokens_as_transformers_does():
    from transformers import TopPLogitsWarper

    for top_p in (0.3, 0.7, 0.9):
        expected = torch.softmax(TopPLogitsWarper(top_p)(None, LOGITS[None].clone())[0], -1)
        torch.testing.assert_close(shares(1.0, top_p), expected, atol=0.015, rtol=0)


def test_a_row_does_not_change_with_its_neighbours():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 50, generator=generator)
    settings = [(0.0, 1.0), (1.0, 1.0), (0.7, 0.9), (2.0, 0.5), (1.0, 1.0), (0.0, 0.3)]

    def choices(places):
        return [Choice(*settings[place], random.Random(place)) for place in places]

    together = chosen_tokens(logits, choices(range(6)))
    assert together == [chosen_tokens(logits[[place]], choices([place]))[0] for place in range(6)]
    assert [together[0], together[5]] == logits[[0, 5]].argmax(dim=-1).tolist()


def test_a_tiny_temperature_is_the_likeliest_token():
    for temperature in (1e-3, 1e-30, 5e-324):
        assert chosen_tokens(LOGITS[None], [Choice(temperature, 1.0, random.Random(0))]) == [0]


def test_a_forbidden_token_is_never_chosen():
    assert shares(2.0, 1.0)[3] == 0
    assert shares(2.0, 0.99)[3] == 0


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(wrong):
    logits = LOGITS[None].clone()
    logits[0, 1] = wrong
    with pytest.raises(ValueError, match="logits are not finite"):
        chosen_tokens(logits, [Choice(1.0, 1.0, random.Random(0))])
