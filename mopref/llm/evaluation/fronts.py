"""Fronts of a trained language model on held-out data: of losses on pairs and on single answers, and of rewards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from mopref._masked import labelled_sum
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.conditioned_model import check_objectives
from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front
from mopref.llm.evaluation.row_figures import Figure, front_of_figures, prompt_units
from mopref.llm.pairs import PairObjective
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient.reward_statistics import reward_statistics, reward_table
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.mixed_precision import autocast, precision_name, recorded_mixed_precision
from mopref.objective import RowObjective
from mopref.objectives.kto import KTO
from mopref.preferences import validate_preferences

__all__ = [
    "answer_accuracies",
    "answer_front",
    "loss_front",
    "preference_accuracies",
    "preference_front",
    "reward_front",
]

# Figures of every row and objective at each preference by their names, ``(N, rows, m)``; "loss" is one of them.
_RowTables: TypeAlias = dict[str, Tensor]


@checks_arguments
def preference_accuracies(margins: Tensor, labels: Tensor) -> Tensor:
    """The fraction of labelled rows on which the implicit reward prefers the labelled response; a draw counts half.

    Args:
        margins: d, the score of response 0 less that of response 1, shape ``(N, rows)``.
        labels: 0, 1 or −1 (not labelled), shape ``(rows, m)``.

    Returns:
        Accuracies in [0, 1], shape ``(N, m)``; NaN where no row is labelled.

    Raises:
        ValueError: other shapes, a label that is none, or NaN.

    Example:
        >>> preference_accuracies(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[0], [0], [1]]))
        tensor([[0.5000]])
    """
    return _accuracies(margins, labels, upper=0)


@checks_arguments
def answer_accuracies(surplus: Tensor, labels: Tensor) -> Tensor:
    """The fraction of labelled answers whose implicit reward is above the reference point where they are good, and
    below it where they are bad; a draw counts half.

    Args:
        surplus: h − z, the implicit reward of an answer less the reference point, shape ``(N, rows)``.
        labels: 1 good, 0 bad or −1 (not labelled), shape ``(rows, m)``.

    Returns:
        Accuracies in [0, 1], shape ``(N, m)``; NaN where no row is labelled.

    Raises:
        ValueError: other shapes, a label that is none, or NaN.

    Example:
        >>> answer_accuracies(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[1], [1], [0]]))
        tensor([[0.5000]])
    """
    return _accuracies(surplus, labels, upper=1)


def _accuracies(numbers: Tensor, labels: Tensor, upper: int) -> Tensor:
    """The share of labelled rows whose number is above 0 where the label is ``upper``, and below 0 elsewhere."""
    if numbers.ndim != 2 or labels.ndim != 2 or numbers.shape[1] != len(labels):
        raise ValueError(
            f"the numbers have shape {tuple(numbers.shape)} and the labels {tuple(labels.shape)}: give (N, rows) and "
            "(rows, m)."
        )
    if not bool(((labels == -1) | (labels == 0) | (labels == 1)).all()) or bool(numbers.isnan().any()):
        raise ValueError("labels are 0, 1 or −1, and none of the numbers is NaN: something else is among them.")
    labelled = labels >= 0
    return labelled_sum(_correct(_signed(numbers, labels, upper)), labelled, dim=1) / labelled.sum(dim=0)


def _signed(numbers: Tensor, labels: Tensor, upper: int) -> Tensor:
    """Numbers ``(N, rows)`` as each label would have them, above 0: ``(N, rows, m)``."""
    return torch.where(labels == upper, 1, -1) * numbers.unsqueeze(-1)


def _correct(signed: Tensor) -> Tensor:
    """1 above 0, 0 below it, ½ for a draw."""
    return 0.5 * (1 + torch.sign(signed))


@checks_arguments(but=("data",))
def preference_front(
    model: nn.Module,
    objective: PairObjective,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    mixed_precision: str | None = "auto",
    interval_level: float | None = 0.9,
    reference_point: ArrayLike | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> Front:
    """Held-out losses, preference accuracies and margins at each preference ``(N, m)``, in evaluation mode.

    Args:
        model: the ``PreferenceModel``.
        objective: says which losses.
        data: rows, as for training.
        preferences: ``(N, m)``, or by name.
        batch_size: pairs in one forward.
        mixed_precision: ``None``, "bf16" or "fp16"; "auto" for that in which the rows' references, or their
            activations where there are none, were computed.
        interval_level: of the interval of every figure, by a paired bootstrap over prompts; ``None`` for none.
        reference_point: ``(m,)``; with it the hypervolume has an interval, too.
        metadata: for the front.
        extra: more columns for the front.
        progress: show a progress bar.

    Returns:
        A front of the m losses (minimised), with extra columns for each objective: ``accuracy_<objective>``, and
        ``margin_<objective>``, the mean implicit reward of preferred responses less that of the others. The interval of
        a column is in ``<column>_low`` and ``<column>_high``. Its metadata say the precision.

    Raises:
        ValueError: a model or rows with other objectives, preferences that do not lie on the simplex, rows that are not
            tokenised or longer than the model has positions for, or references of another model or precision.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    labels = objective.labels(data)
    recorded = "reference" if objective.needs_reference else "hidden_states"

    def tables(at: Tensor) -> _RowTables:
        scores = objective.all_scores(model, data, at, batch_size, progress)
        rewards = objective.implicit_rewards(scores)
        signed = _signed(scores[..., 0] - scores[..., 1], labels, upper=0)
        margins = _signed(rewards[..., 0] - rewards[..., 1], labels, upper=0)
        return {"loss": objective.pair_losses(scores, labels), "accuracy": _correct(signed), "margin": margins}

    measured = _Measured(tables, labels >= 0, recorded, mixed_precision)
    return _front(model, objective, data, preferences, measured, interval_level, reference_point, metadata, extra)


