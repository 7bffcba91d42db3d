"""MOD: the log-probabilities of m policies, mixed at every token."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from mopref.argument_kinds import checks_arguments
from mopref.baselines.interfaces import Budget, MethodPolicy
from mopref.baselines.plain_lora import mixed_model
from mopref.baselines.runs import Trainings
from mopref.baselines.soups import corner_loras
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy import Response, Sampling, sample_responses
from mopref.llm.policy.composed import ComposedPolicy, groups_of_preferences
from mopref.llm.policy.padding import equal_groups, padding_traits
from mopref.llm.policy.sequence_forward import SequenceForward

__all__ = ["MODDecoding", "mixed_log_probabilities", "mod"]


@checks_arguments
def mixed_log_probabilities(logits: Tensor, weights: Tensor) -> Tensor:
    """Σ_i λ_i log softmax(logits_i), up to a constant the log-probabilities of the mixture π_λ ∝ Π π_i^{λ_i}.

    Args:
        logits: ``(m, …, V)``; −∞ where a token is forbidden for all.
        weights: λ, of a shape that broadcasts to ``(m, …, 1)``.

    Raises:
        ValueError: shapes that do not match, or numbers that are no logits.

    Returns:
        ``(…, V)``, not normalised; −∞ where a token is forbidden.

    Source: Shi et al., Decoding-time language model alignment with multiple objectives, arXiv 2406.18853.

    Example:
        >>> logits = torch.tensor([[0.0, 2.0], [0.0, -2.0]])
        >>> mixed_log_probabilities(logits, torch.tensor([[0.5], [0.5]])).softmax(-1)
        tensor([0.5000, 0.5000])
    """
    shape = (*logits.shape[:-1], 1)
    if logits.ndim < 2 or weights.ndim != logits.ndim or not _broadcasts(weights.shape, shape):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and weights {tuple(weights.shape)}: give (m, …, V), and weights "
            f"that broadcast to {shape}."
        )
    if not logits.is_floating_point() or logits.isnan().any() or torch.isposinf(logits).any():
        raise ValueError("logits hold NaN or +∞, or are no floating-point numbers: give finite ones, or −∞.")
    forbidden = torch.isneginf(logits).any(dim=0)
    # A weight of 0 times −∞ is NaN.
    own = log_softmax(logits.float(), dim=-1).masked_fill(forbidden, 0.0)
    return (own * weights.to(own)).sum(dim=0).masked_fill(forbidden, -torch.inf)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    return all(own in (1, size) for own, size in zip(shape, to, strict=True))


class MODDecoding(ComposedPolicy):
    """π_λ(y_t | x, y_<t) ∝ Π_i π_{e_i}(y_t | x, y_<t)^{λ_i}: one forward for each objective and token.

    On one-step problems this is the optimum for λ where the π_{e_i} are those of the KL-regularised rewards; on
    language models an approximation, since what a prefix leaves to be gained is dropped.

    Args:
        module: the preference model, whose policies at its corners are mixed.
    """

    def forward(self, *args: Any, preferences: Tensor, **kwargs: Any) -> Any:
        """Logits of the mixture for rows under preferences ``(N, m)`` or ``(1, m)``."""
        corners = torch.eye(preferences.shape[1], device=preferences.device)
        logits = torch.stack([self.module(*args, preferences=corner, **kwargs).logits for corner in corners])
        weights = preferences.T.reshape(len(corners), -1, *[1] * (logits.ndim - 2))
        return SimpleNamespace(logits=mixed_log_probabilities(logits, weights))

    def composed_log_probabilities(self, sequences: Sequences, preferences: Tensor, sampling: Sampling) -> Tensor:
        """Those of the mixture, normalised at every token: ``(N, R)``."""
        traits = padding_traits(self.module)
        forward = SequenceForward(self, self.module, self.module.base_model, sampling, traits.position_offset)
        if traits.left or not sequences.left_padding.any():
            return forward.with_logits(sequences, preferences).log_probabilities
        rows = preferences.expand(len(sequences.input_ids), -1)
        result = torch.zeros(sequences.response_mask.shape, device=sequences.input_ids.device)
        for group in equal_groups(sequences.left_padding.tolist()):
            places = torch.tensor(group, device=result.device)
            own = sequences.rows(places).without_left_padding()
            result[places] = forward.with_logits(own, rows[places]).log_probabilities
        return result

    def composed_responses(
        self, prompt_ids: Sequence[Sequence[int]], preferences: Tensor, sampling: Sampling, greedy: bool
    ) -> list[Response]:
        """Responses of the mixture: each prompt is decoded m times side by side, with the same tokens."""
        m = preferences.shape[1]
        responses: dict[int, Response] = {}
        for preference, places in groups_of_preferences(preferences, len(prompt_ids)):
            mixing = _Mixing(preference, sampling, greedy)
            prompts = [prompt_ids[place] for place in places for _ in range(m)]
            corners = torch.eye(m).repeat(len(places), 1)
            drawn = sample_responses(self.module, prompts, corners, sampling, greedy=True, logits_processor=[mixing])
            responses |= zip(places, drawn[::m], strict=True)
        return [responses[place] for place in range(len(prompt_ids))]


class _Mixing:
    """A logits processor that draws one token of the mixture for the m rows of a prompt, and leaves them no other."""

    def __init__(self, preference: Tensor, sampling: Sampling, greedy: bool) -> None:
        self.preference, self.sampling, self.greedy = preference, sampling, greedy

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        m = len(self.preference)
        logits = scores.view(-1, m, scores.shape[-1]).transpose(0, 1)
        mixed = mixed_log_probabilities(logits, self.preference.view(m, 1, 1))
        tokens = mixed.argmax(dim=-1) if self.greedy else self._drawn(mixed)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, tokens.repeat_interleave(m).unsqueeze(1), 0.0)

    def _drawn(self, mixed: Tensor) -> Tensor:
        from transformers import TopPLogitsWarper

        logits = mixed / self.sampling.temperature
        if self.sampling.top_p < 1:
            logits = TopPLogitsWarper(top_p=self.sampling.top_p)(None, logits)
        return torch.multinomial(logits.softmax(dim=-1), 1).squeeze(1)


def mod(trainings: Trainings) -> MethodPolicy:
    """MOD of the m corner runs: nothing is trained for it, and a token takes m forwards."""
    loras, setup = corner_loras(trainings), trainings.setup
    model = MODDecoding(mixed_model(setup.make_model, setup.adapter, loras))
    stored = sum(lora.num_parameters for lora in loras)
    return MethodPolicy("mod", model, Budget.of([lora.cost for lora in loras], stored, float(len(loras))))
