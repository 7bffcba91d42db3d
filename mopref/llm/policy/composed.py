"""ComposedPolicy: a distribution over responses that is made of a PreferenceModel in another way than by its forward.

Of several forwards whose logits are mixed, of a prompt that says λ, of one of several adapters: objectives and
evaluations ask a ``Policy``, which asks such a model itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from mopref.argument_kinds import checked_kind
from mopref.conditioning.preference_model import PreferenceModel
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy.generation import Response, Sampling
from mopref.llm.policy.padding import equal_groups

__all__ = ["ComposedPolicy", "groups_of_preferences"]


class ComposedPolicy(nn.Module, ABC):
    """π(y|x; λ) that is made of a ``PreferenceModel``.

    A ``Policy`` of it has the log-probabilities and samples of these two methods; its reference, rows and objectives
    are those of the preference model.

    Args:
        module: the preference model; with its adapters disabled it is the reference π_ref.

    Raises:
        TypeError: another model.
    """

    def __init__(self, module: PreferenceModel) -> None:
        super().__init__()
        self.module = checked_kind(module, PreferenceModel, "module")

    @abstractmethod
    def composed_log_probabilities(self, sequences: Sequences, preferences: Tensor, sampling: Sampling) -> Tensor:
        """log π(y_t | x, y_<t; λ) of every response token, ``(N, R)``; 0 where a response is padded.

        Args:
            sequences: N of them.
            preferences: ``(N, m)``, or ``(1, m)`` for all, checked.
            sampling: the distribution whose log-probabilities are asked for.
        """

    @abstractmethod
    def composed_responses(
        self, prompt_ids: Sequence[Sequence[int]], preferences: Tensor, sampling: Sampling, greedy: bool
    ) -> list[Response]:
        """A response to each of B prompts under its preference.

        Args:
            prompt_ids: B lists of token ids.
            preferences: ``(B, m)``, or ``(1, m)`` for all, checked.
            sampling: how they are sampled; its stop tokens are known.
            greedy: take the likeliest token at each place instead.
        """


def groups_of_preferences(preferences: Tensor, rows: int) -> Iterator[tuple[Tensor, list[int]]]:
    """The preferences ``(m,)`` among those of so many rows, each with the places of its rows, in their order.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> [(preference.tolist(), places) for preference, places in groups_of_preferences(rows, 3)]
        [([1.0, 0.0], [0, 2]), ([0.0, 1.0], [1])]
    """
    if len(preferences) == 1:
        yield preferences[0], list(range(rows))
        return
    keys = [tuple(row) for row in preferences.detach().cpu().tolist()]
    for places in equal_groups(keys):
        yield preferences[places[0]], places
