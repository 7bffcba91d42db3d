"""A reward for answers of few words."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mopref.argument_kinds import checked_texts, checks_arguments

from .reward import REWARDS, Prompt, Reward

__all__ = ["Brevity"]


@REWARDS.register("brevity")
class Brevity(Reward):
    """r = −(words of the response), words being what white space separates; the prompt is not read.

    An empty response gets the highest reward, 0: another reward has to ask for content. ``Conciseness`` counts tokens,
    and is the same for all responses up to a length.

    Example:
        >>> Brevity()(["Why?"] * 3, ["So.", "Since it is so.", ""])
        tensor([-1., -4.,  0.], dtype=torch.float64)
    """

    direction = "higher is fewer words"

    @checks_arguments
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """The rewards of N responses, shape ``(N,)``."""
        rewards = [-len(text.split()) for text in checked_texts(responses, "responses")]
        return torch.tensor(rewards, dtype=torch.float64)
