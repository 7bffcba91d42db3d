"""Online DPO: pairs that the model samples itself at each preference, labelled by a vector of rewards."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mopref._masked import labelled_sum
from mopref.argument_kinds import checks_arguments
from mopref.data_rows import checked_rows
from mopref.evaluation_mode import disable_dropout
from mopref.llm.data.sequences import Sequences
from mopref.llm.pairs import MarginLoss, PairBatch, log_ratios
from mopref.llm.pairs.pair_metrics import pair_metrics
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient.history import RolloutHistory
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.policy_gradient.rollout import PromptBatch, Rewards, Rollout, RolloutSettings
from mopref.llm.policy_gradient.sampling_check import check_log_probabilities
from mopref.objective import Losses, Metric, Objective, Update, spread_evenly
from mopref.registry import OBJECTIVES
from mopref.setting_types import checked_seed

__all__ = ["OnlineDPO"]

_NEUTRAL_WEIGHT = 1e-12


@OBJECTIVES.register("online-dpo")
class OnlineDPO(Objective):
    """DPO on two responses that the model samples at λ, of which each reward prefers one on its own objective.

    With y_0, y_1 ~ π(·|x; λ), h = log π − log π_ref as for :class:`DPO` and d = h(x, y_0) − h(x, y_1):

        loss_i(λ) = mean over the pairs under λ whose rewards r_i differ of ℓ(c_i · d),
        c_i = +1 if r_i(x, y_0) > r_i(x, y_1), −1 if it is smaller.

    Equal rewards, and equal responses, are no label. Where a preference has no label on an objective its loss is ℓ(0),
    and pulls nowhere. Only the order of two rewards counts, so that no reward drowns another by its scale.

    A data row is a dict with ``prompt_ids``, and ``prompt`` where a reward reads text; ``tokenize_prompts`` makes them.
    Sampling draws from PyTorch's global generator, which ``ParetoTrainer`` seeds and keeps in checkpoints. The model's
    dropout is set to 0, for good, when a trainer is made.

    An evaluation measures −E r_i, in the rewards' own units, on fresh samples.

    Args:
        rewards: name to reward, in the order of a preference. A reward is a callable ``(prompts, responses) -> (N,)``,
            higher is better; see ``mopref.llm.rewards``.
        tokenizer: decodes responses for rewards that read text, and names the stop tokens.
        beta: β > 0, the strength of the pull towards the reference, per nat.
        loss: ℓ, as :class:`DPO` has it.
        label_smoothing: ε of the robust loss, in [0, ½).
        sampling: how responses are sampled.
        truncation_penalty: taken from every reward of a response that was cut before its end.
        seed: of the samples of evaluations.

    Raises:
        ValueError, TypeError: no reward, an unknown loss, or a wrong value, named.

    Source: Guo et al., Direct Language Model Alignment from Online AI Feedback, arXiv 2402.04792, here with a vector of
    rewards in place of one judge.
    """

    record_types = (PairBatch, Sequences)
    needs_data = True
    samples_responses = True

    @checks_arguments
    def __init__(
        self,
        rewards: Rewards,
        tokenizer: Any = None,
        beta: float = 0.1,
        loss: str = "sigmoid",
        label_smoothing: float | None = None,
        sampling: Sampling | None = None,
        truncation_penalty: float = 0.0,
        seed: int = 0,
    ) -> None:
        sampling = Sampling() if sampling is None else sampling
        self.settings = RolloutSettings(rewards, sampling, 2, tokenizer, truncation_penalty)
        self.names = self.settings.names
        self._margin_loss = MarginLoss(loss, beta, label_smoothing)
        self.seed = checked_seed(seed)
        self._history, self._rollouts_checked = RolloutHistory(self.names), False

    def options(self) -> dict[str, Any]:
        """What it was made with, for its ``repr``."""
        settings = {name: value for name, value in self.settings.options().items() if name != "samples_per_prompt"}
        return settings | self._margin_loss.options() | {"seed": self.seed}

    def prepare_model(self, model: nn.Module) -> None:
        """Turn dropout off."""
        disable_dropout(model)

    # Rows.

    def labelled(self, data: Sequence[Any]) -> None:
        """Check the rows, which need ``prompt`` where a reward reads text; every prompt bears on all objectives."""
        self.settings.check_rows(checked_rows(data, "data"))

    def check_data(self, model: nn.Module, data: Sequence[Any], precision: str) -> None:
        """Refuse prompts of other tokens than the model's, or too long for it with ``max_new_tokens`` more."""
        Policy(model, self.settings.sampling).check_prompts(data)

    def collate(self, rows: list[Any]) -> PromptBatch:
        """A batch of prompts; see ``RolloutSettings.collate``."""
        return self.settings.collate(rows)

    # Pairs.

    def updates(self, model: nn.Module, batch: PromptBatch, preferences: Tensor) -> list[Update]:
        """One step, on a pair of fresh responses to each prompt under its preference.

        Raises:
            ValueError: prompts that cannot be shared evenly among preferences, or are too long; or a model whose
                ``generate`` samples from another distribution than its forward gives.
        """
        row_preferences = spread_evenly(preferences, len(batch.prompt_ids))
        policy = Policy(model, self.settings.sampling)
        rollout = self.settings.roll_out_together(policy, batch, row_preferences)
        if not self._rollouts_checked:
            check_log_probabilities(policy, rollout, row_preferences)
            self._rollouts_checked = True
        pairs = self._pairs(model, rollout)
        metrics: dict[str, Metric | float] = {**self._history.add(rollout, preferences)}
        shares = (pairs.labels >= 0).double().mean(dim=0).tolist()
        metrics |= {f"labelled/{name}": share for name, share in zip(self.names, shares, strict=True)}
        return [Update(pairs, preferences, metrics)]

    def _pairs(self, model: nn.Module, rollout: Rollout) -> PairBatch:
        """The two responses to each prompt as a pair, with labels and the reference's log-probabilities."""
        order = torch.arange(len(rollout.lengths)).view(-1, 2).T.flatten()
        sequences = rollout.sequences.rows(order)
        first, second = rollout.rewards.view(-1, 2, len(self.names)).unbind(dim=1)
        tokens = sequences.targets.masked_fill(~sequences.response_mask, -1)
        are_equal = torch.eq(*tokens.chunk(2)).all(dim=1, keepdim=True).to(first.device)
        labels = torch.where((first == second) | are_equal, -1, (second > first).long())
        reference = Policy(model).reference_log_probabilities(sequences).sum(dim=1)
        return PairBatch(sequences, labels.to(reference.device), reference)

    def losses(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """The mean losses of each group's pairs, ``(G, m)``, for the batch of one of the :meth:`updates`."""
        return self.training_losses(model, batch, preferences).values

    def training_losses(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Losses:
        """The losses, with implicit rewards, margins and accuracies.

        Raises:
            TypeError: a batch of prompts in place of pairs.
        """
        if not isinstance(batch, PairBatch):
            raise TypeError(
                f"the batch is a {type(batch).__name__}, but the losses are of sampled pairs: give the batch of one of "
                "updates(model, batch, preferences)."
            )
        row_preferences = spread_evenly(preferences, len(batch.labels))
        scores = log_ratios(model, batch, row_preferences)
        margins = scores[:, 0] - scores[:, 1]
        shape = (len(preferences), -1, len(self.names))
        losses, labelled = self._margin_loss(margins, batch.labels).view(shape), (batch.labels >= 0).view(shape)
        counts = labelled.sum(dim=1)
        neutral = self._margin_loss(torch.zeros_like(margins[:1]), torch.full_like(batch.labels[:1], -1))
        values = torch.where(counts > 0, labelled_sum(losses, labelled, dim=1) / counts.clamp(min=1), neutral)
        metrics = pair_metrics(self.names, self._margin_loss.beta * scores, batch.labels)
        # One without any label counts next to nothing where the same preference has some elsewhere in the step.
        return Losses(values, metrics=metrics, weights=counts.double().clamp(min=_NEUTRAL_WEIGHT))

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Any, batch_size: int) -> Tensor:
        """−E r_i on fresh samples for all of ``data``, ``(N, m)`` to ``(N, m)``; the same at every call."""
        if data is None or len(checked_rows(data, "data")) == 0:
            raise ValueError("OnlineDPO has nothing to evaluate on: give data with at least one prompt.")
        means = evaluate_rewards(model, self.settings, data, preferences, batch_size, with_kl=False, seed=self.seed)
        return -means.rewards

    @property
    def history(self) -> list[dict[str, float]]:
        """One dict for each preference of each step; ``pandas.DataFrame(objective.history)`` is its table.

        ``preference/<name>``; means of ``reward/<name>`` (less the truncation penalty) and ``response_length`` in
        tokens without the stop token; ``truncated``, the fraction of responses that were cut. Of the
        latest 100,000, at every call anew.
        """
        return self._history.records

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"history": self._history.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._history.load_state_dict(state["history"])
