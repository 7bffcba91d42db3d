"""DPO: direct preference optimisation on several objectives at once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, relu

from mopref.conditioning.preference_model import require_preference_model
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.lengths import batches_of_like_length
from mopref.objective import RowLosses, RowObjective

__all__ = ["DPO", "LOSSES", "hinge_loss", "ipo_loss", "preference_signs", "robust_loss", "sigmoid_loss"]


def sigmoid_loss(signed_margin: Tensor, beta: float) -> Tensor:
    """−log σ(β c d), elementwise (Rafailov et al., arXiv 2305.18290, eq. 7)."""
    return -logsigmoid(beta * signed_margin)


def ipo_loss(signed_margin: Tensor, beta: float) -> Tensor:
    """(c d − 1/(2β))², elementwise (Azar et al., arXiv 2310.12036, eq. 17)."""
    return (signed_margin - 1 / (2 * beta)) ** 2


def hinge_loss(signed_margin: Tensor, beta: float) -> Tensor:
    """max(0, 1 − β c d), elementwise (Zhao et al., SLiC-HF, arXiv 2305.10425, on DPO's margin)."""
    return relu(1 - beta * signed_margin)


def robust_loss(signed_margin: Tensor, beta: float, label_smoothing: float = 0.1) -> Tensor:
    """((1 − ε)·(−log σ(β c d)) − ε·(−log σ(−β c d))) / (1 − 2ε), elementwise.

    Unbiased where a fraction ε < ½ of the labels is flipped (Chowdhury et al., arXiv 2403.00409, eq. 12). It is not
    bounded below: with ε > 0 it tends to −∞ as the margin of a *correctly* labelled pair grows without limit.
    """
    kept, flipped = sigmoid_loss(signed_margin, beta), sigmoid_loss(-signed_margin, beta)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


# A new loss of the signed margin c·d is one function above and its line here.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "sigmoid": sigmoid_loss,
    "ipo": ipo_loss,
    "hinge": hinge_loss,
    "robust": robust_loss,
}


def preference_signs(labels: Tensor) -> Tensor:
    """c: +1 where response 0 is preferred (label 0), −1 where response 1 is (label 1), 0 where unlabelled (−1)."""
    return torch.where(labels < 0, torch.zeros_like(labels), 1 - 2 * labels)


