"""RLHF: policy gradients on a vector of rewards, one model for every balance.

``updates`` samples a rollout (``policy_gradient/rollout.py``), judges it by advantages (``experience.py``) and cuts it
into batches of a step each; ``training_losses`` runs the policy on one and makes its m losses (``surrogate.py``).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.data_rows import checked_rows
from mopref.evaluation_mode import disable_dropout
from mopref.llm.data.sequences import Sequences
from mopref.llm.engines.engine import RolloutEngine
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient import ALGORITHMS, PPO, PolicyGradient, PretrainingTerm
from mopref.llm.policy_gradient.algorithm import check_even_minibatches
from mopref.llm.policy_gradient.critic import add_critic, critic_of
from mopref.llm.policy_gradient.experience import Experience, checked_experience, judge
from mopref.llm.policy_gradient.history import RolloutHistory
from mopref.llm.policy_gradient.pull import check_scales, objective_values
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.policy_gradient.reward_warnings import RewardWarnings
from mopref.llm.policy_gradient.rollout import PromptBatch, Rewards, Rollout, RolloutSettings
from mopref.llm.policy_gradient.sampling_check import check_rollout
from mopref.llm.policy_gradient.surrogate import policy_losses
from mopref.llm.rewards.running_scale import RunningScale
from mopref.objective import Losses, Objective, Update, spread_evenly
from mopref.option_checks import checked_non_negative
from mopref.registry import OBJECTIVES
from mopref.setting_types import checked_seed, python_value

__all__ = ["RLHF"]


@OBJECTIVES.register("rlhf")
class RLHF(Objective):
    """Expected rewards minus a KL penalty, by policy gradients on sampled responses: the losses are −J_i,

        J_i(λ) = E_{x, y ~ π(·|x; λ)} r_i(x, y) − β KL(π(·|x; λ) ‖ π_ref(·|x)),   i = 1 … m.

    π is the model at the sampling temperature, π_ref the same with adapters disabled. With B prompts, G preferences and
    S samples, a rollout has B·S responses, B·S/G under each preference. A loss's value is −J_i as estimated from these,
    so a non-linear scalarizer weighs the objectives by expectations, never by single responses; its gradient is that of
    ``algorithm``: advantages are weighted by the scalarizer's derivative, by λ itself if it is linear, then clipped.

    The KL's estimate from a response is Σ_t d_t in nats, d = log π − log π_ref at each sampled token: unbiased, though
    a single one may be negative. Its gradient goes through −β d_t as a reward of the token. With a ``pull`` the losses
    are −E r_i and, one more, β KL: λ then holds a balance and a strength (``mopref.samplers.cone_preferences``).

    A data row is a dict with ``prompt_ids``, and ``prompt`` where a reward reads text: ``mopref.llm.data`` makes them
    by ``tokenize_prompts``. Samples are drawn from PyTorch's generator, which ``ParetoTrainer`` seeds and keeps. The
    model's dropout is set to 0, for good, when a trainer is made: the log π that is learned from is that of the sample.

    Args:
        rewards: by name, in a preference's order: ``(prompts, responses) -> (N,)``, the higher the better.
        tokenizer: decodes responses for rewards that read text, and names the stop tokens.
        algorithm: "rloo", "grpo", "ppo", or a ``PolicyGradient`` with settings of its own, such as ``PPO(epochs=4)``.
        beta: β ≥ 0, in units of the rewards per nat; with 0 the reference model is not run.
        samples_per_prompt: S; at least 2 without a critic.
        sampling: how responses are sampled.
        normalization: keeps a reward on a large scale from drowning the others. "running" divides each reward, in
            values and gradients, by the standard deviation of all its values so far: β is then in such units per nat.
            "group" divides the advantages by that within each group of samples (with PPO, of one preference's tokens),
            as GRPO does; not with a pull, since β means less the more alike samples become. ``None`` is the exact J.
        truncation_penalty: taken from every reward of a response that was cut before its end.
        frozen_layers: run the blocks below the first adapted one once a rollout. Exact; refused where there are none.
        pretraining: a ``PretrainingTerm`` of rows whose −log π is minimised too, whatever λ; ``None`` for none.
        engine: what samples the rollouts, such as ``VLLM(…)`` of ``mopref.llm.engines``; ``None`` for the model.
        seed: seeds the critic, and the samples of evaluations.
        pull: the name of β KL as an objective of its own, the last; ``None`` for β in every loss.

    Raises:
        ValueError, TypeError: no reward, an unknown algorithm or normalisation, or a wrong value, named.

    Source: Panacea, arXiv 2402.02030; the algorithms name theirs.
    """

    record_types = (Experience, Rollout, Sequences)
    needs_data = samples_responses = True

    @checks_arguments
    def __init__(
        self,
        rewards: Rewards,
        tokenizer: Any = None,
        algorithm: str | PolicyGradient = "rloo",
        beta: float = 0.05,
        samples_per_prompt: int = 4,
        sampling: Sampling | None = None,
        normalization: Literal["running", "group"] | None = "running",
        truncation_penalty: float = 0.0,
        frozen_layers: bool = False,
        pretraining: PretrainingTerm | None = None,
        seed: int = 0,
        engine: RolloutEngine | None = None,
        pull: str | None = None,
    ) -> None:
        sampled = (sampling or Sampling(), samples_per_prompt, tokenizer, truncation_penalty, engine, pull)
        self.settings = RolloutSettings(rewards, *sampled)
        self.names = self.settings.names
        self.algorithm, self.pretraining = ALGORITHMS.make(algorithm), PretrainingTerm.checked(pretraining)
        self.beta, self.normalization, self.seed = checked_non_negative(beta, "beta"), normalization, checked_seed(seed)
        check_scales(normalization, self.beta, pull)
        self.frozen_layers: bool = python_value(frozen_layers, bool, "frozen_layers")
        self.algorithm.check_samples(self.settings.samples_per_prompt)
        self._history, self._warnings = RolloutHistory(self.names), RewardWarnings(tuple(rewards))
        self._scale, self._rollouts_checked = RunningScale(len(rewards)), False

    @classmethod
    def paper_preset(
        cls, rewards: Rewards, tokenizer: Any, pretraining_data: Sequence[Any] | None = None, **others: Any
    ) -> "RLHF":
        """PPO as the paper trains it (arXiv 2402.02030), on one sample a prompt and without normalisation.

        The paper names PPO on linearly scalarized rewards; the numbers are customary: β = .02, clip range .2, value
        clip range 5, γ = 1, GAE's λ = .95, coefficient 16 of the pre-training term. Use it with ``Linear()``,
        ``SVDLoRAConfig.paper(…)``, ``VertexBiasedSampler`` and ``preferences_per_step=1``; ``others`` replaces these.
        """
        algorithm = PPO(epochs=1, clip_range=0.2, gae_lambda=0.95, value_clip_range=5.0)
        term = None if pretraining_data is None else PretrainingTerm(pretraining_data, coefficient=16.0)
        settings = {"algorithm": algorithm, "beta": 0.02, "samples_per_prompt": 1, "normalization": None}
        return cls(rewards, tokenizer, **{**settings, "pretraining": term, **others})

    def options(self) -> dict[str, Any]:
        """What it was made with, for its ``repr``."""
        own = ("algorithm", "beta", "normalization", "frozen_layers", "pretraining", "seed")
        return self.settings.options() | {name: getattr(self, name) for name in own}

    def collate(self, rows: list[Any]) -> PromptBatch:
        """A batch of prompts; see ``RolloutSettings.collate``."""
        return self.settings.collate(rows)

    def labelled(self, data: Sequence[Any]) -> None:
        """Check the rows, which need ``prompt`` where a reward reads text; every prompt bears on all objectives."""
        self.settings.check_rows(checked_rows(data, "data"))

    def check_data(self, model: nn.Module, data: Sequence[Any], precision: str) -> None:
        """Refuse prompts and pre-training rows of other tokens than the model's, or too long for it.

        A prompt is followed by ``max_new_tokens`` more. An engine is asked whether it samples from the model.
        """
        self.settings.check_prompts(Policy(model, self.settings.sampling), data)
        if self.pretraining is not None:
            self.pretraining.check_rows(Policy(model))

    def prepare_model(self, model: nn.Module) -> None:
        """Turn dropout off, and put a critic beside the adapters where the algorithm needs one and none is there."""
        policy = Policy(model)
        if self.frozen_layers:
            policy.require_frozen_layers()
        disable_dropout(model)
        if self.algorithm.needs_critic:
            add_critic(policy, self.num_objectives, self.seed)

    def updates(self, model: nn.Module, batch: PromptBatch, preferences: Tensor) -> list[Update]:
        """One rollout, as the batches of ``algorithm.updates`` optimiser steps.

        Raises:
            ValueError: prompts that cannot be shared evenly, or are too long; or samples of another distribution.
        """
        row_preferences = spread_evenly(preferences, len(batch.prompt_ids))
        check_even_minibatches(len(batch.prompt_ids) // len(preferences), self.algorithm.minibatches)
        rollout = self._roll_out(Policy(model, self.settings.sampling), batch, row_preferences)
        experience = judge(
            rollout,
            self.algorithm,
            groups=len(preferences),
            samples_per_prompt=self.settings.samples_per_prompt,
            reward_scales=self.reward_scales,
            beta=self.beta,
            normalize=self.normalization == "group",
            importance_limit=self.settings.importance_limit,
            pull=self.settings.pull,
        )
        metrics = self._history.add(rollout, preferences, self.settings.importance_limit)
        parts = experience.minibatches(self.algorithm.minibatches, self.settings.samples_per_prompt)
        first, *others = (Update(part, preferences) for _ in range(self.algorithm.epochs) for part in parts)
        return [first._replace(metrics=metrics), *others]

    def losses(self, model: nn.Module, batch: Experience, preferences: Tensor) -> Tensor:
        """−J_i of each group, ``(G, m)``, for the batch of one of the :meth:`updates`; the gradient is the policy's."""
        return self.training_losses(model, batch, preferences).values

    def training_losses(self, model: nn.Module, batch: Experience, preferences: Tensor) -> Losses:
        """The losses and, as the auxiliary one, the critic's loss and the pre-training term where there are any."""
        policy, rollout = Policy(model, self.settings.sampling), checked_experience(batch).rollout
        row_preferences, mask = spread_evenly(preferences, len(rollout.lengths)), rollout.sequences.response_mask
        critic = critic_of(policy) if self.algorithm.needs_critic else None
        auxiliary: list[Tensor] = []
        with policy.without_dropout():
            outputs = policy.token_outputs(rollout.sequences, row_preferences, with_head_inputs=critic is not None)
            if critic is not None:
                values = critic(outputs.head_inputs, row_preferences)
                auxiliary.append(self.algorithm.critic_loss(values, *batch.critic_targets, mask))
            if self.pretraining is not None:
                auxiliary.append(self.pretraining.loss(Policy(model), preferences))
        judged = (rollout.log_probabilities, batch.advantages, mask, batch.estimates, self.algorithm.clip_range)
        losses = policy_losses(outputs.log_probabilities, *judged)
        return Losses(losses, torch.stack(auxiliary).sum() if auxiliary else None)

    def effect_of_preferences(self, model: nn.Module, update: Update, preferences: Tensor) -> Tensor:
        """log π of the sampled tokens at each preference, ``(N, tokens)``: the losses are those of the rollout."""
        return checked_experience(update.batch).rollout.log_probabilities_at(Policy(model), preferences)

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Any, batch_size: int) -> Tensor:
        """The losses on fresh samples, always the same, for all of ``data``: ``(N, m)`` to ``(N, m)``, no gradients."""
        if data is None or len(checked_rows(data, "data")) == 0:
            raise ValueError("RLHF has nothing to evaluate on: give data with at least one prompt.")
        where = (model, self.settings, data, preferences, batch_size)
        means = evaluate_rewards(*where, with_kl=self.beta > 0, seed=self.seed)
        return -objective_values(means.rewards / self.reward_scales, means.kl, self.beta, self.settings.pull)

    @property
    def history(self) -> list[dict[str, float]]:
        """One dict for each preference of each rollout; ``pandas.DataFrame(rlhf.history)`` is its table.

        ``preference/<name>``; means of ``reward/<name>`` (less the truncation penalty), ``kl``, ``response_length`` in
        tokens without the stop token; ``truncated``, the fraction cut. Of the latest 100,000, at every call anew.
        """
        return self._history.records

    @property
    def reward_scales(self) -> Tensor:
        """What rewards are divided by now, ``(m,)``: their running deviations, or 1 with another normalisation."""
        return self._scale.deviations

    def state_dict(self) -> dict[str, Any]:
        """The history, and the rewards' running spread."""
        return {"history": self._history.state_dict(), "scale": self._scale.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._history.load_state_dict(state["history"])
        self._scale.load_state_dict(state["scale"])

    def _roll_out(self, policy: Policy, batch: PromptBatch, row_preferences: Tensor) -> Rollout:
        critic = critic_of(policy) if self.algorithm.needs_critic else None
        rollout = self.settings.roll_out_together(policy, batch, row_preferences, critic)
        if self.normalization == "running":
            self._scale.observe(rollout.rewards)
        self._warnings.see(rollout.rewards, self.reward_scales, self.normalization)
        if not self._rollouts_checked:
            check_rollout(policy, rollout, row_preferences, self.frozen_layers)
            self._rollouts_checked = True
        return rollout.completed(policy, self.frozen_layers, with_reference=self.beta > 0)
