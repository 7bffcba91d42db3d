"""Rollouts: responses sampled from a policy at its preferences, with their rewards."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any, NamedTuple, Self, TypeAlias

import torch
from torch import Tensor

from mopref._agreement import ended_together
from mopref._repr import short_repr
from mopref.data_rows import check_columns
from mopref.llm.data.chat_template import refuse_no_tokenizer
from mopref.llm.data.sequences import Sequences, collate_sequences
from mopref.llm.engines.engine import RolloutEngine, sampled_by
from mopref.llm.policy.generation import Response, Sampling
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient.pull import checked_pull
from mopref.llm.rewards.reward import RewardError, compute_rewards, reads_tokens
from mopref.objective_names import checked_names
from mopref.setting_types import set_python_values

__all__ = ["PromptBatch", "Rewards", "Rollout", "RolloutSettings"]

# Rewards by name, in the order of a preference.
Rewards: TypeAlias = Mapping[str, Callable[..., Any]]


class PromptBatch(NamedTuple):
    """B prompts.

    Attributes:
        prompt_ids: B lists of token ids.
        prompts: B texts or lists of chat messages, for rewards that read text; else ``None``.
    """

    prompt_ids: list[list[int]]
    prompts: list[Any] | None


class Rollout(NamedTuple):
    """N = B·S sampled responses, those of one prompt together.

    Attributes:
        sequences: prompts and responses, N of them with R response tokens at most.
        rewards: ``(N, m)``, in their own units less the truncation penalty, to be maximised; float64, on the CPU.
        lengths: ``(N,)``, response tokens without the stop token.
        truncated: ``(N,)`` bool, cut before a stop token.
        log_probabilities: ``(N, R)``, log π of each token when it was sampled.
        reference_log_probabilities: ``(N, R)``; ``None`` where there is no KL penalty.
        values: ``(N, R, m)``, the critic's before each token, one for each objective; ``None`` without a critic.
        engine_log_probabilities: ``(N, R)``, what an engine says of the tokens that it sampled, on the CPU; ``None``
            where the model sampled them itself.
    """

    sequences: Sequences
    rewards: Tensor
    lengths: Tensor
    truncated: Tensor
    log_probabilities: Tensor
    reference_log_probabilities: Tensor | None = None
    values: Tensor | None = None
    engine_log_probabilities: Tensor | None = None

    @property
    def log_ratios(self) -> Tensor:
        """d = log π − log π_ref of each token, ``(N, R)``, float64 on the CPU; 0 without a reference."""
        if self.reference_log_probabilities is None:
            return torch.zeros(self.sequences.response_mask.shape, dtype=torch.float64)
        return (self.log_probabilities - self.reference_log_probabilities).double().cpu()

    def importance_weights(self, limit: float) -> Tensor:
        """min(π/π_engine, C) of each token, ``(N, R)``, float64 on the CPU; 1 where the model sampled itself."""
        if self.engine_log_probabilities is None:
            return torch.ones(self.sequences.response_mask.shape, dtype=torch.float64)
        return (self.log_probabilities.double().cpu() - self.engine_log_probabilities).exp().clamp(max=limit)

    def completed(self, policy: Policy, frozen_layers: bool, with_reference: bool) -> Self:
        """The same with what is needed at every step: activations below the adapters, log π_ref, or neither."""
        rollout = self
        if frozen_layers:
            rollout = rollout._replace(sequences=policy.with_lower_hidden_states(rollout.sequences))
        if with_reference:
            reference = policy.reference_log_probabilities(rollout.sequences)
            rollout = rollout._replace(reference_log_probabilities=reference)
        return rollout

    def log_probabilities_at(self, policy: Policy, preferences: Tensor) -> Tensor:
        """log π of the sampled tokens at each preference ``(N, m)``, whatever they were sampled at: ``(N, tokens)``."""
        mask, rows = self.sequences.response_mask, len(self.lengths)
        at_each = [policy.token_log_probabilities(self.sequences, row.expand(rows, -1))[mask] for row in preferences]
        return torch.stack(at_each)

    def rows(self, indices: Tensor) -> Self:
        """The responses at these indices."""
        tensors = [None if part is None else part[indices.to(part.device)] for part in self[1:]]
        return type(self)(self.sequences.rows(indices), *tensors)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RolloutSettings:
    """How prompts become rollouts.

    Args:
        reward_functions: name to reward, in the order of a preference; maximised.
        sampling: how responses are sampled; where its stop tokens are not given, they are the tokenizer's and those
            that the model's ``generation_config`` names.
        samples_per_prompt: S.
        tokenizer: turns responses into text for rewards that read text, and names the stop tokens and the tokens that
            may be sampled: all of its own, and none that only the model has.
        truncation_penalty: taken from every reward of a response that was cut before its end, in their units; ≥ 0.
        engine: what samples at preferences in place of the model itself; ``None`` for the model.
        pull: the name of −KL from the reference as one objective more, the last; ``None`` for none. It is no reward.

    Raises:
        ValueError: no reward, a value out of its range, a pull that is called as a reward or as "kl", or no tokenizer
            where one is needed.
        TypeError: a value of another type, named.
    """

    reward_functions: Rewards
    sampling: Sampling
    samples_per_prompt: int
    tokenizer: Any = field(default=None, repr=False)
    truncation_penalty: float = 0.0
    engine: RolloutEngine | None = None
    pull: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.reward_functions, Mapping) or not self.reward_functions:
            raise ValueError(f"rewards are {self.reward_functions!r}: give a dict of at least one name and reward.")
        checked_names(tuple(self.reward_functions), "the list of the names of rewards")
        for name, reward in self.reward_functions.items():
            if not callable(reward):
                raise TypeError(f"rewards[{name!r}] is {short_repr(reward)}: give a function of prompts and responses.")
        checked_pull(self.pull, self.reward_functions)
        if not isinstance(self.sampling, Sampling):
            raise TypeError(f"sampling is a {type(self.sampling).__name__}: give Sampling(max_new_tokens=…).")
        if self.engine is not None and not isinstance(self.engine, RolloutEngine):
            raise TypeError(f'engine is {short_repr(self.engine)}: give one of mopref.llm.engines, VLLM("http://…").')
        if self.tokenizer is not None:
            refuse_no_tokenizer(self.tokenizer)
        set_python_values(self, int, "samples_per_prompt")
        if self.samples_per_prompt < 1:
            raise ValueError(f"samples_per_prompt is {self.samples_per_prompt}: it must be at least 1.")
        set_python_values(self, float, "truncation_penalty")
        if not 0 <= self.truncation_penalty < math.inf:
            raise ValueError(
                f"truncation_penalty is {self.truncation_penalty}: it is taken from the rewards, so give ≥ 0, finite."
            )
        if self.sampling.stop_token_ids is None and self.tokenizer is None:
            raise ValueError("without a tokenizer, say what ends a response: sampling=Sampling(stop_token_ids=(…)).")
        if self.reads_text and self.tokenizer is None:
            raise ValueError("the rewards read text, so the tokenizer that decodes responses must be given.")
        if self.tokenizer is not None:
            object.__setattr__(self, "sampling", self.sampling.for_tokenizer(self.tokenizer))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the objectives, in the order of a preference: of the rewards, then of a pull."""
        return (*self.reward_functions, *([] if self.pull is None else [self.pull]))

    def options(self) -> dict[str, Any]:
        """The settings by the names that ``RLHF`` takes them by."""
        names = ["samples_per_prompt", "sampling", "truncation_penalty"]
        # Only where they are given: checkpoints of before there were any go on.
        names += [name for name in ("engine", "pull") if getattr(self, name) is not None]
        return {"rewards": self.reward_functions, **{name: getattr(self, name) for name in names}}

    @property
    def importance_limit(self) -> float:
        """C of the weights min(π/π_engine, C)."""
        return math.inf if self.engine is None else self.engine.importance_limit

    def check_prompts(self, policy: Policy, data: Sequence[Any]) -> None:
        """Refuse prompts that cannot be answered, and an engine that does not sample from the policy.

        Raises:
            ValueError, ConnectionError: as ``Policy.check_prompts`` and ``RolloutEngine.check``.
        """
        policy.check_prompts(data)
        if self.engine is not None:
            self.engine.check(policy, data)

    @property
    def reads_text(self) -> bool:
        """Whether some reward reads texts, not token ids."""
        return not all(reads_tokens(reward) for reward in self.reward_functions.values())

    def check_rows(self, rows: Sequence[Any]) -> None:
        """Refuse rows that are no prompts.

        Raises:
            ValueError: a row without ``prompt_ids``, or without ``prompt`` where a reward reads text.
        """
        columns = ("prompt_ids", "prompt") if self.reads_text else ("prompt_ids",)
        check_columns(rows, columns, "use tokenize_prompts(tokenizer, prompts)")

    def collate(self, rows: Sequence[Any]) -> PromptBatch:
        """A batch of prompts; raises as :meth:`check_rows`."""
        self.check_rows(rows)
        prompts = [row["prompt"] for row in rows] if self.reads_text else None
        # Lists, arrays or tensors, as a data set hands them out.
        return PromptBatch([[index(token) for token in row["prompt_ids"]] for row in rows], prompts)

    def roll_out(self, policy: Policy, batch: PromptBatch, preferences: Tensor | None, critic: Any = None) -> Rollout:
        """S responses to each prompt under its preference, rewarded.

        Args:
            policy: the conditioned model, with these settings' sampling.
            batch: B prompts.
            preferences: ``(B, m)``; ``None`` where the policy is the reference.
            critic: hidden states ``(N, R, H)`` and preferences ``(N, m)`` to values ``(N, R, m)``; ``None`` for none.

        Raises:
            ValueError: preferences of another number of objectives.
        """
        if preferences is not None and preferences.shape[1] != len(self.names):
            names = ", ".join(self.names)
            raise ValueError(f"preferences have shape {tuple(preferences.shape)}: give a weight for each of {names}.")
        samples = self.samples_per_prompt
        sampled = (policy, batch.prompt_ids, preferences, samples, critic is not None)
        responses, outputs, told = sampled_by(self.engine, *sampled)
        prompt_ids = [ids for ids in batch.prompt_ids for _ in range(samples)]
        prompts = None if batch.prompts is None else [prompt for prompt in batch.prompts for _ in range(samples)]
        stops = bool(self.sampling.stop_token_ids)
        truncated = torch.tensor([stops and not response.finished for response in responses])
        rewards = self._rewards(prompts, prompt_ids, responses)
        values = None
        if critic is not None and preferences is not None:
            with torch.no_grad():
                values = critic(outputs.head_inputs, preferences.repeat_interleave(samples, dim=0))
        return Rollout(
            sequences=collate_sequences(prompt_ids, [response.ids for response in responses]).to(policy.device),
            rewards=rewards - self.truncation_penalty * truncated.to(rewards).unsqueeze(1),
            lengths=torch.tensor([len(response.content) for response in responses]),
            truncated=truncated,
            log_probabilities=outputs.log_probabilities,
            values=values,
            engine_log_probabilities=told,
        )

    def roll_out_together(self, policy: Policy, batch: PromptBatch, preferences: Tensor, critic: Any = None) -> Rollout:
        """The same on each process of a training, which all end where one has an error: rewards are others' code."""
        with ended_together():
            return self.roll_out(policy, batch, preferences, critic)

    def _rewards(
        self, prompts: Sequence[Any] | None, prompt_ids: Sequence[list[int]], responses: Sequence[Response]
    ) -> Tensor:
        """``(N, m)`` of N responses, float64 on the CPU; texts are made only where a reward reads text."""
        contents = [response.content for response in responses]
        texts = None
        if self.reads_text:
            texts = [text.strip() for text in self.tokenizer.batch_decode(contents, skip_special_tokens=True)]
        try:
            return compute_rewards(self.reward_functions, prompts, texts, prompt_ids, contents)
        except RewardError as error:
            error.prompt = None if error.row is None else error.row // self.samples_per_prompt
            raise