class DPO(RowObjective):
    """DPO on m objectives: one policy forward and one reference forward give all m losses.

    With h(x, y) = log π(y|x) − log π_ref(y|x), summed over response tokens, and d = h(x, y_0) − h(x, y_1):

        DPO_i = mean over the rows labelled on i of ℓ(c_i · d),   c_i = +1 if y_0 is preferred on i, −1 if y_1 is.

    The reference π_ref is the model with its adapters disabled, in evaluation mode. Rows not labelled on i, or tied,
    do not count in i's mean.

    A data row is a dict: ``prompt_ids``, ``response_0_ids`` and ``response_1_ids`` (lists of token ids) and ``labels``
    (m integers in {0, 1, −1}). :meth:`precompute` adds what need not be computed at every step.

    Args:
        names: the names of the m objectives, in the order of the labels.
        beta: β > 0, the strength of the pull towards the reference, per nat.
        loss: ℓ: "sigmoid", "ipo", "hinge" or "robust".
        length_normalized: divide each h by its response's number of tokens (as TRL does for IPO).
        label_smoothing: ε of the robust loss, in [0, ½).

    Raises:
        ValueError: an unknown loss (the known ones are listed) or a value out of its range.

    Source: Rafailov et al., arXiv 2305.18290; on several dimensions, Panacea, arXiv 2402.02030.
    """

    def __init__(
        self,
        names: Sequence[str],
        beta: float = 0.1,
        loss: str = "sigmoid",
        length_normalized: bool = False,
        label_smoothing: float | None = None,
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"unknown DPO loss {loss!r}: choose one of {', '.join(LOSSES)}.")
        if not beta > 0:
            raise ValueError(f"beta is {beta}: it must be positive.")
        if label_smoothing is not None and loss != "robust":
            raise ValueError(f"label_smoothing belongs to the robust loss, not to {loss!r}: leave it out.")
        if label_smoothing is not None and not 0 <= label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {label_smoothing}: the fraction of flipped labels is in [0, 0.5).")
        self.names = tuple(names)
        self.beta = beta
        self.loss = loss
        self.length_normalized = length_normalized
        self._loss_options = {} if label_smoothing is None else {"label_smoothing": label_smoothing}

    def labelled(self, data: Sequence[Any]) -> Tensor:
        """Which row is labelled on which objective, ``(rows, m)`` bool.

        Raises:
            ValueError: a row with another number of labels, or a label that is none of 0, 1, −1.
        """
        return self.labels(data) >= 0

    def labels(self, data: Sequence[Any]) -> Tensor:
        """The labels, checked: 0, 1 or −1, shape ``(rows, m)``; raises as :meth:`labelled`."""
        for index, row in enumerate(data):
            labels = list(row["labels"])
            if len(labels) != len(self.names) or any(label not in (0, 1, -1) for label in labels):
                raise ValueError(
                    f"row {index} has labels {labels}: give one for each of {', '.join(self.names)}, 0 or 1 for the "
                    "preferred response and −1 where there is no label."
                )
        return torch.tensor([list(row["labels"]) for row in data])

    def collate(self, rows: list[Any]) -> dict[str, Any]:
        """Make a batch of B rows: 2B sequences, first those with response 0, then those with response 1."""
        from mopref.llm.policy.log_probabilities import collate_sequences

        prompts = [row["prompt_ids"] for row in rows] * 2
        responses = [row[f"response_{i}_ids"] for i in (0, 1) for row in rows]
        cached = "hidden_states_0" in rows[0]
        states = [row[f"hidden_states_{i}"] for i in (0, 1) for row in rows] if cached else None
        batch: dict[str, Any] = {
            "sequences": collate_sequences(prompts, responses, states),
            "labels": self.labels(rows),
        }
        if "reference_log_probabilities" in rows[0]:
            pairs = [row["reference_log_probabilities"] for row in rows]
            batch["reference_log_probabilities"] = torch.tensor(pairs).T.reshape(-1)
        return batch

    def num_rows(self, batch: Any) -> int:
        """The number of pairs."""
        return int(batch["labels"].shape[0])

    def margins(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """d = h(x, y_0) − h(x, y_1) of each pair under its own preference ``(B, m)``: shape ``(B,)``."""
        from mopref.llm.policy.log_probabilities import sequence_log_probabilities

        policy = sequence_log_probabilities(model, batch["sequences"], preferences=preferences.repeat(2, 1))
        reference = batch.get("reference_log_probabilities")
        if reference is None:
            reference = self.reference_log_probabilities(model, batch)
        h = policy - reference.to(policy)
        if self.length_normalized:
            h = h / batch["sequences"]["response_mask"].sum(dim=1)
        first, second = h.chunk(2)
        return first - second

    def row_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> RowLosses:
        """ℓ(c_i · d) of every pair and objective: ``(B, m)``."""
        labels = batch["labels"]
        return RowLosses(self._pair_losses(self.margins(model, batch, preferences), labels), labels >= 0)

    def _pair_losses(self, margins: Tensor, labels: Tensor) -> Tensor:
        """ℓ(c_i · d), from margins ``(…, rows)`` and labels ``(rows, m)``: shape ``(…, rows, m)``."""
        signed = preference_signs(labels) * margins.unsqueeze(-1)
        return LOSSES[self.loss](signed, self.beta, **self._loss_options)

    def all_margins(
        self, model: nn.Module, data: Sequence[Any], preferences: Tensor, batch_size: int, progress: bool = False
    ) -> Tensor:
        """d of every row at every preference ``(N, m)``: shape ``(N, rows)``, on the CPU, without gradients."""
        from accelerate.utils import send_to_device
        from tqdm.auto import tqdm

        device = next(model.parameters()).device
        margins = torch.zeros(len(preferences), len(data), dtype=torch.float64)
        batches = _batches(data, batch_size)
        with torch.no_grad():
            for chosen in tqdm(batches, desc="evaluation", disable=None if progress else True, leave=False):
                batch = send_to_device(self.collate([data[i] for i in chosen]), device)
                if "reference_log_probabilities" not in batch:
                    # Once a batch, not once a preference.
                    batch["reference_log_probabilities"] = self.reference_log_probabilities(model, batch)
                for index, preference in enumerate(preferences.to(device)):
                    found = self.margins(model, batch, preference.expand(len(chosen), -1))
                    margins[index, chosen] = found.double().cpu()
        return margins

    def losses_of_margins(self, margins: Tensor, labels: Tensor) -> Tensor:
        """Mean losses over labelled rows, from margins ``(N, rows)`` and labels ``(rows, m)``: shape ``(N, m)``.

        Raises:
            ValueError: no row labelled on some objective.
        """
        counts = (labels >= 0).sum(dim=0)
        if (counts == 0).any():
            raise ValueError(f"no row is labelled on {self.names[int((counts == 0).nonzero()[0])]!r}.")
        losses = self._pair_losses(margins, labels)
        return torch.where(labels >= 0, losses, torch.zeros_like(losses)).sum(dim=1) / counts

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Tensor, batch_size: int) -> Tensor:
        """Mean losses over the labelled rows of ``data`` at each preference, ``(N, m)`` to ``(N, m)``, no gradients.

        Raises:
            ValueError: no data, or no row labelled on some objective.
        """
        if data is None or len(data) == 0:
            raise ValueError("DPO has nothing to evaluate on: give data with at least one row.")
        labels = self.labels(data)
        return self.losses_of_margins(self.all_margins(model, data, preferences, batch_size), labels)

    @staticmethod
    def reference_log_probabilities(model: nn.Module, batch: Any) -> Tensor:
        """log π_ref of the 2B sequences: adapters disabled, evaluation mode, no gradients; shape ``(2B,)``."""
        from mopref.llm.policy.log_probabilities import sequence_log_probabilities

        inner = require_preference_model(model, "the reference of DPO")
        with evaluation_mode(inner), torch.no_grad(), inner.disabled():
            return sequence_log_probabilities(inner, batch["sequences"])

    def precompute(
        self, model: nn.Module, data: Sequence[Any], batch_size: int = 8, frozen_layers: bool = False
    ) -> list[dict[str, Any]]:
        """Copies of the rows with what is the same at every step: the reference's log-probabilities.

        Args:
            model: the ``PreferenceModel`` to be trained.
            data: rows.
            batch_size: rows in one forward.
            frozen_layers: also keep the activations that enter the first adapted block, so that the blocks below it
                are not run again at any step or preference. Exact; takes (tokens × hidden size) numbers a sequence.
                Blocks like Llama's only.

        Returns:
            New rows, in the order of ``data``, with ``reference_log_probabilities`` (two numbers) and, with
            ``frozen_layers``, ``hidden_states_0`` and ``hidden_states_1``.
        """
        from accelerate.utils import send_to_device
        from tqdm.auto import tqdm

        from mopref.llm.policy.frozen_layers import check_frozen_layers, lower_hidden_states

        inner = require_preference_model(model, "the reference of DPO")
        device = next(inner.parameters()).device
        done: list[dict[str, Any]] = [{} for _ in data]
        batches = _batches(data, batch_size)
        bar = tqdm(batches, desc="reference", disable=None if len(batches) > 3 else True, leave=False)
        for number, chosen in enumerate(bar):
            rows = [{k: v for k, v in data[i].items() if not k.startswith("hidden_states")} for i in chosen]
            batch = send_to_device(self.collate(rows), device)
            if frozen_layers:
                states = lower_hidden_states(inner, batch["sequences"])
                if number == 0:
                    check_frozen_layers(inner, batch["sequences"], states)
                for i, row in enumerate(rows):
                    row["hidden_states_0"], row["hidden_states_1"] = states[i].cpu(), states[i + len(rows)].cpu()
                batch = send_to_device(self.collate(rows), device)
            reference = self.reference_log_probabilities(inner, batch).tolist()
            for i, (index, row) in enumerate(zip(chosen, rows, strict=True)):
                done[index] = {**row, "reference_log_probabilities": [reference[i], reference[i + len(rows)]]}
        return done


def _batches(data: Sequence[Any], batch_size: int) -> list[list[int]]:
    lengths = [len(row["prompt_ids"]) + max(len(row["response_0_ids"]), len(row["response_1_ids"])) for row in data]
    return batches_of_like_length(lengths, batch_size)