@checks_arguments(but=("data",))
def answer_front(
    model: nn.Module,
    objective: KTO,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    mixed_precision: str | None = "auto",
    interval_level: float | None = 0.9,
    reference_point: ArrayLike | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> Front:
    """Held-out losses of good and bad answers, and accuracies, at each preference ``(N, m)``, in evaluation mode.

    The reference point z of a preference comes from all rows, as in ``KTO.mean_losses``; intervals take it as given.

    Args:
        model: the ``PreferenceModel``.
        objective: says which losses.
        data: rows, as for training, with mismatched responses of their own.
        preferences: ``(N, m)``, or by name.
        batch_size: answers in one forward.
        mixed_precision: ``None``, "bf16" or "fp16"; "auto" for that in which the rows' references were computed.
        interval_level: of the interval of every figure, by a paired bootstrap over prompts; ``None`` for none.
        reference_point: ``(m,)``; with it the hypervolume has an interval, too.
        metadata: for the front.
        extra: more columns for the front.
        progress: show a progress bar.

    Returns:
        A front of the m losses (minimised), with an extra column ``accuracy_<objective>`` for each objective, see
        :func:`answer_accuracies`. The interval of a column is in ``<column>_low`` and ``<column>_high``. Its metadata
        say the precision.

    Raises:
        ValueError: what :func:`preference_front` refuses, or fewer rows than the reference point is estimated from.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    labels = objective.labels(data)
    objective.refuse_few_rows(len(labels), "by more data")

    def tables(at: Tensor) -> _RowTables:
        ratios = objective.all_log_ratios(model, data, at, batch_size, progress)
        points = objective.reference_points(ratios)
        correct = _correct(_signed(ratios[..., 0] - points, labels, upper=1))
        losses = objective.answer_losses(ratios[..., 0], points, labels)
        return {"loss": losses, "accuracy": correct}

    measured = _Measured(tables, labels >= 0, "reference", mixed_precision)
    return _front(model, objective, data, preferences, measured, interval_level, reference_point, metadata, extra)


@checks_arguments(but=("data",))
def loss_front(
    model: nn.Module,
    objective: RowObjective,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    mixed_precision: str | None = None,
    interval_level: float | None = 0.9,
    reference_point: ArrayLike | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> Front:
    """Held-out losses of an objective on rows with ``prompt_ids``, such as ``SFT``, at each preference ``(N, m)``.

    Args and errors are those of :func:`preference_front`; ``mixed_precision`` is what the model is run in.
    """
    labelled = objective.labelled(data)
    if labelled is None:
        labelled = torch.ones(len(data), objective.num_objectives, dtype=torch.bool)

    def losses(model: nn.Module, batch: Any, at: Tensor) -> Tensor:
        return objective.row_losses(model, batch, at).values

    def tables(at: Tensor) -> _RowTables:
        count = objective.num_objectives
        return {"loss": objective.at_every_preference(losses, count, model, data, at, batch_size, progress)}

    measured = _Measured(tables, labelled, "", mixed_precision)
    return _front(model, objective, data, preferences, measured, interval_level, reference_point, metadata, extra)


class _Measured(NamedTuple):
    """How figures of rows are had.

    Attributes:
        tables: preferences ``(N, m)`` on the model's device to the figures.
        labelled: which row counts for which objective, ``(rows, m)``.
        recorded: what the rows hold of an earlier computation, whose precision is that of "auto".
        mixed_precision: as the caller gives it.
    """

    tables: Callable[[Tensor], _RowTables]
    labelled: Tensor
    recorded: str
    mixed_precision: str | None


def _front(
    model: nn.Module,
    objective: RowObjective,
    data: Sequence[Any],
    preferences: Any,
    measured: _Measured,
    interval_level: float | None,
    reference_point: ArrayLike | None,
    metadata: Mapping[str, Any] | None,
    extra: Mapping[str, Sequence[Any]] | None,
) -> Front:
    """The front of the measured figures."""
    labelled, mixed_precision = measured.labelled, measured.mixed_precision
    objective.refuse_unlabelled(labelled.sum(dim=0))
    check_objectives(model, objective.names, type(objective).__name__)
    matrix = validate_preferences(preferences, objective.names)
    if mixed_precision == "auto":
        mixed_precision = recorded_mixed_precision(data, measured.recorded)
    precision, device = precision_name(model, mixed_precision), Policy(model).device
    objective.check_data(model, data, precision)
    with evaluation_mode(model), autocast(device, mixed_precision):
        tables = measured.tables(matrix.to(device, torch.float32))
    losses = {name: Figure(tables["loss"][..., i], labelled[:, i]) for i, name in enumerate(objective.names)}
    figures = {
        f"{kind}_{name}": Figure(table[..., i], labelled[:, i])
        for kind, table in tables.items()
        if kind != "loss"
        for i, name in enumerate(objective.names)
    }
    return front_of_figures(
        losses,
        figures,
        prompt_units(data),
        matrix,
        reference_point=reference_point,
        interval_level=interval_level,
        columns=extra,
        metadata={"precision": precision, **(metadata or {})},
        convention=Policy(model).conditioned.preference_convention,
    )


@checks_arguments(but=("data",))
def reward_front(
    model: nn.Module,
    settings: RolloutSettings,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    mixed_precision: str | None = None,
    interval_level: float | None = 0.9,
    reference_point: ArrayLike | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    with_kl: bool = True,
    **evaluation: Any,
) -> Front:
    """The front of mean rewards (maximised) at each preference ``(N, m)``, on held-out prompts with fresh samples.

    Where the settings name a pull, −KL from the base model in nats is one objective more, the last.

    Args:
        model: the ``PreferenceModel``.
        settings: which rewards, and how responses are sampled; ``RLHF(…).settings``.
        data: rows, as for training.
        preferences: ``(N, m)``, or by name.
        batch_size: prompts in one forward.
        mixed_precision: ``None``, "bf16" or "fp16": what the model is run in.
        interval_level: of the interval of every figure, by a paired bootstrap over prompts; ``None`` for none.
        reference_point: ``(m,)``, in rewards, of a pull in −nats; with it the hypervolume has an interval, too.
        metadata: for the front.
        extra: more columns for the front.
        with_kl: also estimate the KL from the base model.
        **evaluation: ``samples_per_prompt``, ``seed`` and ``progress`` of ``evaluate_rewards``.

    Returns:
        A front with the extra columns ``standard_error_<name>``, ``kl``, ``mean_response_length`` and ``truncated``.
        The interval of a column is in ``<column>_low`` and ``<column>_high``. Its metadata say the precision.

    Raises:
        ValueError: a model with other objectives, preferences that do not lie on the simplex, rows that are no prompts,
            or a pull without the KL.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    matrix = validate_preferences(preferences, settings.names)
    if settings.pull is not None and not with_kl:
        raise ValueError(f"with_kl is False, but the objective {settings.pull!r} is −KL: leave with_kl out.")
    precision = precision_name(model, mixed_precision)
    with autocast(Policy(model).device, mixed_precision):
        table = reward_table(model, settings, data, matrix, batch_size, with_kl=with_kl, **evaluation)
    if settings.pull is not None:
        # −KL beside the rewards, as one of them.
        rewards, beside = table.tensor_split([len(settings.reward_functions)], dim=-1)
        table = torch.cat([rewards, -beside[..., :1], beside], dim=-1)
    m = len(settings.names)
    errors = reward_statistics(table).standard_errors
    columns = {f"standard_error_{name}": errors[:, i].tolist() for i, name in enumerate(settings.names)}
    others = {"kl": table[..., m], "mean_response_length": table[..., m + 1], "truncated": table[..., m + 2]}
    if not with_kl:
        del others["kl"]
    return front_of_figures(
        {name: Figure(table[..., i]) for i, name in enumerate(settings.names)},
        {name: Figure(values) for name, values in others.items()},
        prompt_units(data),
        matrix,
        maximize=True,
        reference_point=reference_point,
        interval_level=interval_level,
        columns={**columns, **(extra or {})},
        metadata={"precision": precision, **(metadata or {})},
        convention=Policy(model).conditioned.preference_convention,
    )
