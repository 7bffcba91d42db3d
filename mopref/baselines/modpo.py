"""MODPO: one run for each preference, with a margin from frozen adapters of the other objectives."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mopref.argument_kinds import checks_arguments
from mopref.baselines.dps import policy_of_loras
from mopref.baselines.interfaces import MethodPolicy
from mopref.baselines.plain_lora import PlainLoRA, mixed_model, trained_lora
from mopref.baselines.runs import Trainings, preference_label
from mopref.baselines.soups import corner_loras
from mopref.conditioning import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences
from mopref.llm.pairs import PairBatch
from mopref.llm.pairs.margin_losses import preference_signs
from mopref.mixed_precision import autocast
from mopref.objective import RowLosses
from mopref.objectives.dpo import DPO
from mopref.preferences import validate_preferences
from mopref.scalarizers import Linear
from mopref.setting_types import python_value

__all__ = ["MODPO", "MODPOBatch", "check_modpo", "modpo", "modpo_losses", "with_corner_margins"]

CORNER_MARGINS = "corner_margins"


@checks_arguments
def modpo_losses(
    margins: Tensor, corner_margins: Tensor, labels: Tensor, preference: Tensor, index: int, beta: float
) -> Tensor:
    """−log σ((1/λ_k)[β·c·d_θ − Σ_{j≠k} λ_j·c·β·d_j]) of every pair, 0 where it is not labelled on k.

    Args:
        margins: d_θ = h_θ(y_0) − h_θ(y_1) of the policy that is trained, h = log π/π_ref: ``(B,)``.
        corner_margins: d_j of the frozen policy for objective j, so that r_j(y_0) − r_j(y_1) = β·d_j: ``(B, m)``.
        labels: of objective k, 0, 1 or −1: ``(B,)``; c is +1, −1 and 0.
        preference: λ ``(m,)``, with λ_k > 0.
        index: k.
        beta: β, per nat.

    Raises:
        ValueError: shapes that do not match, an objective that is not there, or λ_k = 0.

    Source: Zhou et al., Beyond one-preference-fits-all alignment, arXiv 2310.03708.

    Example:
        >>> one = torch.tensor([1.0])
        >>> modpo_losses(2 * one, torch.tensor([[9.0, 1.0]]), torch.tensor([0]), torch.tensor([0.5, 0.5]), 0, beta=1.0)
        tensor([0.0486])
    """
    _check_shapes(margins, corner_margins, labels, preference, index)
    signs = preference_signs(labels)
    others = preference.to(margins).clone()
    others[index] = 0.0
    margin = beta * (margins - corner_margins.to(margins) @ others) / preference[index].to(margins)
    losses = -logsigmoid(signs * margin)
    return torch.where(labels < 0, torch.zeros_like(losses), losses)


def _check_shapes(margins: Tensor, corner_margins: Tensor, labels: Tensor, preference: Tensor, index: int) -> None:
    expected = (*margins.shape[:1], *preference.shape[:1])
    shapes = [tuple(part.shape) for part in (margins, corner_margins, labels, preference)]
    if shapes != [expected[:1], expected, expected[:1], expected[1:]] or len(expected) != 2:
        raise ValueError(f"margins, corner margins, labels and preference have shapes {shapes}: see the arguments.")
    if not 0 <= index < len(preference) or not preference[index] > 0:
        raise ValueError(f"index is {index} of {preference.tolist()}: give an objective with a weight above 0.")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels are of type {labels.dtype}: give whole numbers 0, 1 or −1.")


class MODPOBatch(NamedTuple):
    """B pairs with the margins of the frozen policies.

    Attributes:
        sequences: as of ``PairBatch``.
        labels: as of ``PairBatch``.
        reference_log_probabilities: as of ``PairBatch``.
        corner_margins: d_j of every pair, ``(B, m)``.
    """

    sequences: Sequences
    labels: Tensor
    reference_log_probabilities: Tensor | None
    corner_margins: Tensor


class MODPO(DPO):
    """MODPO's loss for one preference λ, in the place of each of the m losses.

    A data row is DPO's, with ``corner_margins``, as :func:`with_corner_margins` adds them.

    Args:
        names: the names of the m objectives, in the order of the labels.
        preference: λ, ``(m,)`` or by name.
        index: k, the objective whose labels are learned from.
        beta: β > 0, per nat.

    Raises:
        ValueError: λ_k = 0, where the loss is not defined, or an objective that is not there.
    """

    record_types: tuple[type, ...] = (MODPOBatch, Sequences)  # type: ignore[assignment]

    @checks_arguments(but=("names",))
    def __init__(self, names: Sequence[str], preference: Any, index: int = 0, beta: float = 0.1) -> None:
        super().__init__(names, beta)
        self.index: int = python_value(index, int, "index")
        rows = validate_preferences(preference, self.names)
        if len(rows) != 1 or not 0 <= self.index < len(self.names):
            raise ValueError(
                f"{len(rows)} preferences and index {index} were given for {len(self.names)} objectives: give a "
                "single preference, and the number of an objective, from 0."
            )
        self.preference = rows[0]
        if not self.preference[self.index] > 0:
            raise ValueError(
                f"the preference is {rows[0].tolist()}, with weight 0 for {self.names[self.index]!r}, by which the "
                "margin is divided: train that end point by plain DPO."
            )

    def labelled(self, data: Sequence[Any]) -> Tensor:
        """Which row is labelled on k, for each objective alike: ``(rows, m)`` bool."""
        labels = self.labels(data)
        return (labels[:, self.index : self.index + 1] >= 0).expand_as(labels)

    def collate(self, rows: list[Any]) -> Any:
        """A batch of B rows with the margins of the frozen policies."""
        batch: PairBatch = super().collate(rows)
        margins = torch.stack([torch.as_tensor(row[CORNER_MARGINS]) for row in rows])
        return MODPOBatch(*batch, corner_margins=margins)

    def scores(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """h of both responses of each pair, ``(B, 2)``."""
        return super().scores(model, PairBatch(*batch[:3]), preferences)

    def row_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> RowLosses:
        """The loss of every pair, for each objective alike: ``(B, m)``."""
        first, second = self.scores(model, batch, preferences).unbind(dim=1)
        labels = batch.labels[:, self.index]
        known = (batch.corner_margins, labels, self.preference, self.index, self.beta)
        shape = batch.labels.shape
        losses = modpo_losses(first - second, *known)
        return RowLosses(losses.unsqueeze(1).expand(shape), (labels >= 0).unsqueeze(1).expand(shape))


def with_corner_margins(
    model: PreferenceModel, objective: DPO, rows: Sequence[Any], batch_size: int, mixed_precision: str | None = None
) -> list[dict[str, Any]]:
    """The rows with ``corner_margins``, the m margins d_j of a model at its corners, in evaluation mode.

    Args:
        model: whose policy at e_j is that of objective j alone.
        objective: DPO.
        rows: its rows.
        batch_size: pairs in one forward.
        mixed_precision: ``None``, "bf16" or "fp16".
    """
    corners = torch.eye(len(objective.names))
    with evaluation_mode(model), autocast(model.device, mixed_precision):
        scores = objective.all_scores(model, rows, corners, batch_size)
    margins = (scores[..., 0] - scores[..., 1]).T.float()
    return [{**row, CORNER_MARGINS: own} for row, own in zip(rows, margins, strict=True)]


def check_modpo(objective: Any) -> DPO:
    """The objective, if MODPO's formula is of it.

    Raises:
        ValueError: another objective than DPO with its sigmoid loss.
    """
    # By its own kind: a subclass may have another margin.
    if type(objective) is not DPO or objective.loss != "sigmoid" or objective.length_normalized:
        raise ValueError(
            f"the objective is {objective!r}: MODPO's margin is defined for DPO with its sigmoid loss and without "
            "length_normalized, so leave modpo out, or train by that."
        )
    return objective


def modpo(trainings: Trainings, preferences: Tensor, index: int = 0) -> MethodPolicy:
    """MODPO at each preference: corners and where λ_k = 0 by the setup's plain DPO, the others with the margin.

    Args:
        trainings: of the comparison.
        preferences: ``(N, m)``.
        index: k, the objective whose labels are learned from.

    Raises:
        ValueError: another objective than DPO, see :func:`check_modpo`, or an index that none has.
    """
    setup, config = trainings.setup, trainings.setup.config
    objective, own_rows = check_modpo(setup.objective), setup.rows
    if own_rows is None:
        raise ValueError("rows are None: MODPO learns from pairs, so give some.")
    if not 0 <= index < len(setup.names):
        raise ValueError(f"index is {index}: there are {len(setup.names)} objectives, numbered from 0.")
    # The first objective's are named as they always were.
    prefix = "modpo" if index == 0 else f"modpo of {setup.names[index]}"
    corners = corner_loras(trainings)
    kept: list[list[dict[str, Any]]] = []

    def rows() -> list[dict[str, Any]]:
        if not kept:
            model = mixed_model(setup.make_model, setup.adapter, corners)
            kept.append(with_corner_margins(model, objective, own_rows, config.batch_size, config.mixed_precision))
        return kept[0]

    loras: list[PlainLoRA] = []
    margins = 0
    for preference in preferences.tolist():
        if max(preference) == 1.0 or preference[index] == 0.0:
            loras.append(trained_lora(trainings, preference))
            continue
        # Every row once at each corner, whoever computed that: trainings that are found had it done for them.
        margins = len(setup.names) * len(objective.evaluation_batches(own_rows, config.batch_size))
        of_own: Any = lambda own=preference: MODPO(setup.names, own, index, objective.beta)  # noqa: E731
        loras.append(trained_lora(trainings, preference, prefix, objective=of_own, scalarizer=Linear(), rows=rows))
    served = {preference_label(setup.names, row) for row in preferences.tolist()}
    names = [preference_label(setup.names, row) for row in torch.eye(len(setup.names)).tolist()]
    others = [lora for lora, name in zip(corners, names, strict=True) if name not in served]
    policy = policy_of_loras("modpo", trainings, preferences, loras, others)
    return replace(policy, budget=replace(policy.budget, forwards=policy.budget.forwards + margins))
