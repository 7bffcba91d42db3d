"""Four prompts, two preferences, and two rewards that are easily counted."""

import torch

from mopref.llm.rewards import token_reward

STOPS = tuple(range(3, 40))
ROWS = [{"prompt_ids": ids} for ids in ([41, 42], [50], [60, 61, 62], [70, 71])]
PREFERENCES = torch.tensor([[0.8, 0.2], [0.1, 0.9]])


@token_reward
def length(prompt_ids, response_ids):
    return [float(len(ids)) for ids in response_ids]


@token_reward
def even(prompt_ids, response_ids):
    return [sum(token % 2 == 0 for token in ids) / 4 for ids in response_ids]
