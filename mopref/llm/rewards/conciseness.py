"""A reward for short answers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments

from .reward import REWARDS, Reward

__all__ = ["Conciseness"]


@REWARDS.register("conciseness")
class Conciseness(Reward):
    """r = r_max up to a target length, and one less for each further target length.

    With l response tokens (neither the prompt's nor the stop token count) and the target length c:
    r = r_max if l ≤ c, else r_max + 1 − l/c. An empty response gets the full reward: another reward has to ask for
    content.

    Args:
        target_length: c, in tokens.
        maximum: r_max.

    Raises:
        ValueError: a target length that is not above 0 and finite, or a maximum that is not finite.

    Source: Zhong et al., Panacea: Pareto Alignment via Preference Adaptation for LLMs (2024).

    Example:
        >>> Conciseness(target_length=10)([[1]] * 3, [[5] * 10, [5] * 11, [5] * 30])
        tensor([ 1.0000,  0.9000, -1.0000], dtype=torch.float64)
    """

    reads_tokens = True

    @checks_arguments
    def __init__(self, target_length: float, maximum: float = 1.0) -> None:
        if not 0 < target_length < float("inf"):
            raise ValueError(f"target_length is {target_length}: it must be a finite number of tokens above 0.")
        self.target_length = float(target_length)
        if not math.isfinite(maximum):
            raise ValueError(f"maximum is {maximum}: it is the reward of a short response, so it must be finite.")
        self.maximum = float(maximum)
        self.direction = f"higher is shorter, and the same for all up to {target_length:g} tokens"

    @checks_arguments
    def __call__(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Tensor:
        """The rewards of N responses, which are token ids without the stop token: shape ``(N,)``."""
        for row, ids in enumerate(responses):
            if not hasattr(ids, "__len__"):
                raise TypeError(f"response {row} is of type {type(ids).__name__}: give its token ids.")
        lengths = torch.tensor([len(ids) for ids in responses], dtype=torch.float64)
        return self.maximum - (lengths / self.target_length - 1).clamp(min=0)
