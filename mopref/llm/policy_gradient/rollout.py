"""Rollouts: responses sampled from a preference-conditioned language model, with their rewards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel, find_preference_model
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.policy.frozen_layers import lower_hidden_states
from mopref.llm.policy.generation import Response, Sampling, sample_responses
from mopref.llm.policy.log_probabilities import TokenOutputs, collate_sequences, token_outputs
from mopref.llm.rewards.reward import compute_rewards

__all__ = ["RolloutSettings", "Sampling", "chosen_rows", "policy_outputs", "reference_log_probabilities", "roll_out"]


@dataclass(frozen=True)
class RolloutSettings:
    """What rollouts are made with.

    Args:
        rewards: name to reward, in the order of a preference; maximised.
        sampling: how responses are sampled; its stop tokens are given.
        samples_per_prompt: S.
        tokenizer: turns responses into text for rewards that read text.
        truncation_penalty: taken from every reward of a response that was cut before its end, in their units.
    """

    rewards: Mapping[str, Callable[..., Any]]
    sampling: Sampling
    samples_per_prompt: int
    tokenizer: Any = None
    truncation_penalty: float = 0.0


def roll_out(
    model: PreferenceModel,
    batch: Mapping[str, Any],
    preferences: Tensor | None,
    settings: RolloutSettings,
    frozen_layers: bool = False,
) -> dict[str, Any]:
    """Sample S responses to each prompt under its preference, and reward them.

    Args:
        model: the conditioned model.
        batch: ``prompt_ids``, B lists of token ids, and for rewards that read text ``prompts``, B texts or messages.
        preferences: ``(B, m)``; ``None`` within ``model.disabled()``.
        settings: rewards and sampling.
        frozen_layers: keep what enters the first adapted block, so that the blocks below it run once a rollout.

    Returns:
        With N = B·S: ``sequences`` (as of ``collate_sequences``), ``rewards`` ``(N, m)`` float64 on the CPU,
        ``lengths`` ``(N,)`` in tokens without the stop token, ``truncated`` ``(N,)`` bool: cut before a stop token.
    """
    samples = settings.samples_per_prompt
    responses = sample_responses(model, batch["prompt_ids"], preferences, settings.sampling, samples)
    prompt_ids = [ids for ids in batch["prompt_ids"] for _ in range(samples)]
    prompts = None
    if "prompts" in batch:
        prompts = [prompt for prompt in batch["prompts"] for _ in range(samples)]
    rewards = score(settings, prompts, prompt_ids, responses)
    truncated = torch.tensor([bool(settings.sampling.stop_token_ids) and not r.finished for r in responses])
    rewards = rewards - settings.truncation_penalty * truncated.to(rewards).unsqueeze(1)
    response_ids = [response.ids for response in responses]
    device = next(model.parameters()).device
    sequences = {name: part.to(device) for name, part in collate_sequences(prompt_ids, response_ids).items()}
    if frozen_layers:
        states = lower_hidden_states(model, sequences)
        sequences = collate_sequences(prompt_ids, response_ids, [part.cpu() for part in states])
        sequences = {name: part.to(device) for name, part in sequences.items()}
    lengths = torch.tensor([len(response.content) for response in responses])
    return {"sequences": sequences, "rewards": rewards, "lengths": lengths, "truncated": truncated}


def score(
    settings: RolloutSettings,
    prompts: Sequence[Any] | None,
    prompt_ids: Sequence[list[int]],
    responses: Sequence[Response],
) -> Tensor:
    """Rewards ``(N, m)`` of N responses, float64 on the CPU; texts are made only where a reward reads text."""
    contents = [response.content for response in responses]
    texts = None
    if not all(getattr(reward, "reads_tokens", False) for reward in settings.rewards.values()):
        texts = [text.strip() for text in settings.tokenizer.batch_decode(contents, skip_special_tokens=True)]
    return compute_rewards(settings.rewards, prompts, texts, prompt_ids, contents)


def policy_outputs(
    model: nn.Module, sequences: dict[str, Tensor], sampling: Sampling, hidden_states: bool = False, **options: Any
) -> TokenOutputs:
    """Log-probabilities of the distribution that ``sampling`` samples from (before top-p), and what the head sees."""
    forbidden = None
    if sampling.min_new_tokens and sampling.stop_token_ids:
        conditioned = find_preference_model(model)
        assert conditioned is not None
        size = conditioned.config.get_text_config().vocab_size
        columns = sequences["response_mask"].shape[1]
        forbidden = torch.zeros(columns, size, dtype=torch.bool, device=sequences["input_ids"].device)
        forbidden[: sampling.min_new_tokens, list(sampling.stop_token_ids)] = True
    return token_outputs(model, sequences, sampling.temperature, forbidden, hidden_states, **options)


def reference_log_probabilities(model: PreferenceModel, sequences: dict[str, Tensor], sampling: Sampling) -> Tensor:
    """log π_ref of each token: adapters disabled, evaluation mode, no gradients; ``(N, R)``."""
    with evaluation_mode(model), torch.no_grad(), model.disabled():
        return policy_outputs(model, sequences, sampling).log_probabilities


def chosen_rows(value: Any, rows: Tensor) -> Any:
    """The same nested dict of tensors with these of their rows only."""
    if isinstance(value, dict):
        return {name: chosen_rows(part, rows) for name, part in value.items()}
    return value[rows.to(value.device)]
