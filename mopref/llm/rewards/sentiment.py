"""A reward for positive feeling."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor

from mopref.llm.rewards.reward import Prompt, Reward

__all__ = ["VaderSentiment"]


class VaderSentiment(Reward):
    """VADER's compound score of the response, −1 (most negative) to 1 (most positive); the prompt is not read.

    A lexicon of words rated by people, with rules for negation, capitals and exclamation marks (Hutto and Gilbert,
    2014); English only. A response that repeats happy words scores high: pair it with a reward for content.

    Raises:
        ImportError: The package vaderSentiment is missing (it comes with the extra ``rewards``).
    """

    direction = "higher is more positive"

    def __init__(self) -> None:
        try:
            vader = import_module("vaderSentiment.vaderSentiment")
        except ImportError as error:
            raise ImportError(
                "VaderSentiment needs the package vaderSentiment: `pip install 'mopref[rewards]'`"
            ) from error
        self._analyzer = vader.SentimentIntensityAnalyzer()

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Return the compound scores of N responses, shape ``(N,)``."""
        scores = [self._analyzer.polarity_scores(text)["compound"] for text in responses]
        return torch.tensor(scores, dtype=torch.float64)
