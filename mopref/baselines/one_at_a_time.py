"""Policies that are another model for another preference: rows are taken preference by preference."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from mopref.llm.data.sequences import Sequences
from mopref.llm.policy import Policy, Response, Sampling, sample_responses
from mopref.llm.policy.composed import ComposedPolicy, groups_of_preferences

__all__ = ["OneAtATime"]


class OneAtATime(ComposedPolicy):
    """A preference model that is set to one preference at a time; a new one implements :meth:`at`."""

    @abstractmethod
    def at(self, preference: Tensor) -> AbstractContextManager[Tensor | None]:
        """Within this block the model is the one for a preference ``(m,)``; what it is called with, ``(1, m)``."""

    def composed_log_probabilities(self, sequences: Sequences, preferences: Tensor, sampling: Sampling) -> Tensor:
        """Those of the model for each preference, ``(N, R)``."""
        result = torch.zeros(sequences.response_mask.shape, device=sequences.input_ids.device)
        for preference, places in groups_of_preferences(preferences, len(result)):
            rows = torch.tensor(places, device=result.device)
            with self.at(preference) as given:
                own = Policy(self.module, sampling).token_log_probabilities(sequences.rows(rows), given)
            result[rows] = own.to(result.dtype)
        return result

    def composed_responses(
        self, prompt_ids: Sequence[Sequence[int]], preferences: Tensor, sampling: Sampling, greedy: bool
    ) -> list[Response]:
        """Responses of the model for each preference."""
        responses: dict[int, Response] = {}
        for preference, places in groups_of_preferences(preferences, len(prompt_ids)):
            prompts = [prompt_ids[place] for place in places]
            with self.at(preference) as given:
                drawn = sample_responses(self.module, prompts, given, sampling, greedy=greedy)
            responses |= zip(places, drawn, strict=True)
        return [responses[place] for place in range(len(prompt_ids))]
