"""RLHF: policy gradients on a vector of rewards, one model for every balance."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel, require_preference_model
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.policy.frozen_layers import check_frozen_layers
from mopref.llm.policy.generation import Sampling, stop_tokens
from mopref.llm.policy_gradient import ALGORITHMS, PPO, Experience, PolicyGradient
from mopref.llm.policy_gradient.critic import Critic
from mopref.llm.policy_gradient.history import RolloutHistory
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.policy_gradient.rollout import (
    RolloutSettings,
    chosen_rows,
    policy_outputs,
    reference_log_probabilities,
    roll_out,
)
from mopref.llm.policy_gradient.surrogate import policy_losses
from mopref.llm.rewards.running_scale import RunningScale
from mopref.objective import Objective
from mopref.objectives.sft import collate_responses, negative_log_likelihoods

__all__ = ["RLHF"]

NORMALIZATIONS = ("running", "group", None)


class RLHF(Objective):
    """Expected rewards minus a KL penalty, by policy gradients on sampled responses: the losses are −J_i,

        J_i(λ) = E_{x, y ~ π(·|x; λ)} r_i(x, y) − β KL(π(·|x; λ) ‖ π_ref(·|x)),   i = 1 … m.

    π is the model at the sampling temperature, and π_ref the same with adapters disabled. With B prompts, G preferences
    and S samples, one rollout has B·S responses, B·S/G under each preference. The value of a loss is −J_i as estimated
    from its preference's rollouts, so a non-linear scalarizer weighs the objectives by expectations, never by single
    responses; its gradient is the policy gradient of ``algorithm`` (see ``mopref.llm.policy_gradient``), with the
    advantages weighted by the scalarizer's derivative and then clipped: by λ itself with linear scalarization.

    The KL's estimate from a response is Σ_t d_t, d = log π − log π_ref at each sampled token, in nats: unbiased, though
    a single one may be negative. Its gradient goes through −β d_t as a reward of the token.

    A data row is a dict with ``prompt_ids``, and ``prompt`` where a reward reads text; ``tokenize_prompts`` of
    ``mopref.llm.data.tokenization`` makes them. Sampling draws from PyTorch's global generator, which ``ParetoTrainer``
    seeds and keeps in checkpoints. Dropout is off, unless activations are checkpointed.

    Args:
        rewards: name to reward, in the order of a preference. A reward is a callable ``(prompts, responses) -> (N,)``,
            higher is better; see ``mopref.llm.rewards``.
        tokenizer: decodes responses for rewards that read text, and names the stop tokens.
        algorithm: "rloo", "grpo", "ppo", or a ``PolicyGradient`` with settings of its own, such as ``PPO(epochs=4)``.
        beta: β ≥ 0, in units of the rewards per nat; with 0 the reference model is not run.
        samples_per_prompt: S; at least 2 without a critic.
        sampling: how responses are sampled.
        normalization: keeps a reward on a large scale from drowning the others. "running" divides each reward, in
            values and gradients, by the standard deviation of all its values so far: β is then in such units per nat.
            "group" divides the advantages by the standard deviation within each single group of samples (with PPO, of
            one preference's tokens), as GRPO does: β then means less the more alike a policy's samples become, and the
            policy drifts far from the reference. ``None`` is the exact J in the rewards' own units.
        truncation_penalty: taken from every reward of a response that was cut before its end.
        frozen_layers: run the blocks below the first adapter once a rollout instead of at every forward. Exact; blocks
            like Llama's only.
        pretraining_data: rows with ``prompt_ids`` and ``response_ids``, such as ``plain_text_rows`` makes: their mean
            −log π a token is minimised too, whatever λ (InstructGPT's pre-training term, arXiv 2203.02155, eq. 2).
        pretraining_coefficient: what that term counts.
        pretraining_batch_size: rows of it at every step.
        seed: seeds the critic, and the samples of evaluations.

    Raises:
        ValueError: no reward, an unknown algorithm or normalisation, or a value out of its range, named.

    Source: Panacea, arXiv 2402.02030; the algorithms name theirs.
    """

    def __init__(
        self,
        rewards: Mapping[str, Callable[..., Any]],
        tokenizer: Any = None,
        algorithm: str | PolicyGradient = "rloo",
        beta: float = 0.05,
        samples_per_prompt: int = 4,
        sampling: Sampling | None = None,
        normalization: Literal["running", "group"] | None = "running",
        truncation_penalty: float = 0.0,
        frozen_layers: bool = False,
        pretraining_data: Sequence[Any] | None = None,
        pretraining_coefficient: float = 1.0,
        pretraining_batch_size: int = 4,
        seed: int = 0,
    ) -> None:

        if not isinstance(rewards, Mapping) or not rewards:
            raise ValueError(f"rewards are {rewards!r}: give a dict of at least one name and reward.")
        if not beta >= 0:
            raise ValueError(f"beta is {beta}: it must be ≥ 0.")
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"unknown normalization {normalization!r}: choose 'running', 'group' or None.")
        if not truncation_penalty >= 0:
            raise ValueError(f"truncation_penalty is {truncation_penalty}: it is taken from the rewards, so give ≥ 0.")
        if pretraining_data is not None and len(pretraining_data) == 0:
            raise ValueError("pretraining_data has no row: leave it out, or give at least one.")
        if pretraining_data is not None and not (pretraining_coefficient > 0 and pretraining_batch_size >= 1):
            raise ValueError(
                f"pretraining_coefficient is {pretraining_coefficient} and pretraining_batch_size "
                f"{pretraining_batch_size}: both must be positive, or leave pretraining_data out."
            )
        self.names = tuple(rewards)
        self.algorithm = _algorithm(algorithm)
        self.beta = beta
        self.normalization = normalization
        self.frozen_layers = frozen_layers
        self.pretraining_data = pretraining_data
        self.pretraining_coefficient = pretraining_coefficient
        self.pretraining_batch_size = pretraining_batch_size
        self.seed = seed
        if samples_per_prompt < self.algorithm.fewest_samples:
            raise ValueError(
                f"samples_per_prompt is {samples_per_prompt}: {type(self.algorithm).__name__} needs at least "
                f"{self.algorithm.fewest_samples}."
            )
        self.settings = RolloutSettings(
            rewards=dict(rewards),
            sampling=_with_stop_tokens(sampling, tokenizer),
            samples_per_prompt=samples_per_prompt,
            tokenizer=tokenizer,
            truncation_penalty=truncation_penalty,
        )
        self.reads_text = not all(getattr(reward, "reads_tokens", False) for reward in rewards.values())
        if self.reads_text and tokenizer is None:
            raise ValueError("the rewards read text, so the tokenizer that decodes responses must be given.")
        self._auxiliary: Tensor | None = None
        self._history = RolloutHistory(self.names)
        self._scale = RunningScale(self.num_objectives)

    @classmethod
    def paper_preset(cls, rewards: Mapping[str, Callable[..., Any]], tokenizer: Any, **others: Any) -> "RLHF":
        """PPO as the paper trains it (arXiv 2402.02030), on one sample a prompt and without normalisation.

        The paper names PPO on linearly scalarized rewards; the numbers are the customary ones of PPO for language
        models: β = .02, clip range .2, value clip range 5, γ = 1, GAE's λ = .95. Use it with
        ``SVDLoRAConfig.paper(…)``, ``Linear()``, ``VertexBiasedSampler`` and ``preferences_per_step=1``.
        ``others`` replaces any of these, and adds the rest, such as ``pretraining_data``.
        """
        settings: dict[str, Any] = {
            "algorithm": PPO(epochs=1, clip_range=0.2, gae_lambda=0.95, value_clip_range=5.0),
            "beta": 0.02,
            "samples_per_prompt": 1,
            "normalization": None,
            "pretraining_coefficient": 16.0,
        }
        return cls(rewards, tokenizer, **{**settings, **others})

    def collate(self, rows: list[Any]) -> dict[str, Any]:
        """Make a batch of prompts.

        Raises:
            ValueError: a row without ``prompt_ids``, or without ``prompt`` where a reward reads text.
        """
        for index, row in enumerate(rows):
            for name in ("prompt_ids", "prompt") if self.reads_text else ("prompt_ids",):
                if name not in row:
                    raise ValueError(f"row {index} has {', '.join(row)}, but no {name}: use tokenize_prompts.")
        batch: dict[str, Any] = {"prompt_ids": [list(row["prompt_ids"]) for row in rows]}
        if self.reads_text:
            batch["prompts"] = [row["prompt"] for row in rows]
        return batch

    def prepare_model(self, model: nn.Module) -> None:
        """Put a critic beside the adapters, where the algorithm needs one and there is none yet."""
        if not self.algorithm.needs_critic:
            return
        inner = require_preference_model(model, "RLHF")
        if not isinstance(getattr(inner, "critic", None), Critic):
            size = inner.config.get_text_config().hidden_size
            device = next(inner.parameters()).device
            inner.add_module("critic", Critic(size, self.num_objectives, seed=self.seed).to(device))

    def updates(self, model: nn.Module, batch: Any, preferences: Tensor) -> list[tuple[Any, Tensor]]:
        """One rollout, as the batches of ``algorithm.updates`` optimiser steps.

        Raises:
            ValueError: prompts that cannot be shared evenly among preferences and minibatches.
        """
        rollout = self._roll_out(model, batch, preferences)
        if self.algorithm.updates == 1:
            # The old policy is that of the coming step itself: its own forward gives the log-probabilities.
            return [(rollout, preferences)]
        with torch.no_grad():
            outputs = self._forward(require_preference_model(model, "RLHF"), rollout, preferences)
        experience = self._experience(rollout, preferences, *outputs)
        estimates = experience.pop("estimates")
        rows = torch.arange(len(rollout["lengths"])).view(len(preferences), -1, self.settings.samples_per_prompt)
        if rows.shape[1] % self.algorithm.minibatches:
            raise ValueError(
                f"each preference has {rows.shape[1]} prompts, which cannot be cut into {self.algorithm.minibatches} "
                "even minibatches: change batch_size or preferences_per_step, or the algorithm's minibatches."
            )
        parts = [
            {**chosen_rows(experience, part.reshape(-1)), "estimates": estimates}
            for part in rows.chunk(self.algorithm.minibatches, dim=1)
        ]
        return [(part, preferences) for _ in range(self.algorithm.epochs) for part in parts]

    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """−J_i of each group, ``(G, m)``; the gradient is the policy gradient's.

        Args:
            model: the ``PreferenceModel``, or what accelerate wraps around it.
            batch: prompts as from :meth:`collate`, which are sampled from first; or a batch of :meth:`updates`.
            preferences: ``(G, m)``.
        """
        if "sequences" not in batch:
            batch = self._roll_out(model, batch, preferences)
        log_probabilities, values = self._forward(model, batch, preferences)
        if "advantages" not in batch:
            detached = None if values is None else values.detach()
            batch = self._experience(batch, preferences, log_probabilities.detach(), detached)
        mask = batch["sequences"]["response_mask"]
        auxiliary: list[Tensor] = []
        if values is not None:
            auxiliary.append(self.algorithm.critic_loss(values, batch["values"], batch["returns"], mask))
        if self.pretraining_data is not None:
            auxiliary.append(self.pretraining_coefficient * self._pretraining_loss(model, preferences))
        self._auxiliary = torch.stack(auxiliary).sum() if auxiliary else None
        return policy_losses(
            log_probabilities,
            batch["old_log_probabilities"],
            batch["advantages"],
            mask,
            batch["estimates"],
            self.algorithm.clip_range,
        )

    def auxiliary_loss(self) -> Tensor | None:
        """The critic's loss and the pre-training term, where there are any."""
        found, self._auxiliary = self._auxiliary, None
        return found

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Tensor, batch_size: int) -> Tensor:
        """−J_i on fresh samples for all of ``data``, ``(N, m)`` to ``(N, m)``; the same at every call, no gradients.

        Raises:
            ValueError: no data.
        """
        if data is None or len(data) == 0:
            raise ValueError("RLHF has nothing to evaluate on: give data with at least one prompt.")
        inner = require_preference_model(model, "RLHF")
        with_kl = self.beta > 0
        found = evaluate_rewards(inner, self, data, preferences, batch_size, with_kl=with_kl, seed=self.seed)
        return -(found.rewards / self.reward_scales - self.beta * found.kl.unsqueeze(1))

    @property
    def history(self) -> list[dict[str, float]]:
        """One dict for each preference of each rollout; ``pandas.DataFrame(rlhf.history)`` is its table.

        ``preference/<name>``; means of ``reward/<name>`` (less the truncation penalty), ``kl``, ``response_length`` in
        tokens without the stop token; ``truncated``, the fraction of responses that were cut.
        """
        return self._history.records

    @property
    def reward_scales(self) -> Tensor:
        """What rewards are divided by now, ``(m,)``: their running deviations, or 1 with another normalisation."""
        return self._scale.deviations

    def metrics(self) -> dict[str, float]:
        """Means of the history since the last call, of this process.

        And ``response_length/<name>``, the mean length with each preference weighted by its λ_i.
        """
        return self._history.means()

    def state_dict(self) -> dict[str, Any]:
        """The history, and the rewards' running spread."""
        return {"history": self._history.state_dict(), "scale": self._scale.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._history.load_state_dict(state["history"])
        self._scale.load_state_dict(state["scale"])

    def _roll_out(self, model: nn.Module, batch: Any, preferences: Tensor) -> dict[str, Any]:
        prompts, groups = len(batch["prompt_ids"]), len(preferences)
        if prompts % groups:
            raise ValueError(
                f"a batch of {prompts} prompts cannot be shared evenly among {groups} preferences: make the batch size "
                "a multiple of the preferences per step."
            )
        inner = require_preference_model(model, "RLHF")
        each = preferences.repeat_interleave(prompts // groups, dim=0)
        rollout = roll_out(inner, batch, each, self.settings, self.frozen_layers)
        if self.frozen_layers and not self.history:
            kept = rollout["sequences"]["attention_mask"][0].bool()
            check_frozen_layers(inner, rollout["sequences"], [rollout["sequences"]["hidden_states"][0][kept]])
        if self.normalization == "running":
            self._scale.observe(rollout["rewards"])
        if self.beta > 0:
            rollout["reference"] = reference_log_probabilities(inner, rollout["sequences"], self.settings.sampling)
        return rollout

    def _forward(self, model: nn.Module, batch: dict[str, Any], preferences: Tensor) -> tuple[Tensor, Tensor | None]:
        """log π of each token ``(N, R)``, and the critic's values ``(N, R, m)`` where there is one."""
        inner, sequences = require_preference_model(model, "RLHF"), batch["sequences"]
        each = preferences.repeat_interleave(len(sequences["input_ids"]) // len(preferences), dim=0)
        needs_critic = self.algorithm.needs_critic
        if needs_critic and not hasattr(inner, "critic"):
            raise ValueError("the model has no critic yet: call prepare_model(model) first, as ParetoTrainer does.")
        with _without_dropout(inner):
            outputs = policy_outputs(model, sequences, self.settings.sampling, needs_critic, preferences=each)
        values = inner.critic(outputs.hidden_states, each) if needs_critic else None  # type: ignore[operator]
        return outputs.log_probabilities, values

    def _experience(
        self, rollout: dict[str, Any], preferences: Tensor, log_probabilities: Tensor, values: Tensor | None
    ) -> dict[str, Any]:
        """A rollout with advantages and estimates, given what the policy that sampled it says; written to history."""
        mask = rollout["sequences"]["response_mask"].cpu()
        ratios = torch.zeros(mask.shape).double()
        if self.beta > 0:
            ratios = (log_probabilities - rollout["reference"]).double().cpu()
        shape = (len(preferences), -1, self.settings.samples_per_prompt)
        rewards = rollout["rewards"] / self.reward_scales
        old_values = None if values is None else values.double().cpu()
        found = self.algorithm.advantages(
            Experience(
                rewards.view(*shape, self.num_objectives),
                ratios.view(*shape, mask.shape[1]),
                mask.view(*shape, mask.shape[1]),
                None if old_values is None else old_values.view(*shape, *old_values.shape[1:]),
            ),
            self.beta,
            self.normalization == "group",
        )
        kl = ratios.sum(dim=1)
        estimates = (rewards - self.beta * kl.unsqueeze(1)).view(len(preferences), -1, self.num_objectives).mean(dim=1)
        columns = {f"reward/{name}": rollout["rewards"][:, i] for i, name in enumerate(self.names)}
        columns |= {"kl": kl} if self.beta > 0 else {}
        columns |= {"response_length": rollout["lengths"], "truncated": rollout["truncated"]}
        self._history.add(preferences, columns)
        experience = {
            "sequences": rollout["sequences"],
            "old_log_probabilities": log_probabilities,
            "advantages": found.values.flatten(0, 2).to(log_probabilities),
            "estimates": estimates.to(log_probabilities),
        }
        if values is not None and found.returns is not None:
            experience |= {"values": values, "returns": found.returns.flatten(0, 2).to(values)}
        return experience

    def _pretraining_loss(self, model: nn.Module, preferences: Tensor) -> Tensor:
        """Mean −log π of a token, over rows drawn at random that share the preferences in turn."""
        from accelerate.utils import send_to_device

        data = self.pretraining_data
        assert data is not None
        rows = [data[index] for index in torch.randint(len(data), (self.pretraining_batch_size,)).tolist()]
        sequences = send_to_device(collate_responses(rows), preferences.device)
        each = preferences[torch.arange(len(rows)) % len(preferences)]
        with _without_dropout(require_preference_model(model, "RLHF")):
            losses = negative_log_likelihoods(model, sequences, each)
        return losses.sum() / sequences["response_mask"].sum()


def _algorithm(algorithm: str | PolicyGradient) -> PolicyGradient:
    if isinstance(algorithm, PolicyGradient):
        return algorithm
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {algorithm!r}: choose one of {', '.join(ALGORITHMS)}, or an instance.")
    return ALGORITHMS[algorithm]()


def _with_stop_tokens(sampling: Sampling | None, tokenizer: Any) -> Sampling:
    chosen = sampling or Sampling()
    if chosen.stop_token_ids is not None:
        return chosen
    if tokenizer is None:
        raise ValueError("without a tokenizer, say what ends a response: sampling=Sampling(stop_token_ids=(…)).")
    return replace(chosen, stop_token_ids=stop_tokens(tokenizer))


def _without_dropout(model: PreferenceModel) -> AbstractContextManager[None]:
    """Evaluation mode; not where activations are checkpointed, which transformers does in training mode only."""
    checkpoints = any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    return nullcontext() if checkpoints else evaluation_mode(model)
