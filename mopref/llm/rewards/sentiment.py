"""A reward for positive feeling."""

from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor

from mopref.argument_kinds import checked_texts, checks_arguments

from .reward import REWARDS, Prompt, Reward

__all__ = ["VaderSentiment"]


@REWARDS.register("sentiment")
class VaderSentiment(Reward):
    """VADER's compound score of the response, −1 (most negative) to 1 (most positive); the prompt is not read.

    A lexicon of words rated by people, with rules for negation, capitals and exclamation marks; English only. A
    response that repeats happy words scores high: pair it with a reward for content.

    Raises:
        ImportError: the package vaderSentiment is missing (it comes with the extra ``rewards``).

    Source: C. Hutto and E. Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text
    (2014).
    """

    direction = "higher is more positive"

    @checks_arguments
    def __init__(self) -> None:
        try:
            vader = import_module("vaderSentiment.vaderSentiment")
        except ImportError as error:
            raise ImportError(
                "VaderSentiment needs the package vaderSentiment, which is missing: run pip install 'mopref[rewards]'."
            ) from error
        self._analyzer = vader.SentimentIntensityAnalyzer()

    @checks_arguments
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """The compound scores of N responses, shape ``(N,)``."""
        scores = [self._analyzer.polarity_scores(text)["compound"] for text in checked_texts(responses, "responses")]
        return torch.tensor(scores, dtype=torch.float64)
